package quorum

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// Submit implements local.Backend: the followed node, then others until one accepts. Who submits the same bytes again got no
// block with them: then all are given them, for one that takes a transaction and keeps it to itself.
func (q *Quorum) Submit(ctx context.Context, tx []byte) (local.Code, error) {
	if err := q.Steady(ctx); err != nil {
		return 0, err
	}
	if q.repeated(tx) {
		return q.spread(ctx, tx)
	}
	code, _, err := race(ctx, q, func(ctx context.Context, b local.Backend) (local.Code, error) {
		return b.Submit(ctx, tx)
	}, func(c local.Code, err error) bool { return err == nil && c == local.CodeOK })
	return code, err
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
	call, cancel := context.WithTimeout(ctx, 2*hedge)
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
