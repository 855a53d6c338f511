package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"sn3/chain"
)

// Verified counts what Verify read.
type Verified struct {
	Objects int
	Tokens  uint64
	Bad     int // objects with a problem
}

// ErrUnsound: a dataset that Verify found problems in.
var ErrUnsound = errors.New("data: the dataset is not sound")

// Verify reads every object of a dataset and checks its hash, that every page and proof is as written by Builder, and that
// every id is below the vocabulary. Each problem is told with the object's key; afterwards there is one error for all
// (ErrUnsound). workers objects are checked at once, in 50 MiB each.
func Verify(ctx context.Context, g Getter, m *Manifest, workers int, tell func(key string, err error)) (v Verified, err error) {
	var mu sync.Mutex
	done := func(key string, tokens uint32, err error) {
		mu.Lock()
		defer mu.Unlock()
		v.Objects++
		v.Tokens += uint64(tokens)
		if err != nil {
			v.Bad++
			tell(key, err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, workers))
	geo := geometryOf(m.Width())
	for s := range splits {
		for i, x := range m.Shards[s] {
			group.Go(func() error {
				err := geo.verify(ctx, g, x, m.Vocab)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					err = fmt.Errorf("%v shard %d: %w", s, i, err)
				}
				done(Key(x.Sum), x.Tokens, err)
				return nil
			})
		}
	}
	if sum, ok := m.Provenance.TokenizerSum(); ok {
		group.Go(func() error {
			b, err := g.Get(ctx, Key(sum), MaxTokenizer)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil && chain.Hash(sha256.Sum256(b)) != sum {
				err = ErrCorrupt
			}
			if err != nil {
				err = fmt.Errorf("tokenizer.json: %w", err)
			}
			done(Key(sum), 0, err)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return v, err
	}
	if v.Bad > 0 {
		return v, fmt.Errorf("%w: %d of %d objects", ErrUnsound, v.Bad, v.Objects)
	}
	return v, nil
}

// verify reads a shard and says what is wrong with it, by page.
func (g geometry) verify(ctx context.Context, from Getter, x Shard, vocab int) error {
	b, err := from.Get(ctx, Key(x.Sum), g.length(x.Tokens))
	if err != nil {
		return err
	}
	if int64(len(b)) != g.length(x.Tokens) {
		return fmt.Errorf("%d bytes long, want %d: %w", len(b), g.length(x.Tokens), ErrCorrupt)
	}
	tokens := make([]byte, 0, int(x.Tokens)*g.width)
	var wrong []int
	for i := range g.pages(x.Tokens) {
		off, n := g.record(i, x.Tokens)
		record := b[off : off+n]
		if !g.right(record, i, x.Root) {
			wrong = append(wrong, i)
			continue
		}
		page := record[:len(record)-g.proof()]
		if err := decode(make([]int32, len(page)/g.width), page, g.width, vocab); err != nil {
			return fmt.Errorf("page %d: %w", i, err)
		}
		tokens = append(tokens, page...)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d of %d pages, the first is page %d: %w", len(wrong), g.pages(x.Tokens), wrong[0], ErrCorrupt)
	}
	again, object := g.build(tokens)
	if again != x || !bytes.Equal(object, b) {
		return fmt.Errorf("its pages make the object %s: %w", again.Sum, ErrCorrupt)
	}
	return nil
}
