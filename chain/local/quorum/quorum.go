package quorum

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// MaxEndpoints bounds the nodes of one client: each more is asked for everything that is compared.
const MaxEndpoints = 9

// Endpoint is one node and what to call it.
type Endpoint struct {
	Name string
	Node local.Backend
}

// Quorum implements local.Backend and local.Steady. Safe for concurrent use. It runs nothing by itself: all is done within
// the calls, and what they started ends with them.
type Quorum struct {
	ends []Endpoint
	tell func(Notice)
	turn chan struct{} // one comparison of heads at a time

	telling  sync.Mutex // notices in the order in which they came; taken under mu
	mu       sync.Mutex
	book     book
	moved    chan struct{}             // closed when another node is followed
	last     chain.Block               // newest block that was handed out
	identity string                    // value of a status of this network, once it is known
	cache    cache                     // of compared answers
	asking   map[subject]chan struct{} // closed when the question is answered
	sent     chain.Hash                // last transaction that was submitted
	tried    time.Time                 // last look at what is disputed, for a signature
	looked   time.Time                 // and for heads
}

var _ interface {
	local.Backend
	local.Steady
} = (*Quorum)(nil)

// Split reads a list of node addresses, each HOST:PORT or https://HOST, separated by commas.
func Split(list string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, a := range strings.Split(list, ",") {
		a = strings.TrimSpace(a)
		key := strings.TrimRight(strings.ToLower(a), "/")
		if !strings.HasPrefix(a, "https://") {
			host, port, err := net.SplitHostPort(a)
			if err != nil || host == "" {
				return nil, fmt.Errorf("chain address %q: want HOST:PORT or https://HOST, or several of them separated by commas", a)
			}
			key = net.JoinHostPort(strings.ToLower(host), strings.TrimLeft(port, "0"))
		}
		if seen[key] {
			return nil, fmt.Errorf("chain address %s is given twice: one node cannot confirm itself", a)
		}
		seen[key] = true
		out = append(out, a)
	}
	if len(out) > MaxEndpoints {
		return nil, fmt.Errorf("%d chain addresses, at most %d", len(out), MaxEndpoints)
	}
	return out, nil
}

// Dial makes a Backend of a list of addresses; of one address it is local.Dial. It does not connect yet. tell, if not nil,
// learns what an operator should know; it must neither block nor ask.
func Dial(list string, tell func(Notice)) (local.Backend, error) {
	addrs, err := Split(list)
	if err != nil {
		return nil, err
	}
	var ends []Endpoint
	for _, a := range addrs {
		b, err := local.Dial(a)
		if err != nil {
			return nil, err
		}
		ends = append(ends, Endpoint{a, b})
	}
	if len(ends) == 1 {
		return ends[0].Node, nil
	}
	return New(ends, tell), nil
}

// New makes a Quorum of at least one endpoint; the first is followed.
func New(ends []Endpoint, tell func(Notice)) *Quorum {
	if tell == nil {
		tell = func(Notice) {}
	}
	q := &Quorum{ends: ends, tell: tell, turn: make(chan struct{}, 1), moved: make(chan struct{}), asking: map[subject]chan struct{}{}}
	for _, e := range ends {
		q.book.peers = append(q.book.peers, peer{name: e.Name})
	}
	return q
}

// with changes the book; what it notes is told afterwards, and who waits at the followed node learns of another one.
func (q *Quorum) with(f func(b *book, now time.Time)) {
	q.mu.Lock()
	before := q.book.followed
	f(&q.book, time.Now())
	notes := q.book.notes
	q.book.notes = nil
	if q.book.followed != before {
		close(q.moved)
		q.moved = make(chan struct{})
	}
	if len(notes) > 0 {
		q.telling.Lock()
		defer q.telling.Unlock()
	}
	q.mu.Unlock()
	for _, n := range notes {
		q.tell(n)
	}
}

// Query implements local.Backend.
func (q *Quorum) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	s := subject{name, arg}
	switch several := len(q.ends) > 1; {
	case several && name == local.QueryStatus:
		return q.status(ctx, s)
	case several && name == local.QueryBeacon:
		return q.beacon(ctx, s)
	case several && (name == local.QuerySignature || s.decides()):
		return q.once(ctx, s)
	case several && s.moves():
		return q.compare(ctx, s)
	}
	raw, _, err := q.ask(ctx, s, q.fits)
	return raw, err
}

