package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// Heads implements local.Backend. They come from the followed node; those that most nodes have not reached wait.
func (q *Quorum) Heads(ctx context.Context, after chain.Block) ([]chain.Head, error) {
	for {
		heads, from, err := q.hold(ctx, after)
		if err != nil || len(heads) == 0 {
			return nil, err
		}
		if len(q.ends) > 1 {
			heads = q.allow(ctx, from, heads)
		}
		if len(heads) > 0 {
			return heads, nil
		}
		if err := pause(ctx, again); err != nil {
			return nil, err
		}
	}
}

// held is the end of one request for heads.
type held struct {
	heads []chain.Head
	err   error
}

// hold waits for heads at the followed node. It leaves it for another one when it fails or when another one becomes followed;
// when others have a block that it does not show, they are asked for it at once.
func (q *Quorum) hold(ctx context.Context, after chain.Block) ([]chain.Head, int, error) {
	var first error
	tried := map[int]bool{}
	for {
		q.mu.Lock()
		order, moved := q.book.order(time.Now()), q.moved
		q.mu.Unlock()
		order = slices.DeleteFunc(order, func(i int) bool { return tried[i] })
		if len(order) == 0 {
			return nil, 0, first
		}
		i := order[0]
		heads, err := q.holdAt(ctx, i, after, moved)
		switch {
		case ctx.Err() != nil:
			return nil, i, ctx.Err()
		case errors.Is(err, errMoved):
			continue
		case errors.Is(err, errOvertaken):
			if heads, from := q.fetch(ctx, order[1:], after); len(heads) > 0 {
				q.with(func(b *book, now time.Time) {
					b.leave(i, from, now, fmt.Sprintf("it does not show block %d, which others have", after+1))
				})
				return ascending(heads, after), from, nil
			}
			q.with(func(b *book, now time.Time) { b.faulted(i, now, err.Error()) })
		case err == nil:
			q.with(func(b *book, now time.Time) { b.answered(i, now) })
			return ascending(heads, after), i, nil
		default:
			q.with(func(b *book, now time.Time) { b.faulted(i, now, err.Error()) })
		}
		tried[i] = true
		if first == nil || errors.Is(err, chain.ErrUnavailable) {
			first = err
		}
	}
}

var (
	errMoved     = errors.New("quorum: another node is followed")
	errOvertaken = fmt.Errorf("%w: it does not show a block that others have", chain.ErrUnavailable)
)

// fetch asks others at once for heads that are there.
func (q *Quorum) fetch(ctx context.Context, others []int, after chain.Block) ([]chain.Head, int) {
	call, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	heads, from, _ := raceOf(call, q, others, 0, func(ctx context.Context, b local.Backend) ([]chain.Head, error) { return b.Heads(ctx, after) },
		func(h []chain.Head, err error) bool { return err == nil && len(ascending(h, after)) > 0 })
	return heads, from
}

// holdAt is one request: errMoved or errOvertaken says that another node should be asked instead.
func (q *Quorum) holdAt(ctx context.Context, i int, after chain.Block, moved <-chan struct{}) ([]chain.Head, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan held, 1)
	go func() {
		h, err := within(call, local.HeadsWait+attempt, func(ctx context.Context) ([]chain.Head, error) {
			return q.ends[i].Node.Heads(ctx, after)
		})
		out <- held{h, err}
	}()
	look := time.NewTimer(quiet)
	defer look.Stop()
	overtaken := false
	for {
		select {
		case r := <-out:
			return r.heads, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-moved:
			return nil, errMoved
		case <-look.C:
			if overtaken {
				return nil, errOvertaken
			}
			begin := time.Now()
			if overtaken = q.overtaken(ctx, i, after+1); overtaken {
				look.Reset(grace)
			} else {
				look.Reset(quiet - time.Since(begin)) // a look may take as long as the time between two
			}
		}
	}
}

// overtaken says whether more nodes have a block than say that they do not.
func (q *Quorum) overtaken(ctx context.Context, by int, block chain.Block) bool {
	who := q.others(by)
	if len(who) == 0 {
		return false
	}
	replies := q.gather(ctx, headOf(block), who)
	q.judge(ctx, headOf(block), replies)
	q.mu.Lock()
	defer q.mu.Unlock()
	votes, behind := q.book.count(words(replies))
	for _, n := range votes {
		behind -= n
	}
	return behind < 0
}

// ascending drops what is not above after and in order; a node that invents heads is no reason to go back.
func ascending(heads []chain.Head, after chain.Block) []chain.Head {
	var out []chain.Head
	for _, h := range heads {
		if h.Block > after {
			out, after = append(out, h), h.Block
		}
	}
	return out
}

// allow compares nodes when it is time, and keeps back heads far above the last comparison until most nodes have them.
func (q *Quorum) allow(ctx context.Context, from int, heads []chain.Head) []chain.Head {
	newest := heads[len(heads)-1].Block
	q.mu.Lock()
	open, far := q.book.err() != nil, newest > q.book.checked+reach
	due := !open && (far || time.Since(q.book.compared) >= every) || open && time.Since(q.looked) >= retry
	if due {
		q.looked = time.Now()
	}
	q.mu.Unlock()
	verdict := nothing
	if due {
		verdict = q.vouch(ctx, from, newest, far)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.book.err() == nil && (verdict == waiting || far && verdict == nothing) && len(heads) > 0 && heads[len(heads)-1].Block > q.book.checked+reach {
		heads = heads[:len(heads)-1]
	}
	if n := len(heads); n > 0 {
		q.last = max(q.last, heads[n-1].Block)
	}
	return heads
}

// vouch is check for a block that one node names. When it is far above what was compared before, somebody must have it: a
// node that names a block and has it no more than the others do is left.
func (q *Quorum) vouch(ctx context.Context, from int, newest chain.Block, far bool) outcome {
	verdict := q.check(ctx, newest, false)
	if !far || verdict != nothing || ctx.Err() != nil {
		return verdict
	}
	q.with(func(b *book, now time.Time) {
		b.faulted(from, now, fmt.Sprintf("it names block %d, of which nobody has the state", newest))
	})
	return nothing
}
