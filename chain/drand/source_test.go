package drand

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sn3/chain"
)

// quicknet1000 is quicknet's signature of round 1000.
const quicknet1000 = "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"

// bubble runs a test in a world of its own, n periods after the network's start.
func bubble(t *testing.T, periods int, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.wait(time.Duration(periods) * 3 * time.Second)
		f(w)
	})
}

// wait lets the bubble's time pass.
func (w *world) wait(d time.Duration) { <-time.After(d) }

// want checks an answer of Signature: the signature of r, or an error of the kind.
func (w *world) want(s *Source, r chain.Round, kind error) *Error {
	w.t.Helper()
	sig, err := s.Signature(w.t.Context(), r)
	if kind == nil {
		if err != nil || !bytes.Equal(sig, w.sign(r)) {
			w.t.Errorf("round %d: %x, %v", r, sig, err)
		}
		return nil
	}
	var e *Error
	if !errors.Is(err, kind) || !errors.As(err, &e) || e.Round != r || !e.Due.Equal(w.network.Time(r)) || sig != nil {
		w.t.Fatalf("round %d: %x, %v, want %v", r, sig, err, kind)
	}
	for _, other := range []error{chain.ErrNotYet, ErrLate, chain.ErrUnavailable, chain.ErrNotFound} {
		if other != kind && errors.Is(err, other) {
			w.t.Errorf("round %d: %v is %v too", r, err, other)
		}
	}
	return e
}

func (w *world) setBack(s *Source, hosts ...string) {
	w.t.Helper()
	var got []string
	for _, x := range s.Standings() {
		if !x.Until.After(time.Now()) || x.Why == nil {
			w.t.Errorf("%+v", x)
		}
		got = append(got, strings.TrimPrefix(x.Relay, "http://"))
	}
	if fmt.Sprint(got) != fmt.Sprint(hosts) {
		w.t.Errorf("set back %v, want %v", got, hosts)
	}
}

func TestSignature(t *testing.T) {
	bubble(t, 10, func(w *world) {
		alice := &honest{w: w}
		w.serve("alice", alice)
		s := w.source("alice")
		w.want(s, 11, nil)
		w.want(s, 1, nil)
		if e := w.want(s, 12, chain.ErrNotYet); len(e.Relays) != 0 || alice.asked.Load() != 2 {
			t.Errorf("a relay was asked for a round to come: %v, %d", e, alice.asked.Load())
		}
		w.want(s, 1<<64-1, chain.ErrNotYet)
		if sig, err := s.Signature(w.t.Context(), 0); !errors.Is(err, chain.ErrNotFound) {
			t.Errorf("round 0: %x, %v", sig, err)
		}
		w.wait(3 * time.Second)
		w.want(s, 12, nil)
		if s.Round(time.Now()) != 12 || !s.Time(12).Equal(time.Now()) {
			t.Errorf("round %d", s.Round(time.Now()))
		}
		w.setBack(s)
	})
}

