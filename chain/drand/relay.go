package drand

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"sn3/chain"
	"sn3/chain/bls"
)

const (
	hedgeAfter = 300 * time.Millisecond // with no answer by then, the next relay is asked too
	answerWait = 2 * time.Second        // for one relay, from dialling to the last byte
	maxAnswer  = 4 << 10

	behind = time.Minute      // how long a relay that did not answer, or too late, comes after the others
	lied   = 10 * time.Minute // and one that answered wrongly
)

// ErrWrong: a relay answered what the network never signed.
var ErrWrong = errors.New("wrong answer")

var errSlow = errors.New("no answer in time, another relay was faster")

// answer is a round and its signature, verified.
type answer struct {
	round     chain.Round
	signature []byte
}

// parseAnswer reads what a relay says of a round. It says nothing of whether that is true.
func parseAnswer(b []byte) (a answer, err error) {
	var v struct {
		Round     chain.Round `json:"round"`
		Signature hexed       `json:"signature"`
	}
	if json.Unmarshal(b, &v) != nil { // whose error repeats what the relay said
		return a, errors.New("not the JSON of a round")
	}
	if v.Round == 0 || len(v.Signature) != bls.SignatureLen {
		return a, fmt.Errorf("round %d with a signature of %d bytes", v.Round, len(v.Signature))
	}
	return answer{v.Round, v.Signature}, nil
}

// relay is one of a Source's, with its standing, which the Source's mutex guards.
type relay struct {
	name  string   // its address as configured
	url   *url.URL // of the network at it
	until time.Time
	why   error // what is held against it until then
}

// get asks one relay for "latest" or a round, and checks the answer.
func (s *Source) get(ctx context.Context, r *relay, what string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.JoinPath("public", what).String(), nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "sn3")
	resp, err := s.client.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // whoever prints it names the relay
		}
		return answer{}, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusTooEarly:
		return answer{}, fmt.Errorf("%w: HTTP %d", chain.ErrNotFound, resp.StatusCode)
	default: // a redirect too: whoever is pointed to has not been configured
		return answer{}, fmt.Errorf("HTTP %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)) // its own text may be anything
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	if len(raw) > maxAnswer {
		return answer{}, fmt.Errorf("%w: more than %d bytes", ErrWrong, maxAnswer)
	}
	a, err := parseAnswer(raw)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrWrong, err)
	}
	if err := s.network.Verify(a.round, a.signature); err != nil {
		return answer{}, fmt.Errorf("%w: round %d: %w", ErrWrong, a.round, err)
	}
	s.remember(a.round, a.signature)
	return a, nil
}

// asked is what became of a question to several relays.
type asked struct {
	ok     bool         // take accepted an answer
	failed []RelayError // who had failed by then, in the order of asking
}

// ask asks relays for what, the next one as soon as one before it failed or has not answered for hedge (0: all at once),
// until take accepts an answer or all have failed. Its error is ctx's.
func (s *Source) ask(ctx context.Context, relays []*relay, what string, hedge time.Duration, take func(answer) error) (asked, error) {
	type result struct {
		i   int
		a   answer
		err error
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(relays))
	var running []int
	next := 0
	start := func() {
		i := next
		next++
		running = append(running, i)
		go func() {
			a, err := s.get(asking, relays[i], what)
			results <- result{i, a, err}
		}()
	}
	start()
	for hedge == 0 && next < len(relays) {
		start()
	}
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	failed := make([]error, len(relays))
	for len(running) > 0 {
		select {
		case <-ctx.Done():
			return asked{}, ctx.Err()
		case <-timer.C:
		case r := <-results:
			running = slices.DeleteFunc(running, func(i int) bool { return i == r.i })
			if r.err == nil {
				r.err = take(r.a)
			}
			if r.err == nil {
				for _, i := range running {
					if i < r.i && hedge > 0 {
						s.setBack(relays[i], errSlow)
					}
				}
				return asked{true, inOrder(relays, failed)}, nil
			}
			if ctx.Err() != nil {
				return asked{}, ctx.Err()
			}
			failed[r.i] = r.err
			s.setBack(relays[r.i], r.err)
		}
		if next < len(relays) {
			start()
			timer.Reset(hedge)
		}
	}
	return asked{false, inOrder(relays, failed)}, nil
}

func inOrder(relays []*relay, failed []error) (list []RelayError) {
	for i, err := range failed {
		if err != nil {
			list = append(list, RelayError{relays[i].name, err})
		}
	}
	return list
}

// setBack lets a relay come after the others for a while. To have a round not yet is nothing to hold against it.
func (s *Source) setBack(r *relay, why error) {
	d := behind
	switch {
	case errors.Is(why, ErrWrong):
		d = lied
	case errors.Is(why, chain.ErrNotFound), errors.Is(why, errOlder):
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if until := s.now().Add(d); until.After(r.until) {
		r.until, r.why = until, why
	}
}

// order is the relays in the order in which to ask them: those in good standing as configured, then who is forgiven first.
func (s *Source) order() []*relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, r := range s.relays {
		if !r.until.After(now) {
			r.until, r.why = time.Time{}, nil
		}
	}
	relays := slices.Clone(s.relays)
	slices.SortStableFunc(relays, func(a, b *relay) int { return a.until.Compare(b.until) })
	return relays
}
