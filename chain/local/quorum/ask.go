package quorum

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// reply is a word with the answer behind it.
type reply struct {
	word
	raw json.RawMessage
}

func words(replies []reply) []word {
	out := make([]word, len(replies))
	for i, r := range replies {
		out[i] = r.word
	}
	return out
}

// isBehind says whether an error is an answer: the node works and does not have it yet.
func isBehind(err error) bool {
	return errors.Is(err, chain.ErrNotYet) || errors.Is(err, chain.ErrNotFound)
}

// others is the panel without one node.
func (q *Quorum) others(than int) []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.DeleteFunc(q.book.panel(time.Now(), false), func(i int) bool { return i == than })
}

// gather asks nodes at once and waits for all, each for a bounded time. Who does not answer has failed.
func (q *Quorum) gather(ctx context.Context, s subject, who []int, most time.Duration) []reply {
	out := make(chan reply, len(who))
	for _, i := range who {
		go func() { out <- q.hear(ctx, s, i, most) }()
	}
	replies := make([]reply, 0, len(who)+1)
	for range who {
		replies = append(replies, <-out)
	}
	slices.SortFunc(replies, func(a, b reply) int { return a.from - b.from })
	return replies
}

// hear asks one node.
func (q *Quorum) hear(ctx context.Context, s subject, i int, most time.Duration) reply {
	call, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	r := reply{word: word{from: i}}
	raw, err := bounded(call, func() (json.RawMessage, error) { return q.ends[i].Node.Query(call, s.name, s.arg) })
	if err == nil {
		r.value, err = s.value(raw)
	}
	switch {
	case err == nil:
		r.kind, r.raw = said, raw
	case isBehind(err):
		r.kind = late
		if s.name == local.QueryHead {
			raw, serr := bounded(call, func() (json.RawMessage, error) { return q.ends[i].Node.Query(call, local.QueryStatus, "") })
			var st local.Status
			if err = serr; err == nil {
				err = json.Unmarshal(raw, &st)
			}
			r.height, r.old = st.Height, isOld(st, time.Now())
			if err != nil {
				r.kind = silent
			}
		}
	case errors.Is(err, chain.ErrPruned):
		r.kind = gone
	}
	if ctx.Err() != nil {
		return reply{word: word{from: i}} // nobody waits for it any more
	}
	q.with(func(b *book, now time.Time) {
		if r.kind != silent {
			b.answered(i, now)
		} else {
			b.faulted(i, now, reason(call, err))
		}
	})
	return r
}

// isOld says whether a node's newest block is older than a few block times.
func isOld(st local.Status, now time.Time) bool {
	return now.Sub(st.Time) > max(age, 5*time.Duration(st.BlockTimeMS)*time.Millisecond)
}

// reason is an error of a call for people.
func reason(call context.Context, err error) string {
	if call.Err() != nil || err == nil {
		return "it does not answer"
	}
	text := err.Error()
	return text[:min(len(text), 300)]
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

// race asks the followed node, and each next one when those before have failed or not answered for a while. The first answer
// that is final counts; without one the first that is an answer at all, then the first error.
func race[T any](ctx context.Context, q *Quorum, call func(context.Context, local.Backend) (T, error), final func(T, error) bool) (T, int, error) {
	q.mu.Lock()
	order := q.book.order(time.Now())
	q.mu.Unlock()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		from int
		v    T
		err  error
	}
	results := make(chan result, len(order))
	asked := map[int]time.Time{}
	next := func() {
		if len(asked) == len(order) {
			return
		}
		i := order[len(asked)]
		asked[i] = time.Now()
		go func() {
			v, err := within(inner, attempt, func(ctx context.Context) (T, error) { return call(ctx, q.ends[i].Node) })
			results <- result{i, v, err}
		}()
	}
	next()
	slow := time.NewTicker(hedge)
	defer slow.Stop()
	var best *result
	for done := 0; done < len(asked); {
		select {
		case <-ctx.Done():
			var none T
			return none, 0, ctx.Err()
		case <-slow.C:
			next()
		case r := <-results:
			done++
			asked[r.from] = time.Time{}
			if ctx.Err() != nil {
				return r.v, r.from, ctx.Err()
			}
			if final(r.v, r.err) {
				q.won(r.from, asked)
				return r.v, r.from, r.err
			}
			if errors.Is(r.err, chain.ErrUnavailable) || errors.Is(r.err, errAnswer) {
				q.with(func(b *book, now time.Time) { b.faulted(r.from, now, fmt.Sprintf("%v", r.err)) })
			}
			if best == nil || errors.Is(best.err, chain.ErrUnavailable) && !errors.Is(r.err, chain.ErrUnavailable) {
				best = &r
			}
			next()
		}
	}
	return best.v, best.from, best.err
}