// One relay that fails in whatever way costs less than a second, is named when all fail, and comes last next time.
func TestOneBadRelay(t *testing.T) {
	type bad struct {
		handler func(w *world, host string) // serves the host
		wrong   bool
		text    string
	}
	say200 := func(body func(w *world, in *http.Request) string) func(w *world, host string) {
		return func(w *world, host string) {
			w.serve(host, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) { fmt.Fprint(out, body(w, in)) }))
		}
	}
	status := func(code int) func(w *world, host string) {
		return func(w *world, host string) {
			w.serve(host, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) { out.WriteHeader(code) }))
		}
	}
	const huge = 1 << 20
	for name, b := range map[string]bad{
		"no such host":        {func(*world, string) {}, false, "no such host"},
		"hangs":               {func(w *world, host string) { w.serve(host, hang) }, false, "deadline"},
		"hangs in the middle": {stutter, false, "deadline"},
		"busy":                {status(http.StatusTooManyRequests), false, "HTTP 429 Too Many Requests"},
		"cannot":              {status(http.StatusInternalServerError), false, "500"},
		"redirects":           {redirect, false, "307"},
		"long headers":        {longHeader, false, "header"},
		"no JSON":             {say200(func(*world, *http.Request) string { return "<html>" }), true, "not the JSON"},
		"empty":               {say200(func(*world, *http.Request) string { return "" }), true, "not the JSON"},
		"huge":                {say200(func(*world, *http.Request) string { return strings.Repeat(" ", huge) }), true, "more than 4096 bytes"},
		"no signature":        {say200(func(*world, *http.Request) string { return `{"round":10}` }), true, "0 bytes"},
		"a long signature": {say200(func(w *world, _ *http.Request) string {
			return fmt.Sprintf(`{"round":10,"signature":"%x00"}`, w.sign(10))
		}), true, "49 bytes"},
		"a changed one": {say200(func(w *world, _ *http.Request) string { return fmt.Sprintf(`{"round":10,"signature":"%x"}`, w.sign(9)) }), true, "invalid"},
		"another round": {say200(func(w *world, in *http.Request) string {
			if strings.HasSuffix(in.URL.Path, "latest") { // that would be its word that nobody is further
				return ""
			}
			return fmt.Sprintf(`{"round":9,"signature":"%x"}`, w.sign(9))
		}), true, "round 9"},
		"another network": {say200(func(*world, *http.Request) string { return `{"round":1000,"signature":"` + quicknet1000 + `"}` }), true, "invalid"},
		"round as another type": {say200(func(w *world, _ *http.Request) string {
			return fmt.Sprintf(`{"round":"10","signature":"%x"}`, w.sign(10))
		}), true, "round"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 10, func(w *world) {
				b.handler(w, "bob")
				alone := w.source("bob")
				e := w.want(alone, 10, chain.ErrUnavailable)
				if len(e.Relays) != 1 || e.Relays[0].Relay != "http://bob" || errors.Is(e.Relays[0].Err, ErrWrong) != b.wrong || !strings.Contains(e.Relays[0].Err.Error(), b.text) ||
					!strings.Contains(e.Error(), "http://bob: ") {
					t.Errorf("alone: %v, want %q", e, b.text)
				}
				w.serve("alice", &honest{w: w})
				s := w.source("bob", "alice")
				begun := time.Now()
				w.want(s, 10, nil)
				if d := time.Since(begun); d >= time.Second {
					t.Errorf("it cost %v", d)
				}
				w.setBack(s, "bob")
				begun = time.Now()
				w.want(s, 10, nil)
				if d := time.Since(begun); d != 0 {
					t.Errorf("it cost %v again", d)
				}
				w.wait(behind)
				if b.wrong {
					w.setBack(s, "bob")
					w.wait(lied - behind)
				}
				w.setBack(s)
			})
		})
	}
}

func stutter(w *world, host string) {
	w.serve(host, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		fmt.Fprint(out, `{"round":10,`)
		out.(http.Flusher).Flush()
		hang(out, in)
	}))
}

// redirect points to a relay that would answer rightly.
func redirect(w *world, host string) {
	w.serve("carol", &honest{w: w})
	w.serve(host, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		http.Redirect(out, in, "http://carol"+in.URL.Path, http.StatusTemporaryRedirect)
	}))
}

func longHeader(w *world, host string) {
	w.serve(host, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		out.Header().Set("X-Long", strings.Repeat("x", 64<<10))
		(&honest{w: w}).ServeHTTP(out, in)
	}))
}

// Who lied comes last as long as it takes, whatever else it does meanwhile.
func TestLiarHangs(t *testing.T) {
	bubble(t, 10, func(w *world) {
		lies := true
		w.serve("bob", http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
			if lies {
				say(out, 10, w.sign(9))
				return
			}
			hang(out, in)
		}))
		s := w.source("bob")
		w.want(s, 10, chain.ErrUnavailable)
		lies = false
		w.want(s, 10, chain.ErrUnavailable)
		if list := s.Standings(); len(list) != 1 || !errors.Is(list[0].Why, ErrWrong) {
			t.Errorf("%+v", list)
		}
		w.wait(2 * behind)
		w.setBack(s, "bob")
	})
}

// Most relays hang, one answers: still less than a round.
func TestManyHang(t *testing.T) {
	bubble(t, 10, func(w *world) {
		var ended atomic.Int32
		for _, h := range []string{"bob", "carol", "dan"} {
			w.serve(h, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) { hang(out, in); ended.Add(1) }))
		}
		w.serve("alice", &honest{w: w})
		s := w.source("bob", "carol", "dan", "alice")
		begun := time.Now()
		w.want(s, 11, nil)
		if d := time.Since(begun); d != 3*hedgeAfter {
			t.Errorf("it cost %v", d)
		}
		if synctest.Wait(); ended.Load() != 3 {
			t.Errorf("%d of 3 requests ended when there was an answer", ended.Load())
		}
		w.setBack(s, "bob", "carol", "dan")
		if w.want(w.source("bob", "carol", "dan"), 11, chain.ErrUnavailable); time.Since(begun) > 9*time.Second {
			t.Errorf("to know nothing took %v", time.Since(begun))
		}
	})
}

