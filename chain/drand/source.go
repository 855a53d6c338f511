package drand

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sn3/chain"
)

// ErrLate: the round is due for more than a period, and most relays prove that they are at an earlier one.
var ErrLate = errors.New("round is late")

// errOlder: a right answer, of an older round than was asked for.
var errOlder = errors.New("is at an older round")

// Error says why there is no signature of a round.
type Error struct {
	Round  chain.Round
	Due    time.Time
	Kind   error        // chain.ErrNotYet, ErrLate or chain.ErrUnavailable: what errors.Is finds
	Relays []RelayError // who was asked; none if the round was not due
}

// RelayError is what one relay did instead of answering rightly.
type RelayError struct {
	Relay string
	Err   error // ErrWrong, chain.ErrNotFound (it has no such round, or no such network) or what hindered the exchange
}

// Error names the round, the kind, every relay that was asked with what it did, and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "drand round %d, due %s: %v", e.Round, e.Due.UTC().Format(time.RFC3339), e.Kind)
	for _, r := range e.Relays {
		fmt.Fprintf(&b, "; %s: %v", r.Relay, r.Err)
	}
	switch e.Kind {
	case ErrLate:
		b.WriteString(" (the network stands still or catches up, or this machine's clock is ahead: wait)")
	case chain.ErrUnavailable:
		b.WriteString(" (check this machine's network and clock, or configure other relays)")
	}
	return b.String()
}

// Unwrap is the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Config is what a Source needs.
type Config struct {
	Network Network
	Relays  []string         // base addresses, as in https://api.drand.sh, best first; of quicknet may be none: DefaultRelays
	Roots   *x509.CertPool   // who may certify relays; nil: whom the system trusts
	Now     func() time.Time // nil: time.Now
}

// maxRelays bounds what one question may cost.
const maxRelays = 16

// DefaultRelays are the League of Entropy's own and Cloudflare's (https://docs.drand.love/developer/http-api).
func DefaultRelays() []string {
	return []string{"https://api.drand.sh", "https://api2.drand.sh", "https://api3.drand.sh", "https://drand.cloudflare.com"}
}

func (c *Config) validate() error {
	if err := c.Network.Validate(); err != nil {
		return err
	}
	if len(c.Relays) == 0 && c.Network == Quicknet() {
		c.Relays = DefaultRelays()
	}
	if n := len(c.Relays); n == 0 || n > maxRelays {
		return fmt.Errorf("drand network %q: %d relays, want 1 to %d", c.Network.Beacon, n, maxRelays)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Source asks relays for signatures. Its methods are safe for concurrent use.
type Source struct {
	network Network
	client  *http.Client
	now     func() time.Time

	mu     sync.Mutex
	relays []*relay // as configured
	known  map[chain.Round][]byte
	newest []chain.Round // of known, in the order in which they came
}

// keep is how many signatures a Source remembers: who rules over a window asks for the same few again and again.
const keep = 64

// remember keeps the signature of a round, which will never be another.
func (s *Source) remember(r chain.Round, sig []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.known[r]; there {
		return
	}
	if len(s.newest) == keep {
		delete(s.known, s.newest[0])
		s.newest = s.newest[1:]
	}
	s.known[r], s.newest = slices.Clone(sig), append(s.newest, r)
}

func (s *Source) recall(r chain.Round) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.known[r])
}

