package quorum

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// ask gets an answer of the followed node, or of another one when that fails. A round whose block was named before is waited
// for: after a change the new node may be a block behind. What does not fit is no answer.
func (q *Quorum) ask(ctx context.Context, s subject, fits func(subject, json.RawMessage) error) (json.RawMessage, int, error) {
	for until := time.Now().Add(patience); ; {
		raw, from, err := race(ctx, q, func(ctx context.Context, b local.Backend) (json.RawMessage, error) {
			raw, err := b.Query(ctx, s.name, s.arg)
			if err == nil {
				err = fits(s, raw)
			}
			return raw, err
		}, func(_ json.RawMessage, err error) bool { return err == nil || isBehind(err) })
		if !errors.Is(err, chain.ErrNotYet) || !q.promised(s) || !time.Now().Before(until) {
			return raw, from, err
		}
		if pause(ctx, again) != nil {
			return nil, from, ctx.Err()
		}
	}
}

// promised says whether a client may know already that the block or round exists.
func (q *Quorum) promised(s subject) bool {
	n, ok := s.number()
	q.mu.Lock()
	defer q.mu.Unlock()
	switch b := chain.Block(n); s.name {
	case local.QuerySnapshot:
		return ok && b <= q.last
	case local.QuerySignature:
		return ok && b < q.last
	}
	return false
}

// race asks the followed node, the best other one when that fails, and all others when nobody has answered for a while.
func race[T any](ctx context.Context, q *Quorum, call func(context.Context, local.Backend) (T, error), final func(T, error) bool) (T, int, error) {
	q.mu.Lock()
	order := q.book.order(time.Now())
	q.mu.Unlock()
	return raceOf(ctx, q, order, hedge, call, final)
}

// raceOf is race in an order, all at once after wait. The first answer that is final counts; without one the first that is an
// answer at all, then the first error.
func raceOf[T any](ctx context.Context, q *Quorum, order []int, wait time.Duration, call func(context.Context, local.Backend) (T, error), final func(T, error) bool) (T, int, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		from int
		v    T
		err  error
	}
	results := make(chan result, len(order))
	asked := map[int]time.Time{}
	next := func(most int) {
		for ; most > 0 && len(asked) < len(order); most-- {
			i := order[len(asked)]
			asked[i] = time.Now()
			go func() {
				v, err := within(inner, attempt, func(ctx context.Context) (T, error) { return call(ctx, q.ends[i].Node) })
				results <- result{i, v, err}
			}()
		}
	}
	next(1)
	slow := time.NewTimer(wait)
	defer slow.Stop()
	best := result{err: fmt.Errorf("%w: no chain node is left to ask", chain.ErrUnavailable)}
	failed := map[int]error{}
	for done := 0; done < len(asked); {
		select {
		case <-ctx.Done():
			return best.v, 0, ctx.Err()
		case <-slow.C:
			next(len(order))
		case r := <-results:
			done++
			asked[r.from] = time.Time{}
			switch {
			case ctx.Err() != nil:
				return r.v, r.from, ctx.Err()
			case final(r.v, r.err):
				q.won(r.from, asked, failed)
				return r.v, r.from, r.err
			case isFault(r.err):
				q.with(func(b *book, now time.Time) { b.faulted(r.from, now, reason(r.err)) })
			case r.err != nil:
				failed[r.from] = r.err
			}
			if done == 1 || isFault(best.err) && !isFault(r.err) {
				best = r
			}
			next(1)
		}
	}
	return best.v, best.from, best.err
}

// won notes that a node answered while others, asked long before, did not, or could not.
func (q *Quorum) won(i int, asked map[int]time.Time, failed map[int]error) {
	q.with(func(b *book, now time.Time) {
		for j, since := range asked {
			if !since.IsZero() && now.Sub(since) >= hedge {
				b.faulted(j, now, "it does not answer")
			}
		}
		for j, err := range failed {
			if !isBehind(err) && !errors.Is(err, chain.ErrPruned) {
				b.faulted(j, now, reason(err))
			}
		}
		b.answered(i, now)
	})
}

// bounded returns when call ends, whatever f does.
func bounded[T any](call context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	out := make(chan result, 1)
	go func() {
		v, err := f()
		out <- result{v, err}
	}()
	select {
	case r := <-out:
		return r.v, r.err
	case <-call.Done():
		var none T
		return none, call.Err()
	}
}

// within is a call of bounded length; one that takes longer is an unavailable node.
func within[T any](ctx context.Context, most time.Duration, f func(context.Context) (T, error)) (T, error) {
	call, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	v, err := bounded(call, func() (T, error) { return f(call) })
	if call.Err() != nil && ctx.Err() == nil && err != nil {
		err = fmt.Errorf("%w: no answer for %s", chain.ErrUnavailable, most)
	}
	return v, err
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
