package gossip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"sn3/chain"
)

// What a neighbour may send, and an author say. A miner announces once a window; a neighbour forwards what all miners of a
// window announce at about the same time.
const (
	authorBurst, authorRate = 16, 1.0    // announcements, and per second
	sourceBurst, sourceRate = 1024, 64.0 // messages, and per second
	maxStrikes              = 3          // messages that no honest node would send or forward, until a neighbour is expelled
	maxTracked              = 4096       // authors or neighbours remembered
)

// errSource: a neighbour sends more, or larger messages, than the protocol has.
var errSource = errors.New("gossip: neighbour sends too much")

// guard decides which messages pass.
type guard struct {
	self   peer.ID // set before anything comes
	known  func(chain.Hotkey) bool
	window func(chain.Window) bool
	expel  func(peer.ID) // must not block
	now    func() time.Time

	mu      sync.Mutex
	authors map[chain.Hotkey]*allowance
	sources map[peer.ID]*allowance
	strikes map[peer.ID]int
	stats   Stats
}

func newGuard(known func(chain.Hotkey) bool, window func(chain.Window) bool, expel func(peer.ID)) *guard {
	return &guard{known: known, window: window, expel: expel, now: time.Now, authors: map[chain.Hotkey]*allowance{},
		sources: map[peer.ID]*allowance{}, strikes: map[peer.ID]int{}}
}

// inspect sees what a neighbour sends before any signature in it is checked, which costs 150 µs each.
func (g *guard) inspect(from peer.ID, rpc *pubsub.RPC) error {
	for _, m := range rpc.GetPublish() {
		if len(m.GetData()) > MaxAnnouncement {
			g.count(func(s *Stats) { s.Invalid++ })
			g.strike(from)
			return fmt.Errorf("%w: message of %d bytes", errSource, len(m.GetData()))
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(rpc.GetPublish()); n > 0 && !allow(g.sources, from, n, sourceBurst, sourceRate, g.now()) {
		g.stats.Flooded += uint64(n)
		return fmt.Errorf("%w: %d messages above its rate", errSource, n)
	}
	return nil
}

// validate is the topic validator; gossipsub has checked the signature of the author. What no honest node forwards is
// rejected and held against the neighbour it came from; what may be honest (a view of the chain some blocks older, a rate
// measured elsewhere) is ignored.
func (g *guard) validate(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	a, err := Parse(m.GetData())
	if err != nil {
		return g.reject(from, func(s *Stats) { s.Invalid++ })
	}
	author, err := hotkeyOf(m.GetFrom())
	if err != nil || author != a.Hotkey {
		return g.reject(from, func(s *Stats) { s.Forged++ })
	}
	m.ValidatorData = a
	if m.GetFrom() == g.self {
		return pubsub.ValidationAccept
	}
	if !g.known(a.Hotkey) {
		return g.ignore(func(s *Stats) { s.Unknown++ })
	}
	if g.window != nil && !g.window(a.Window) {
		return g.ignore(func(s *Stats) { s.Window++ })
	}
	g.mu.Lock()
	ok := allow(g.authors, a.Hotkey, 1, authorBurst, authorRate, g.now())
	g.mu.Unlock()
	if !ok {
		return g.ignore(func(s *Stats) { s.Flooded++ })
	}
	g.count(func(s *Stats) { s.Accepted++ })
	return pubsub.ValidationAccept
}

func (g *guard) reject(from peer.ID, why func(*Stats)) pubsub.ValidationResult {
	g.count(why)
	g.strike(from)
	return pubsub.ValidationReject
}

func (g *guard) ignore(why func(*Stats)) pubsub.ValidationResult {
	g.count(why)
	return pubsub.ValidationIgnore
}

func (g *guard) count(why func(*Stats)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	why(&g.stats)
}

// strike counts against a neighbour and has it expelled after some.
func (g *guard) strike(from peer.ID) {
	if from == g.self {
		return
	}
	g.mu.Lock()
	if len(g.strikes) >= maxTracked {
		clear(g.strikes)
	}
	g.strikes[from]++
	out := g.strikes[from]%maxStrikes == 0
	g.mu.Unlock()
	if out {
		g.expel(from)
	}
}

func (g *guard) snapshot() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stats
}

// allowance is a token bucket.
type allowance struct {
	left float64
	at   time.Time
}

// allow takes n tokens of who's bucket, which holds burst and fills by rate per second. When too many are remembered the
// bookkeeping starts anew: authors are bounded by the seats of the network, so only neighbours that come and go do that.
func allow[K comparable](of map[K]*allowance, who K, n int, burst, rate float64, now time.Time) bool {
	b := of[who]
	if b == nil {
		if len(of) >= maxTracked {
			clear(of)
		}
		b = &allowance{burst, now}
		of[who] = b
	}
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.left, b.at = min(burst, b.left+d*rate), now
	}
	if b.left < float64(n) {
		return false
	}
	b.left -= float64(n)
	return true
}
