package quorum

import "encoding/json"

// cache holds the newest compared answers: a node asks for the same snapshots several times in a window.
type cache struct {
	keys []subject
	raws map[subject]json.RawMessage
}

// Bounds of the cache.
const (
	cacheEntries = 16
	cacheEntry   = 4 << 20
)

func (c *cache) get(s subject) (json.RawMessage, bool) {
	raw, ok := c.raws[s]
	return raw, ok
}

func (c *cache) put(s subject, raw json.RawMessage) {
	if _, ok := c.raws[s]; ok || len(raw) > cacheEntry {
		return
	}
	if c.raws == nil {
		c.raws = map[subject]json.RawMessage{}
	}
	if len(c.keys) == cacheEntries {
		delete(c.raws, c.keys[0])
		c.keys = c.keys[1:]
	}
	c.keys, c.raws[s] = append(c.keys, s), raw
}