// once answers a question that is compared: from memory, or together with others who ask the same now.
func (q *Quorum) once(ctx context.Context, s subject) (json.RawMessage, error) {
	q.mu.Lock()
	raw, known := q.cache.get(s)
	before, busy := q.asking[s]
	if !known && !busy {
		q.asking[s] = make(chan struct{})
	}
	q.mu.Unlock()
	switch {
	case known:
		return raw, nil
	case busy:
		select {
		case <-before:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		q.mu.Lock()
		raw, known = q.cache.get(s)
		q.mu.Unlock()
		if known {
			return raw, nil
		}
	default:
		defer q.asked(s)
	}
	if s.name == local.QuerySignature {
		return q.signature(ctx, s)
	}
	return q.compare(ctx, s)
}

// asked releases who waits for the answer to a question.
func (q *Quorum) asked(s subject) {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.asking[s])
	delete(q.asking, s)
}

// errAhead: the followed node claims what most others have not reached; it shows soon which of them is right.
var errAhead = fmt.Errorf("%w: most chain nodes are behind the followed one", chain.ErrUnavailable)

// status is the followed node's own view. It must name the run that the nodes agree on, and a height that most have reached:
// clients set their clock by it.
func (q *Quorum) status(ctx context.Context, s subject) (json.RawMessage, error) {
	if err := q.learn(ctx); err != nil {
		return nil, err
	}
	for range q.ends {
		raw, from, err := q.ask(ctx, s, q.fits)
		if err != nil {
			return nil, err
		}
		var st local.Status
		if err := json.Unmarshal(raw, &st); err != nil {
			return nil, fmt.Errorf("%w: %s", errAnswer, s)
		}
		q.mu.Lock()
		far := st.Height > q.book.checked+reach
		q.mu.Unlock()
		verdict := nothing
		if far {
			verdict = q.vouch(ctx, from, st.Height, far)
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case verdict == waiting:
			return nil, errAhead
		case far && verdict == nothing:
			continue // another one is followed now
		}
		q.mu.Lock()
		q.last = max(q.last, st.Height)
		q.mu.Unlock()
		return raw, nil
	}
	return nil, errAhead
}

// learn gets once what the network is, as the nodes agree on it.
func (q *Quorum) learn(ctx context.Context) error {
	q.mu.Lock()
	known := q.identity != ""
	q.mu.Unlock()
	if known {
		return nil
	}
	status := subject{name: local.QueryStatus}
	raw, err := q.compare(ctx, status)
	if err != nil {
		return err
	}
	identity, err := status.value(raw)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.identity = identity
	return nil
}

// fits says whether an answer is one, and a status of this network.
func (q *Quorum) fits(s subject, raw json.RawMessage) error {
	v, err := s.value(raw)
	if err != nil || s.name != local.QueryStatus {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.identity != "" && q.identity != v {
		return fmt.Errorf("%w: it is of another network or run", errAnswer)
	}
	return nil
}

// Steady implements local.Steady: nil while no two nodes contradict each other. The comparison is at most fresh old, and was
// made with everyone who answers.
func (q *Quorum) Steady(ctx context.Context) error {
	if len(q.ends) == 1 {
		return nil
	}
	q.mu.Lock()
	disputes, due := q.book.open(), time.Since(q.tried) >= retry
	if due {
		q.tried = time.Now()
	}
	q.mu.Unlock()
	if due {
		q.review(ctx, disputes)
	}
	q.mu.Lock()
	open, last := q.book.err(), q.last
	old := time.Since(q.book.whole) >= fresh
	q.mu.Unlock()
	if open != nil || !old {
		return errors.Join(ctx.Err(), open)
	}
	verdict := q.check(ctx, last, true)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch open = q.book.err(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case open == nil && verdict == waiting:
		return errAhead
	case open == nil && verdict == nothing && q.book.next(last) > 0:
		return fmt.Errorf("%w: no chain node says what the state of block %d is", chain.ErrUnavailable, q.book.next(last))
	}
	return open
}
