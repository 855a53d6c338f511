package quorum

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
)

// subject is a question.
type subject struct{ name, arg string }

// String is the subject for people.
func (s subject) String() string {
	switch {
	case s.name == local.QueryHead:
		return "the state hash of block " + s.arg
	case s.name == local.QueryStatus:
		return "which network they are of"
	case s.arg == "":
		return s.name
	}
	return s.name + " " + s.arg
}

func headOf(b chain.Block) subject {
	return subject{local.QueryHead, strconv.FormatUint(uint64(b), 10)}
}

// head is the block of a question for a head.
func (s subject) head() (chain.Block, bool) {
	n, ok := s.number()
	return chain.Block(n), ok && s.name == local.QueryHead
}

func (s subject) number() (uint64, bool) {
	n, err := strconv.ParseUint(s.arg, 10, 64)
	return n, err == nil
}

// errAnswer: an answer that is not what was asked for.
var errAnswer = errors.New("quorum: not an answer to the question")

// value is what of an answer must be equal between nodes: of states and selections what a client reads of them, so that a
// newer release may answer with more; of a head the hash of the state. An answer of another form or to another question is
// refused.
func (s subject) value(raw json.RawMessage) (string, error) {
	n, _ := s.number()
	switch s.name {
	case local.QueryHead:
		var h local.HeadInfo
		if err := json.Unmarshal(raw, &h); err != nil || uint64(h.Block) != n {
			return "", fmt.Errorf("%w: %s", errAnswer, s)
		}
		return h.AppHash.String(), nil
	case local.QuerySnapshot:
		var x chain.Snapshot
		err := json.Unmarshal(raw, &x)
		x.Neurons, x.Records = full(x.Neurons), full(x.Records)
		for i := range x.Records {
			r := &x.Records[i].Record
			r.Locator, r.Body = full(r.Locator), full(r.Body)
		}
		return sum(x, err == nil && uint64(x.Block) == n, s)
	case local.QuerySelection:
		var x chain.Selection
		err := json.Unmarshal(raw, &x)
		x.Winners = full(x.Winners)
		for i := range x.Winners {
			x.Winners[i].Locator = full(x.Winners[i].Locator)
		}
		return sum(x, err == nil && uint64(x.Window) == n, s)
	case local.QueryTx:
		var x local.TxInfo
		err := json.Unmarshal(raw, &x)
		return sum(x, err == nil, s)
	case local.QueryStatus:
		var x local.Status
		err := json.Unmarshal(raw, &x)
		return sum([]any{x.Network, x.RunHash, x.GenesisHash}, err == nil, s)
	case local.QueryBeacon, local.QueryRun, local.QueryKey, local.QuerySignature:
		var x []byte
		err := json.Unmarshal(raw, &x)
		return sum(x, err == nil && len(x) > 0, s)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return "", fmt.Errorf("%w: %s", errAnswer, s)
	}
	h := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(h[:]), nil
}

// full makes an absent list an empty one: a node that was restarted may write the other.
func full[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func sum(v any, ok bool, s subject) (string, error) {
	if !ok {
		return "", fmt.Errorf("%w: %s", errAnswer, s)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %v", errAnswer, s, err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// stays says whether an answer never changes once it is there. The key of a round to come may.
func (s subject) stays() bool { return s.name != local.QueryStatus && s.name != local.QueryKey }

// decides says whether an answer decides money or training and is the same at all nodes: snapshots, selections, outcomes of
// transactions, the beacon's keys, what the network was started with. Status, balances and parameters are not compared: they
// are of whatever block a node is at.
func (s subject) decides() bool {
	switch s.name {
	case local.QuerySnapshot, local.QuerySelection, local.QueryTx, local.QueryRun, local.QueryGenesis, local.QueryKey:
		return true
	}
	return false
}

// confirm compares an answer of the node from with the others'. A majority's answer replaces it; without a majority it stays.
// While most nodes are not there yet it is not believed.
func (q *Quorum) confirm(ctx context.Context, s subject, from int, raw json.RawMessage) (json.RawMessage, error) {
	own, err := s.value(raw)
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(patience); ; {
		replies := append(q.gather(ctx, s, q.others(from), large), reply{word{from: from, kind: said, value: own}, raw})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		verdict, value := nothing, ""
		q.with(func(b *book, now time.Time) {
			verdict, value = b.weigh(s, words(replies), now)
			if verdict == accepted {
				raw = answer(replies, value, raw)
				if s.stays() {
					q.cache.put(s, raw)
				}
			}
		})
		switch {
		case verdict != waiting:
			return raw, nil
		case !time.Now().Before(until) && s.name == local.QueryTx:
			return nil, fmt.Errorf("%s, of which only one chain node knows: %w", s, chain.ErrNotFound)
		case !time.Now().Before(until):
			return nil, fmt.Errorf("%w: most chain nodes do not have %s yet", chain.ErrUnavailable, s)
		}
		if err := pause(ctx, again); err != nil {
			return nil, err
		}
	}
}

// beacon is the randomness of a round. Its signature needs no second opinion: the key on which the nodes agree verifies it.
func (q *Quorum) beacon(ctx context.Context, s subject) (json.RawMessage, error) {
	raw, err := q.Query(ctx, local.QueryKey, s.arg)
	if err != nil {
		return nil, err
	}
	var key, sig []byte
	if err := json.Unmarshal(raw, &key); err != nil {
		return nil, fmt.Errorf("%w: key", errAnswer)
	}
	round, _ := s.number()
	raw, _, err = q.ask(ctx, subject{local.QuerySignature, s.arg}, func(s subject, raw json.RawMessage) error {
		var sig []byte
		if err := json.Unmarshal(raw, &sig); err != nil {
			return fmt.Errorf("%w: %s", errAnswer, s)
		}
		if err := beacon.Verify(key, chain.Round(round), sig); err != nil {
			return fmt.Errorf("%w: the beacon's signature of round %d: %v", errAnswer, round, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &sig); err != nil {
		return nil, fmt.Errorf("%w: signature", errAnswer)
	}
	out, err := json.Marshal(beacon.Randomness(sig))
	if err == nil {
		q.mu.Lock()
		q.cache.put(s, out)
		q.mu.Unlock()
	}
	return out, err
}

// answer is the reply with a value.
func answer(replies []reply, value string, own json.RawMessage) json.RawMessage {
	for _, r := range replies {
		if r.kind == said && r.value == value {
			return r.raw
		}
	}
	return own
}

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
