package replica

import (
	"context"
	"errors"
	"sort"
	"strconv"
	"strings"

	"sn3/chain"
	"sn3/storage"
)

// source is a permitted validator whose bucket is known.
type source struct {
	hotkey chain.Hotkey
	stake  chain.Amount
	bucket *storage.Bucket
}

// sources lists the permitted validators with a readable locator, and the stake of all permitted ones.
func (r *Replica) sources(ctx context.Context) ([]source, chain.Amount, error) {
	now, err := r.Metagraph(ctx)
	if err != nil {
		return nil, 0, err
	}
	var out []source
	var total chain.Amount
	for _, n := range now.Neurons {
		if !n.Permit {
			continue
		}
		total += n.Stake
		p, ok := now.Record(n.Hotkey)
		if !ok {
			continue
		}
		b, err := r.objects.bucket(p.Record.Locator)
		if err != nil {
			r.cfg.Log.Warn("cannot open a validator's bucket", "hotkey", n.Hotkey.Short(), "reason", err)
			continue
		}
		out = append(out, source{n.Hotkey, n.Stake, b})
	}
	return out, total, nil
}

// quorum groups signed files of equal content and returns the sources of the one that more than half of the stake signed.
func quorum[T any](found map[chain.Hash]*signed[T], total chain.Amount) (*signed[T], bool) {
	for _, s := range found {
		if s.stake > total/2 {
			return s, true
		}
	}
	return nil, false
}

type signed[T any] struct {
	body  T
	stake chain.Amount
	from  []source
}

func collect[T any](found map[chain.Hash]*signed[T], digest chain.Hash, body T, from source) {
	s := found[digest]
	if s == nil {
		s = &signed[T]{body: body}
		found[digest] = s
	}
	s.stake += from.stake
	s.from = append(s.from, from)
}

// gather asks every source for a signed file at once, bounded by fetchTimeout, opens what comes, and groups it by content.
// absent is the stake of those that say they do not have it.
func gather[T any](ctx context.Context, r *Replica, from []source, key string, open func(chain.Hotkey, []byte) (T, chain.Hash, error)) (groups map[chain.Hash]*signed[T], absent chain.Amount) {
	type file struct {
		body   T
		digest chain.Hash
		err    error
	}
	files := make([]file, len(from))
	r.clock.Each(len(from), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		f, b := &files[i], []byte(nil)
		if b, f.err = from[i].bucket.Get(ctx, key, maxWindowFile); f.err == nil {
			f.body, f.digest, f.err = open(from[i].hotkey, b)
		}
	})
	groups = map[chain.Hash]*signed[T]{}
	for i, f := range files {
		switch {
		case f.err == nil:
			collect(groups, f.digest, f.body, from[i])
		case errors.Is(f.err, storage.ErrNotFound):
			absent += from[i].stake
		case errors.Is(f.err, ErrForged):
			r.cfg.Log.Error("refused a file of a validator", "hotkey", from[i].hotkey.Short(), "key", key, "reason", f.err)
		}
	}
	return groups, absent
}

// offered lists the windows, newest first, of which more than half of the stake lists a checkpoint: what a smaller part
// offers cannot be signed by a larger one and is not looked at.
func (r *Replica) offered(ctx context.Context, sources []source, total chain.Amount) []chain.Window {
	lists := make([][]chain.Window, len(sources))
	r.clock.Each(len(sources), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		lists[i] = listCheckpoints(ctx, sources[i].bucket)
	})
	stake := map[chain.Window]chain.Amount{}
	for i, l := range lists {
		for _, w := range l {
			stake[w] += sources[i].stake
		}
	}
	var out []chain.Window
	for w, s := range stake {
		if s > total/2 {
			out = append(out, w)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] > out[j] })
	return out
}

// listCheckpoints finds which checkpoint folders a bucket has; a listing is a hint, never evidence.
func listCheckpoints(ctx context.Context, b *storage.Bucket) []chain.Window {
	page, err := b.List(ctx, "checkpoint/", "", 1000)
	if err != nil {
		return nil
	}
	var out []chain.Window
	for _, o := range page {
		parts := strings.Split(o.Key, "/")
		if len(parts) != 3 || parts[2] != "manifest.json" {
			continue
		}
		if w, err := strconv.ParseUint(parts[1], 10, 62); err == nil && checkpointKey(chain.Window(w), parts[2]) == o.Key {
			out = append(out, chain.Window(w))
		}
	}
	return out
}