// New makes a Source. It connects to nobody yet.
func New(c Config) (*Source, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	s := &Source{network: c.Network, now: c.Now, known: map[chain.Round][]byte{}, client: &http.Client{
		Transport: &http.Transport{ // no proxy; HTTP/1.1, where a request that times out takes its dead connection along
			DialContext:            (&net.Dialer{Timeout: answerWait}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots},
			TLSHandshakeTimeout:    answerWait,
			MaxResponseHeaderBytes: 16 << 10,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for i, name := range c.Relays {
		u, err := relayURL(name)
		if err != nil {
			return nil, fmt.Errorf("relay %d of drand network %q: %w", i+1, c.Network.Beacon, err) // not its text, which may hold a password
		}
		if slices.ContainsFunc(s.relays, func(r *relay) bool { return strings.EqualFold(r.url.Host, u.Host) }) {
			return nil, fmt.Errorf("relay %d of drand network %q: %s is there twice", i+1, c.Network.Beacon, u.Host) // most of the relays must not be one
		}
		s.relays = append(s.relays, &relay{name: name, url: u.JoinPath(fmt.Sprintf("%x", c.Network.Hash()))})
	}
	return s, nil
}

func relayURL(name string) (*url.URL, error) {
	u, err := url.Parse(name)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("want an address like https://api.drand.sh: http or https, a host, and no user, query or fragment")
	}
	return u, nil
}

// Close ends idle connections.
func (s *Source) Close() { s.client.CloseIdleConnections() }

// Network is whose rounds these are.
func (s *Source) Network() Network { return s.network }

// Round is the newest round that is due at t; 0 before the first.
func (s *Source) Round(t time.Time) chain.Round { return s.network.Round(t) }

// Time is when r is due.
func (s *Source) Time(r chain.Round) time.Time { return s.network.Time(r) }

// Key is the public key that r is sealed to: one for all rounds.
func (s *Source) Key(_ context.Context, r chain.Round) ([]byte, error) {
	if r == 0 {
		return nil, errFirst
	}
	return slices.Clone(s.network.Public[:]), nil
}

var errFirst = fmt.Errorf("drand round 0: %w: the first is 1", chain.ErrNotFound)

// Signature is the verified signature of r. It takes at most some seconds whatever the relays do; the errors are those of the
// package comment, and ctx's. Before the round is due by this machine's clock, nobody is asked.
func (s *Source) Signature(ctx context.Context, r chain.Round) ([]byte, error) {
	if r == 0 {
		return nil, errFirst
	}
	if sig := s.recall(r); sig != nil {
		return sig, nil
	}
	if due := s.network.Time(r); s.now().Before(due) {
		return nil, &Error{Round: r, Due: due, Kind: chain.ErrNotYet}
	}
	var sig []byte
	relays := s.order()
	all, err := s.ask(ctx, relays, strconv.FormatUint(uint64(r), 10), hedgeAfter, func(a answer) error {
		if a.round != r {
			return fmt.Errorf("%w: round %d", ErrWrong, a.round)
		}
		sig = a.signature
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask for drand round %d: %w", r, err)
	}
	if all.ok {
		return sig, nil
	}
	return s.missed(ctx, r, relays, all.failed)
}

// missed finds out why r, which is due, could not be had: relays fail for many reasons, and only what they are at tells whether
// they miss it. The round may have come meanwhile.
func (s *Source) missed(ctx context.Context, r chain.Round, relays []*relay, failed []RelayError) ([]byte, error) {
	due := s.network.Time(r)
	fresh := s.now().Before(due.Add(time.Duration(s.network.Period) * time.Second))
	if fresh && slices.ContainsFunc(failed, func(e RelayError) bool { return errors.Is(e.Err, chain.ErrNotFound) }) {
		return nil, &Error{r, due, chain.ErrNotYet, failed}
	}
	var sig []byte
	older := 0
	all, err := s.ask(ctx, relays, "latest", 0, func(a answer) error {
		switch {
		case a.round < r:
			older++
			return fmt.Errorf("%w, %d", errOlder, a.round)
		case a.round > r:
			return fmt.Errorf("has round %d and not this one", a.round)
		}
		sig = a.signature
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask for drand's latest round: %w", err)
	case all.ok:
		return sig, nil
	case 2*older <= len(relays):
		return nil, &Error{r, due, chain.ErrUnavailable, failed}
	case fresh:
		return nil, &Error{r, due, chain.ErrNotYet, failed}
	}
	return nil, &Error{r, due, ErrLate, all.failed}
}

// Latest is the newest round that a relay has, with its verified signature. A relay that is up to date by this machine's clock
// is believed at once; else all are asked and the newest counts, which may be old: compare with Network.Round.
func (s *Source) Latest(ctx context.Context) (chain.Round, []byte, error) {
	due := s.network.Round(s.now())
	var best answer
	all, err := s.ask(ctx, s.order(), "latest", hedgeAfter, func(a answer) error {
		if a.round > best.round {
			best = a
		}
		if a.round+1 < due { // the newest due may still be on its way
			return fmt.Errorf("%w, %d", errOlder, a.round)
		}
		return nil
	})
	if err != nil {
		return 0, nil, fmt.Errorf("ask for drand's latest round: %w", err)
	}
	if best.round == 0 {
		return 0, nil, &Error{due, s.network.Time(due), chain.ErrUnavailable, all.failed}
	}
	return best.round, best.signature, nil
}

// Standing is what a Source holds against a relay.
type Standing struct {
	Relay string
	Until time.Time // until then it is asked after the others
	Why   error
}

// Standings lists the relays that are asked after the others, in the order of the configuration: for a status page.
func (s *Source) Standings() (list []Standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, r := range s.relays {
		if r.until.After(now) {
			list = append(list, Standing{r.name, r.until, r.why})
		}
	}
	return list
}
