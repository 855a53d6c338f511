package node

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"sn3/chain/local"
)

// Limits of the API. Programs on the same machine have no rate: they are the node's own network, or a proxy, which names in
// X-Forwarded-For whom it asks for.
const (
	rate     = 50                         // requests a second of one address
	burst    = 200                        // at once, after a while without any
	held     = 400                        // requests that wait for heads, of maxConns, of other machines
	heldEach = 32                         // of one address
	callers  = 10_000                     // addresses that are remembered
	forget   = burst / rate * time.Second // a bucket that nobody used for so long is full again
)

// caller is what one address has used: a bucket of tokens, filled at rate, and requests that wait.
type caller struct {
	tokens  float64
	at      time.Time
	waiting int
}

// limiter keeps one address from taking a node's API away from others.
type limiter struct {
	next http.Handler
	now  func() time.Time

	mu      sync.Mutex
	callers map[string]*caller
	waiting int
	swept   time.Time
}

func limited(next http.Handler) *limiter {
	return &limiter{next: next, now: time.Now, callers: map[string]*caller{}}
}

// ServeHTTP answers a request, or says when to come again.
func (l *limiter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, free := origin(r)
	waits := r.URL.Path == local.PathHeads
	if !l.enter(from, free, waits) {
		refuse(w)
		return
	}
	if !free {
		defer l.leave(from, waits)
	}
	l.next.ServeHTTP(w, r)
}

// origin is whom a request counts for, and whether it is free of the limits of one address.
func origin(r *http.Request) (from string, free bool) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if !loopback(host) {
		return network64(net.ParseIP(host), host), false
	}
	all := r.Header.Values("X-Forwarded-For")
	if len(all) == 0 {
		return host, true
	}
	last := all[len(all)-1] // what a proxy on this machine put there itself; what is before it came from outside
	last = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
	return network64(net.ParseIP(last), host), false
}

// network64 is an address as it counts: of IPv6 the /64, of which every customer has one at least.
func network64(ip net.IP, other string) string {
	switch {
	case ip == nil:
		return other
	case ip.To4() == nil:
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return ip.String()
}

func (l *limiter) enter(from string, free, waits bool) bool {
	if free {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if waits && l.waiting >= held {
		return false
	}
	now := l.now()
	c := l.callers[from]
	if c == nil {
		if len(l.callers) >= callers && !l.sweep(now) {
			return false
		}
		c = &caller{tokens: burst, at: now}
		l.callers[from] = c
	}
	c.tokens = min(burst, c.tokens+rate*now.Sub(c.at).Seconds())
	c.at = now
	if c.tokens < 1 || waits && c.waiting >= heldEach {
		return false
	}
	c.tokens--
	if waits {
		c.waiting++
		l.waiting++
	}
	return true
}

func (l *limiter) leave(from string, waits bool) {
	if !waits {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
	l.callers[from].waiting--
}

// sweep forgets callers whose buckets are full, and says whether there is room.
func (l *limiter) sweep(now time.Time) bool {
	if now.Sub(l.swept) < time.Second {
		return false
	}
	l.swept = now
	for k, c := range l.callers { // any order: what is deleted is a set
		if c.waiting == 0 && now.Sub(c.at) > forget {
			delete(l.callers, k)
		}
	}
	return len(l.callers) < callers
}

// refuse says when to come again. Our client waits and asks again, as with a node that is busy.
func refuse(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(local.Answer{Error: "too many requests from this address; come again in a second", Kind: "unavailable"}) // the client is gone if this fails
}
