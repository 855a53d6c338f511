package quorum

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// reply is a word with the answer behind it, or why there is none.
type reply struct {
	word
	raw json.RawMessage
	err error
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

// isFault says whether an error is a node's own, whatever others say.
func isFault(err error) bool {
	return errors.Is(err, chain.ErrUnavailable) || errors.Is(err, errAnswer)
}

// others is the panel without one node.
func (q *Quorum) others(than int) []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.DeleteFunc(q.book.panel(time.Now(), false), func(i int) bool { return i == than })
}

// compare asks everyone at once and returns what they agree on. In a dispute it is the followed node's answer. What most do not
// have yet is waited for, for a moment.
func (q *Quorum) compare(ctx context.Context, s subject) (json.RawMessage, error) {
	var until time.Time
	for {
		q.mu.Lock()
		who := q.book.panel(time.Now(), s.signs())
		q.mu.Unlock()
		replies := q.gather(ctx, s, who)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		raw, verdict := q.decide(s, replies)
		if until.IsZero() {
			until = time.Now().Add(patience)
		}
		over := !time.Now().Before(until)
		switch {
		case verdict == accepted, verdict == disputed && !s.moves():
			return raw, nil
		case verdict == nothing && (over || !q.promised(s)):
			return nil, q.failure(s, replies)
		case over && verdict == disputed:
			return nil, q.differ(s, replies)
		case over && verdict == ahead && s.name != local.QueryTx:
			return raw, nil
		case over && verdict == ahead && s.signs():
			return nil, fmt.Errorf("%w: as many chain nodes have %s as do not", chain.ErrUnavailable, s)
		case over && s.name == local.QueryTx:
			return nil, fmt.Errorf("%s, of which most chain nodes do not know: %w", s, chain.ErrNotFound)
		case over:
			return nil, fmt.Errorf("%w: most chain nodes do not have %s yet", chain.ErrUnavailable, s)
		}
		if err := pause(ctx, again); err != nil {
			return nil, err
		}
	}
}

// decide is the verdict on what nodes said, and the answer that goes with it.
func (q *Quorum) decide(s subject, replies []reply) (raw json.RawMessage, verdict outcome) {
	value, most := "", false
	q.with(func(b *book, now time.Time) {
		if s.moves() {
			verdict, value = b.common(words(replies))
		} else {
			verdict, value = b.weigh(s, words(replies), now)
		}
		most = b.decided(words(replies))
		for _, i := range b.order(now) { // the followed node's answer, if it may be that
			for _, r := range replies {
				if r.from == i && r.kind == said && raw == nil && (verdict != accepted || r.value == value) {
					raw = r.raw
				}
			}
		}
		if verdict == accepted && most && s.stays() {
			q.cache.put(s, raw)
		}
	})
	return raw, verdict
}

// failure is why nobody answered, in the words of the followed node if it said any. That a transaction is in no block takes a
// majority, or all who answer.
func (q *Quorum) failure(s subject, replies []reply) error {
	var why error
	without := 0
	for _, r := range replies {
		without += bit(r.kind == late)
	}
	for _, r := range replies {
		if s.name == local.QueryTx && r.kind == gone {
			if 2*without > len(q.ends) {
				continue
			}
			return r.err
		}
		if r.err != nil && (why == nil || isFault(why) || q.follows(r.from) && !isFault(r.err)) {
			why = r.err
		}
	}
	switch {
	case why == nil:
		return fmt.Errorf("%w: no chain node answers", chain.ErrUnavailable)
	case errors.Is(why, errAnswer):
		return fmt.Errorf("%w: %w", chain.ErrUnavailable, why)
	}
	return why
}

// differ says who answers what, of a subject that is not compared by block.
func (q *Quorum) differ(s subject, replies []reply) error {
	said := map[int]string{}
	for _, r := range replies {
		if r.kind != silent {
			said[r.from] = r.value
		}
	}
	e := DisputedError{s.String(), sides(func(i int) string { return q.ends[i].Name }, said)}
	return fmt.Errorf("%w: %s", chain.ErrUnavailable, e.Error())
}

func (q *Quorum) follows(i int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.book.followed == i
}

