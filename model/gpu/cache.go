package gpu

import (
	"sync"

	"sn3/model"
	"sn3/model/gpu/memory"
)

// Compression reads parameters chunk by chunk, from several goroutines that are each at a place of their own. So the card is asked for
// groups of chunks, and the latest stay until the parameters change.
const (
	groupChunks = 64                                                   // a MiB
	mostGroups  = memory.ReadCache / 4 / model.ChunkSize / groupChunks // 32: more than goroutines read at once
)

// cache holds groups of chunks in chunk order. Safe for concurrent use.
type cache struct {
	mu     sync.Mutex
	groups map[int][]float32
	order  []int // of coming
}

// drop forgets what is held.
func (c *cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups, c.order = nil, nil
}

// read copies chunks r of l to dst; what is not held fetch brings.
func (c *cache) read(dst []float32, l *model.Layout, r model.ChunkRange, fetch func(dst []float32, r model.ChunkRange) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r.From < r.To {
		g := r.From / groupChunks
		all := model.ChunkRange{From: g * groupChunks, To: min((g+1)*groupChunks, l.Chunks())}
		first, end := l.Span(all)
		v, held := c.groups[g]
		if !held {
			v = c.room(end - first)
			if err := fetch(v, all); err != nil {
				return err
			}
			if c.groups == nil {
				c.groups = map[int][]float32{}
			}
			c.groups[g], c.order = v, append(c.order, g)
		}
		from, to := l.Span(model.ChunkRange{From: r.From, To: min(r.To, all.To)})
		dst = dst[copy(dst, v[from-first:to-first]):]
		r.From = all.To
	}
	return nil
}

// room is memory for n values: that of the group that came first, once there are many.
func (c *cache) room(n int) []float32 {
	if len(c.order) < mostGroups {
		return make([]float32, n, groupChunks*model.ChunkSize)
	}
	v := c.groups[c.order[0]]
	delete(c.groups, c.order[0])
	c.order = c.order[1:]
	return v[:n]
}