// won notes that a node answered while others, asked long before, did not.
func (q *Quorum) won(i int, asked map[int]time.Time) {
	q.with(func(b *book, now time.Time) {
		for j, since := range asked {
			if !since.IsZero() && now.Sub(since) >= hedge {
				b.faulted(j, now, "it does not answer")
			}
		}
		b.answered(i, now)
	})
}

// check compares the state of the newest block that all should have, with everyone or with who has not just failed. Each
// block is judged once.
func (q *Quorum) check(ctx context.Context, newest chain.Block, everyone bool) outcome {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nothing
	}
	q.mu.Lock()
	at, who := q.book.next(newest), q.book.panel(time.Now(), everyone)
	q.mu.Unlock()
	if at == 0 {
		return nothing
	}
	verdict := q.judge(ctx, headOf(at), q.gather(ctx, headOf(at), who, limit))
	if everyone && verdict == accepted {
		q.with(func(b *book, now time.Time) { b.whole = now })
	}
	return verdict
}

// next is the block to compare when last is the newest; 0 if there is none.
func (b *book) next(last chain.Block) chain.Block {
	if last > settled && last-settled > b.checked {
		return last - settled
	}
	if last > b.checked {
		return last
	}
	return 0
}

func (q *Quorum) judge(ctx context.Context, s subject, replies []reply) (verdict outcome) {
	if ctx.Err() != nil {
		return nothing
	}
	q.with(func(b *book, now time.Time) {
		if at, head := s.head(); !head || at > b.checked {
			verdict, _ = b.weigh(s, words(replies), now)
		}
	})
	return verdict
}

// review asks again about what is disputed.
func (q *Quorum) review(ctx context.Context, disputes []subject) {
	for _, s := range disputes {
		if s.name == local.QueryHead {
			q.mu.Lock()
			last := q.last
			q.mu.Unlock()
			q.check(ctx, last, true)
			continue
		}
		replies := q.gather(ctx, s, q.others(-1), large)
		if q.judge(ctx, s, replies) == nothing && slices.ContainsFunc(replies, func(r reply) bool { return r.kind == gone }) {
			q.with(func(b *book, _ time.Time) { b.outlived(s) })
		}
	}
}

// repeated says whether these are the bytes that were submitted last.
func (q *Quorum) repeated(tx []byte) bool {
	h := chain.Hash(sha256.Sum256(tx))
	q.mu.Lock()
	defer q.mu.Unlock()
	same := q.sent == h
	q.sent = h
	return same
}

// spread gives a transaction to all nodes; one that takes it is enough, the others have a moment more.
func (q *Quorum) spread(ctx context.Context, tx []byte) (local.Code, error) {
	call, cancel := context.WithTimeout(ctx, large)
	defer cancel()
	q.mu.Lock()
	order := q.book.present(time.Now())
	q.mu.Unlock()
	type result struct {
		code local.Code
		err  error
	}
	results := make([]result, len(order))
	done := make(chan int, len(order))
	for k, i := range order {
		go func() {
			code, err := bounded(call, func() (local.Code, error) { return q.ends[i].Node.Submit(call, tx) })
			results[k] = result{code, err}
			done <- k
		}()
	}
	taken := false
	var enough <-chan time.Time
	for range order {
		select {
		case k := <-done:
			if r := results[k]; !taken && r.err == nil && r.code == local.CodeOK {
				taken, enough = true, time.After(grace)
			}
		case <-enough:
			return local.CodeOK, nil
		}
	}
	switch {
	case taken:
		return local.CodeOK, nil
	case ctx.Err() != nil:
		return 0, ctx.Err()
	}
	for _, r := range results {
		if r.err == nil {
			return r.code, nil
		}
	}
	return 0, fmt.Errorf("%w: no chain node took the transaction: %v", chain.ErrUnavailable, results[0].err)
}