// The network stands still at round 8. Who asks learns so when most relays prove it, in whatever way they miss round 9; and a
// late round is a round.
func TestLate(t *testing.T) {
	for name, miss := range map[string]http.Handler{
		"they know no such round":   http.NotFoundHandler(),
		"they cannot get it":        http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusInternalServerError) }),
		"they hold who asks for it": hang,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 8, func(w *world) {
				relays := map[string]*honest{"alice": nil, "bob": nil, "carol": nil}
				for h := range relays {
					relays[h] = &honest{w: w, newest: 8, miss: miss}
					w.serve(h, relays[h])
				}
				s := w.source("alice", "bob", "carol")
				if e := w.want(s, 9, chain.ErrNotYet); len(e.Relays) != 3 { // due now
					t.Errorf("%v", e)
				}
				w.wait(3 * time.Second)
				if e := w.want(s, 9, ErrLate); len(e.Relays) != 3 || !strings.Contains(e.Error(), "http://bob: is at an older round, 8; ") {
					t.Errorf("%v", e)
				}
				if r, sig, err := s.Latest(w.t.Context()); r != 8 || err != nil || !bytes.Equal(sig, w.sign(8)) {
					t.Errorf("latest is %d, %x, %v", r, sig, err)
				}
				relays["bob"].newest = 10 // it catches up
				w.want(s, 9, nil)
			})
		})
	}
}

// To miss a round is held against nobody; while it is fresh the one question is enough.
func TestMissing(t *testing.T) {
	bubble(t, 20, func(w *world) {
		alice := &honest{w: w, newest: 8}
		w.serve("alice", alice)
		w.want(w.source("alice"), 21, chain.ErrNotYet)
		if n := alice.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		w.serve("bob", &honest{w: w, newest: 9})
		s := w.source("alice", "bob")
		w.want(s, 10, ErrLate)
		w.want(s, 9, nil)
		w.setBack(s)
	})
}

// What one relay says of lateness, or one that is behind, is nothing: most must show it.
func TestLateTakesMost(t *testing.T) {
	bubble(t, 20, func(w *world) {
		w.serve("bob", &honest{w: w, newest: 8})
		w.serve("carol", hang)
		w.serve("dan", http.NotFoundHandler()) // knows no such network
		w.serve("eve", &honest{w: w, lost: 9})
		w.want(w.source("bob", "carol"), 9, chain.ErrUnavailable)
		w.want(w.source("bob", "dan"), 9, chain.ErrUnavailable)
		w.want(w.source("dan"), 9, chain.ErrUnavailable)
		lossy := w.source("bob", "eve")
		w.want(lossy, 9, chain.ErrUnavailable)
		w.setBack(lossy, "eve")
		w.wait(behind)
		w.setBack(lossy) // she lost a round, which is no lie
		w.want(w.source("bob"), 9, ErrLate)
		w.serve("alice", &honest{w: w})
		s := w.source("bob", "carol", "dan", "eve", "alice")
		w.want(s, 9, nil)
		w.wait(time.Minute)
		w.want(s, s.Round(time.Now()), nil)
	})
}

// A round may come while the relays are asked for it: one that had it not shows it as its latest.
func TestComesMeanwhile(t *testing.T) {
	bubble(t, 20, func(w *world) {
		alice := &honest{w: w, newest: 20}
		alice.miss = http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			out.WriteHeader(http.StatusInternalServerError)
			alice.newest = 21
		})
		w.serve("alice", alice)
		w.want(w.source("alice"), 21, nil)
		if alice.asked.Load() != 2 {
			t.Errorf("asked %d times", alice.asked.Load())
		}
	})
}

// All relays say at once what they are at: to be the slower one there is held against nobody.
func TestSlowLatest(t *testing.T) {
	bubble(t, 20, func(w *world) {
		alice, bob := &honest{w: w, newest: 8}, &honest{w: w, newest: 9}
		w.serve("alice", http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
			if strings.HasSuffix(in.URL.Path, "latest") {
				w.wait(time.Second)
			}
			alice.ServeHTTP(out, in)
		}))
		bob.lost = 9
		w.serve("bob", bob)
		s := w.source("alice", "bob")
		w.want(s, 9, nil)
		w.setBack(s)
	})
}

func TestLatest(t *testing.T) {
	bubble(t, 20, func(w *world) {
		w.serve("eve", &honest{w: w, newest: 7})
		w.serve("alice", &honest{w: w})
		w.serve("bob", &honest{w: w, newest: 20})
		w.serve("carol", &honest{w: w, newest: 8})
		w.serve("dan", hang)
		for _, c := range []struct {
			want  chain.Round
			hosts []string
		}{
			{21, []string{"alice"}}, {20, []string{"bob", "alice"}}, {21, []string{"carol", "alice"}}, {21, []string{"dan", "carol", "alice"}}, {8, []string{"dan", "carol"}},
			{8, []string{"carol", "eve"}}, {8, []string{"eve", "carol"}},
		} {
			s := w.source(c.hosts...)
			if r, sig, err := s.Latest(w.t.Context()); r != c.want || err != nil || !bytes.Equal(sig, w.sign(r)) {
				t.Errorf("%v: %d, %x, %v", c.hosts, r, sig, err)
			}
		}
		if r, sig, err := w.source("dan").Latest(w.t.Context()); !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%d, %x, %v", r, sig, err)
		}
	})
}