// gather asks nodes at once, and judges who does not answer. When a majority says the same, the others have a moment more, and
// the followed node as long as it has for any answer; else a state hash has a fixed time, and of other answers, which may be
// large, the first one has long, and the rest as long as anybody after it. Who failed a moment ago is asked if nobody answers.
func (q *Quorum) gather(ctx context.Context, s subject, who []int) []reply {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan reply, len(q.ends))
	g := gathering{began: time.Now(), quick: s.name == local.QueryHead}
	ask := func(who []int) {
		g.waiting = append(g.waiting, who...)
		for _, i := range who {
			go func() { out <- q.hear(call, s, i) }()
		}
	}
	ask(who)
	if !g.quick {
		g.spare = q.away(who)
	}
	end := time.NewTimer(0)
	defer end.Stop()
	for {
		if g.silent() && len(g.spare) > 0 && (len(g.waiting) == 0 || time.Since(g.began) >= hedge) {
			ask(g.spare)
			g.spare = nil
		}
		left := q.left(&g, time.Now())
		if left <= 0 {
			break
		}
		end.Reset(left)
		select {
		case <-ctx.Done():
			return nil
		case r := <-out:
			g.replies = append(g.replies, r)
			g.waiting = slices.DeleteFunc(g.waiting, func(i int) bool { return i == r.from })
		case <-end.C:
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	q.blame(&g)
	slices.SortFunc(g.replies, func(a, b reply) int { return a.from - b.from })
	return g.replies
}

// gathering is a question on its way.
type gathering struct {
	quick   bool // the answers are small
	began   time.Time
	first   time.Time // when somebody answered
	clear   time.Time // when a majority had said the same
	replies []reply
	waiting []int
	spare   []int // who failed a moment ago, and is asked if nobody else answers
}

// silent says whether nobody has answered.
func (g *gathering) silent() bool {
	return !slices.ContainsFunc(g.replies, func(r reply) bool { return r.kind != silent })
}

// away are the nodes with a voice that are not in who.
func (q *Quorum) away(who []int) []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.DeleteFunc(q.book.order(time.Now()), func(i int) bool { return slices.Contains(who, i) })
}

// left is how long who has not answered is still waited for.
func (q *Quorum) left(g *gathering, now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if g.first.IsZero() && !g.silent() {
		g.first = now
	}
	if g.clear.IsZero() && q.book.decided(words(g.replies)) {
		g.clear = now
	}
	until := g.first.Add(hedge)
	switch {
	case len(g.waiting) == 0:
		return 0
	case !g.clear.IsZero():
		until = g.clear.Add(moment)
		if followed := g.began.Add(hedge); slices.Contains(g.waiting, q.book.followed) && followed.After(until) {
			until = followed
		}
	case g.quick:
		until = g.began.Add(limit)
	case g.silent() && len(g.spare) > 0:
		until = g.began.Add(hedge)
	case g.silent():
		until = g.began.Add(attempt)
	}
	return until.Sub(now)
}

// blame notes who answered and who failed: not who was only slower than a majority, unless it is the followed node.
func (q *Quorum) blame(g *gathering) {
	some := slices.ContainsFunc(g.replies, func(r reply) bool { return r.kind == said })
	q.with(func(b *book, now time.Time) {
		for _, i := range g.waiting {
			if g.clear.IsZero() || i == b.followed {
				b.faulted(i, now, "it does not answer")
			}
		}
		for _, r := range g.replies {
			if r.kind == silent && (some || isFault(r.err)) {
				b.faulted(r.from, now, reason(r.err))
			}
		}
		for _, r := range g.replies {
			if r.kind != silent {
				b.answered(r.from, now)
			}
		}
	})
}

// hear asks one node.
func (q *Quorum) hear(call context.Context, s subject, i int) reply {
	r := reply{word: word{from: i}}
	r.raw, r.err = bounded(call, func() (json.RawMessage, error) { return q.ends[i].Node.Query(call, s.name, s.arg) })
	if r.err == nil {
		r.value, r.err = s.value(r.raw)
	}
	switch {
	case r.err == nil:
		r.kind = said
	case errors.Is(r.err, chain.ErrPruned):
		r.kind = gone
	case isBehind(r.err) && s.name != local.QueryHead:
		r.kind = late
	case isBehind(r.err): // and where is it?
		raw, err := bounded(call, func() (json.RawMessage, error) { return q.ends[i].Node.Query(call, local.QueryStatus, "") })
		var st local.Status
		if err == nil {
			err = json.Unmarshal(raw, &st)
		}
		if err != nil {
			r.err = err
			break
		}
		r.kind, r.height, r.old = late, st.Height, isOld(st, time.Now())
	}
	return r
}

// isOld says whether a node's newest block is older than a few block times.
func isOld(st local.Status, now time.Time) bool {
	return now.Sub(st.Time) > max(age, 5*time.Duration(st.BlockTimeMS)*time.Millisecond)
}

// reason is an error of a node for people.
func reason(err error) string {
	text := err.Error()
	return text[:min(len(text), 300)]
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
	verdict := q.judge(ctx, headOf(at), q.gather(ctx, headOf(at), who))
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
		replies := q.gather(ctx, s, q.others(-1))
		if q.judge(ctx, s, replies) == nothing && slices.ContainsFunc(replies, func(r reply) bool { return r.kind == gone }) {
			q.with(func(b *book, _ time.Time) { b.outlived(s) })
		}
	}
}
