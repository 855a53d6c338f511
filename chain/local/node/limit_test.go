package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"sn3/chain/local"
)

// asked is a request as the limiter sees it.
func asked(path, from string, forwarded ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = from
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	return r
}

// One address gets its burst, then its rate; others are not touched, nor are programs on the same machine.
func TestRate(t *testing.T) {
	now := time.Unix(1000, 0)
	l := limited(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	l.now = func() time.Time { return now }
	send := func(r *http.Request) int {
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		if (w.Code == http.StatusServiceUnavailable) != (w.Header().Get("Retry-After") == "1") {
			t.Fatalf("code %d, headers %v", w.Code, w.Header())
		}
		return w.Code
	}
	query := local.PathQuery + "status"
	taken := func(n int, r func() *http.Request) (ok int) {
		for range n {
			if send(r()) == http.StatusOK {
				ok++
			}
		}
		return ok
	}
	for _, x := range []struct {
		name string
		r    func() *http.Request
		want int
	}{
		{"a stranger", func() *http.Request { return asked(query, "192.0.2.1:1") }, burst},
		{"from another port", func() *http.Request { return asked(query, "192.0.2.1:2") }, 0},
		{"another one", func() *http.Request { return asked(query, "192.0.2.2:1") }, burst},
		{"this machine", func() *http.Request { return asked(query, "127.0.0.1:1") }, 2 * burst},
		{"somebody behind a proxy here", func() *http.Request { return asked(query, "[::1]:1", "192.0.2.3") }, burst},
		{"who says to be somebody else before the proxy", func() *http.Request { return asked(query, "127.0.0.1:1", "192.0.2.9, 192.0.2.3") }, 0},
		{"in two headers", func() *http.Request { return asked(query, "127.0.0.1:1", "192.0.2.9", "192.0.2.3") }, 0},
		{"whom a proxy does not name", func() *http.Request { return asked(query, "127.0.0.1:1", "unknown") }, burst},
		{"who says to be behind a proxy", func() *http.Request { return asked(query, "192.0.2.1:1", "192.0.2.77") }, 0},
		{"a network of IPv6", func() *http.Request { return asked(query, "[2001:db8::1]:1") }, burst},
		{"its other addresses", func() *http.Request { return asked(query, "[2001:db8::ffff:2]:1") }, 0},
	} {
		if got := taken(2*burst, x.r); got != x.want {
			t.Errorf("%s: %d of %d were answered, want %d", x.name, got, 2*burst, x.want)
		}
	}
	now = now.Add(time.Second)
	if got := taken(burst, func() *http.Request { return asked(query, "192.0.2.1:1") }); got != rate {
		t.Errorf("after a second %d were answered, want %d", got, rate)
	}
}

// Requests that wait for heads are limited by address and altogether; the end of one makes room.
func TestHeldRequests(t *testing.T) {
	begun, end := make(chan bool), make(chan bool)
	l := limited(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { begun <- true; <-end }))
	l.now = func() time.Time { return time.Unix(1000, 0) }
	done := make(chan int)
	wait := func(from string) {
		w := httptest.NewRecorder()
		l.ServeHTTP(w, asked(local.PathHeads, from))
		done <- w.Code
	}
	hold := func(from string, n int) {
		for range n {
			go wait(from)
			<-begun
		}
	}
	refused := func(from string) {
		t.Helper()
		go wait(from)
		if code := <-done; code != http.StatusServiceUnavailable {
			t.Errorf("%s: code %d", from, code)
		}
	}
	hold("192.0.2.1:1", heldEach)
	refused("192.0.2.1:2")
	for left, i := held-heldEach, 0; left > 0; i++ {
		n := min(left, heldEach)
		hold(fmt.Sprintf("198.51.100.%d:1", i), n)
		left -= n
	}
	refused("192.0.2.2:1")
	if !l.enter("127.0.0.1", true, true) {
		t.Error("a program on this machine is refused")
	}
	end <- true
	<-done
	hold("192.0.2.2:1", 1)
	for range held {
		end <- true
		<-done
	}
	if l.waiting != 0 {
		t.Errorf("%d still wait", l.waiting)
	}
}

// However many addresses come, what is remembered of them is bounded, and who was silent is forgotten for new ones.
func TestCallersAreForgotten(t *testing.T) {
	now := time.Unix(1000, 0)
	l := limited(nil)
	l.now = func() time.Time { return now }
	for i := range callers + 10 {
		if ok := l.enter(fmt.Sprint(i), false, false); ok != (i < callers) {
			t.Fatalf("address %d: %v", i, ok)
		}
	}
	if !l.enter("127.0.0.1", true, true) {
		t.Error("a program on this machine is shut out by a crowd")
	}
	if !l.enter("7", false, false) {
		t.Error("who is known is shut out by a crowd of others")
	}
	now = now.Add(forget + time.Second)
	if !l.enter("new", false, false) || len(l.callers) > 1 {
		t.Errorf("%d addresses are remembered", len(l.callers))
	}
}