// Who stops waiting gets that, and nothing is held against the relays.
func TestContext(t *testing.T) {
	bubble(t, 10, func(w *world) {
		w.serve("bob", hang)
		s := w.source("bob")
		for name, f := range map[string]func(ctx context.Context) error{
			"signature": func(ctx context.Context) error { _, err := s.Signature(ctx, 3); return err },
			"latest":    func(ctx context.Context) error { _, _, err := s.Latest(ctx); return err },
		} {
			ctx, cancel := context.WithTimeout(w.t.Context(), 100*time.Millisecond)
			var e *Error
			if err := f(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &e) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
		}
		w.setBack(s)
	})
}

func TestConcurrent(t *testing.T) {
	bubble(t, 30, func(w *world) {
		w.serve("bob", http.NotFoundHandler())
		w.serve("carol", hang)
		w.serve("alice", &honest{w: w})
		s := w.source("carol", "bob", "alice")
		var all sync.WaitGroup
		for i := range chain.Round(10) {
			all.Go(func() {
				w.want(s, i+1, nil)
				s.Standings()
				if _, _, err := s.Latest(w.t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// Real bytes of quicknet, as a relay sends them.
func TestQuicknetAnswer(t *testing.T) {
	a, err := parseAnswer([]byte(`{"round":1000,"randomness":"fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd","signature":"` + quicknet1000 + `"}`))
	if err != nil || a.round != 1000 || hex.EncodeToString(a.signature) != quicknet1000 {
		t.Fatalf("%+v, %v", a, err)
	}
	if err := Quicknet().Verify(a.round, a.signature); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	ok := Config{Network: Quicknet()}
	s, err := New(ok)
	if err != nil || len(s.relays) != 4 || s.relays[0].url.String() != "https://api.drand.sh/"+quicknetHash {
		t.Fatalf("%+v, %v", s, err)
	}
	tr := s.client.Transport.(*http.Transport)
	if tr.Proxy != nil || tr.ForceAttemptHTTP2 || !tr.DisableCompression || tr.TLSClientConfig.MinVersion != 0x0303 {
		t.Errorf("transport %+v", tr)
	}
	private := Quicknet()
	private.Beacon = "private"
	for name, c := range map[string]Config{
		"no network":     {},
		"no relays":      {Network: private},
		"too many":       {Network: private, Relays: make([]string, 17)},
		"no address":     {Network: private, Relays: []string{"api.drand.sh"}},
		"another scheme": {Network: private, Relays: []string{"ftp://api.drand.sh"}},
		"no host":        {Network: private, Relays: []string{"https:///x"}},
		"only a port":    {Network: private, Relays: []string{"https://:443"}},
		"a query":        {Network: private, Relays: []string{"https://a?b=c"}},
		"one host twice": {Network: private, Relays: []string{"https://a/x", "https://A/y"}},
	} {
		if s, err := New(c); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for _, relay := range []string{"https://user:secret@a", "https://user:secret@a:b", "//secret\x7f"} {
		if _, err := New(Config{Network: private, Relays: []string{relay}}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", relay, err)
		}
	}
}

// No bytes panic; what is taken is a round and 48 bytes.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"round":1000,"signature":"` + quicknet1000 + `"}`))
	f.Add([]byte(`{"round":0,"signature":"` + quicknet1000 + `"}`))
	f.Add([]byte(`{"round":-1,"signature":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err == nil && (a.round == 0 || len(a.signature) != 48) {
			t.Fatalf("%+v", a)
		}
	})
}

// A signature that was verified once is not asked for again, and what is remembered is bounded.
func TestRemembers(t *testing.T) {
	bubble(t, 200, func(w *world) {
		alice := &honest{w: w}
		w.serve("alice", alice)
		s := w.source("alice")
		for range 3 {
			w.want(s, 7, nil)
		}
		if n := alice.asked.Load(); n != 1 {
			t.Errorf("asked %d times for one round", n)
		}
		sig, err := s.Signature(w.t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		sig[0]++
		w.want(s, 7, nil) // a caller may do with it what it likes
		for r := chain.Round(8); r < 8+2*keep; r++ {
			w.want(s, r, nil)
		}
		if len(s.known) != keep || len(s.newest) != keep || s.recall(7) != nil || s.recall(7+2*keep) == nil {
			t.Errorf("%d rounds are remembered", len(s.known))
		}
		key, err := s.Key(w.t.Context(), 9)
		if err != nil || !bytes.Equal(key, w.network.Public[:]) {
			t.Errorf("key %x, %v", key, err)
		}
		if _, err := s.Key(w.t.Context(), 0); !errors.Is(err, chain.ErrNotFound) {
			t.Errorf("the key of round 0: %v", err)
		}
	})
}
