package drand

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local/beacon"
)

// world is a drand network and its relays in one synctest bubble: an in-memory network, and the bubble's clock.
type world struct {
	t       *testing.T
	secret  []byte
	network Network

	mu    sync.Mutex
	hosts map[string]*pipes
}

// newWorld begins at the first round of its network.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, secret: make([]byte, beacon.SecretLen), hosts: map[string]*pipes{}}
	w.secret[31] = 42
	public, err := beacon.Public(w.secret)
	if err != nil {
		t.Fatal(err)
	}
	w.network = Network{Beacon: "test", Genesis: time.Now().Unix(), Period: 3}
	copy(w.network.Public[:], public)
	return w
}

func (w *world) sign(r chain.Round) []byte {
	w.t.Helper()
	sig, err := beacon.Sign(w.secret, r)
	if err != nil {
		w.t.Error(err)
	}
	return sig
}

// source asks the hosts, in this order.
func (w *world) source(hosts ...string) *Source {
	w.t.Helper()
	c := Config{Network: w.network}
	for _, h := range hosts {
		c.Relays = append(c.Relays, "http://"+h)
	}
	s, err := New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	s.client.Transport.(*http.Transport).DialContext = w.dial
	w.t.Cleanup(s.Close)
	return s
}

// serve starts a relay. Without a handler the host hangs: it takes connections and says nothing.
func (w *world) serve(host string, h http.Handler) {
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	w.mu.Lock()
	w.hosts[host+":80"] = l
	w.mu.Unlock()
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	w.t.Cleanup(s.Close)
}

func (w *world) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	w.mu.Lock()
	l := w.hosts[addr]
	w.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("no such host %s", addr)
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// honest is a relay at a network that signs every round in time, but for what a test changes.
type honest struct {
	w      *world
	newest chain.Round  // the network stands still there; 0: never
	lost   chain.Round  // a round that this relay lost
	miss   http.Handler // answers for rounds that are not there; nil: 404
	asked  atomic.Int32
}

func (h *honest) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	h.asked.Add(1)
	newest := h.w.network.Round(time.Now())
	if h.newest != 0 {
		newest = min(newest, h.newest)
	}
	what, ours := strings.CutPrefix(in.URL.Path, fmt.Sprintf("/%x/public/", h.w.network.Hash()))
	r, err := strconv.ParseUint(what, 10, 64)
	switch {
	case !ours || err != nil && what != "latest":
		http.NotFound(out, in)
	case what == "latest":
		say(out, newest, h.w.sign(newest))
	case chain.Round(r) <= newest && chain.Round(r) != h.lost:
		say(out, chain.Round(r), h.w.sign(chain.Round(r)))
	case h.miss != nil:
		h.miss.ServeHTTP(out, in)
	default:
		http.NotFound(out, in)
	}
}

func say(out http.ResponseWriter, r chain.Round, sig []byte) {
	fmt.Fprintf(out, `{"round":%d,"randomness":"%x","signature":"%x"}`, r, beacon.Randomness(sig), sig)
}

// hang never answers.
var hang = http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) { <-in.Context().Done() })

// pipes is a listener for one end of pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error { l.once.Do(func() { close(l.done) }); return nil }

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }
