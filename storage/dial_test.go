package storage

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

func TestDialPolicy(t *testing.T) {
	public := []string{"1.1.1.1:443", "142.250.1.1:443", "[2606:4700::1]:443", "[2a00:1450::1]:443", "[::ffff:1.1.1.1]:443", "172.15.0.1:443", "172.32.0.1:443", "223.255.255.255:443"}
	local := []string{"127.0.0.1:9000", "127.8.9.1:9000", "[::1]:9000", "[::ffff:127.0.0.1]:9000"}
	never := []string{
		"0.0.0.0:443", "0.1.2.3:443", "10.0.0.1:443", "100.64.0.1:443", "100.127.255.255:443", "127.0.0.1:443", "169.254.169.254:443", "172.16.0.1:443", "172.31.255.255:443",
		"192.0.0.8:443", "192.0.2.1:443", "192.88.99.1:443", "192.168.1.1:443", "198.18.0.1:443", "198.19.255.255:443", "198.51.100.1:443", "203.0.113.1:443",
		"224.0.0.1:443", "239.255.255.255:443", "240.0.0.1:443", "255.255.255.255:443",
		"[::]:443", "[::1]:443", "[::ffff:10.0.0.1]:443", "[::ffff:169.254.169.254]:443", "[::7f00:1]:443", "[64:ff9b::a00:1]:443", "[100::1]:443",
		"[2001::1]:443", "[2001:db8::1]:443", "[2002:a00:1::1]:443", "[3fff::1]:443", "[5f00::1]:443", "[fc00::1]:443", "[fd00:ec2::254]:443", "[fe80::1]:443", "[fe80::1%1]:443", "[ff02::1]:443",
		"1.1.1.1:80", "1.1.1.1:22", "127.0.0.1:9001", "10.0.0.1:9000", "[fe80::1]:9000", "1.1.1.1:9000", "169.254.169.254:80",
	}
	check := func(p DialPolicy, addr string, want bool) {
		err := p.control("tcp", addr, nil)
		if (err == nil) != want || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("%+v, %s: %v, want allowed = %v", p, addr, err, want)
		}
	}
	network := DialPolicy{Loopback: true, LocalPort: 9000}
	for _, a := range public {
		check(DialPolicy{}, a, true)
		check(network, a, false)
	}
	for _, a := range local {
		check(DialPolicy{}, a, false)
		check(network, a, true)
	}
	for _, a := range never {
		check(DialPolicy{}, a, false)
		check(network, a, false)
	}
	check(DialPolicy{}, "example.com:443", false) // only resolved addresses get here
}

// Whole blocks: the first and the last address of each private block, plain and mapped into IPv6, on every port.
func TestNoPrivateBlockGetsThrough(t *testing.T) {
	n := 0
	for _, block := range []string{"10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "198.18.0.0/15"} {
		p := netip.MustParsePrefix(block)
		first := p.Addr().As4()
		last := first
		for bit := p.Bits(); bit < 32; bit++ {
			last[bit/8] |= 1 << (7 - bit%8)
		}
		for _, ip := range [][4]byte{first, last} {
			for _, a := range []netip.Addr{netip.AddrFrom4(ip), netip.AddrFrom16(netip.AddrFrom4(ip).As16())} {
				for _, port := range []uint16{0, 22, 80, 443, 8080, 9000, 65535} {
					n++
					if err := (DialPolicy{}).allow(netip.AddrPortFrom(a, port)); err == nil {
						t.Errorf("%s port %d allowed", a, port)
					}
				}
			}
		}
	}
	if n < 200 {
		t.Errorf("only %d cases", n)
	}
}

// A name that resolves to a loopback address, as after DNS rebinding, is refused before a packet is sent, and at once.
func TestRebindingIsRefusedAtDialTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var accepted atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		e := endpoint{provider: ProviderOther, url: "http://" + net.JoinHostPort(host, port), region: "us-east-1", bucket: "abc"}
		b := NewBucket(newS3(e, nil, newHTTPClient(DialPolicy{})))
		if _, err := b.Get(t.Context(), "x", 10); !errors.Is(err, ErrDenied) || !errors.Is(err, errForbidden) {
			t.Errorf("%s: %v, want ErrDenied by the dial policy", host, err)
		}
	}
	if n := accepted.Load(); n != 0 {
		t.Errorf("%d connections arrived", n)
	}
}

func TestOpenHoldsLocatorsToTheNetwork(t *testing.T) {
	parse := func(s string) Locator {
		l, err := ParseLocatorString(s)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	network := DialPolicy{Loopback: true, LocalPort: 9000}
	for _, c := range []struct {
		l  Locator
		p  DialPolicy
		ok bool
	}{
		{parse("local:alice"), network, true},
		{parse("local:alice"), DialPolicy{}, false},
		{parse("local:alice"), DialPolicy{Loopback: true}, false},
		{parse("s3:us-east-1/abc"), DialPolicy{}, true},
		{parse("s3:us-east-1/abc"), network, false},
		{Locator{}, DialPolicy{}, false},
	} {
		b, err := Open(c.l, nil, c.p)
		if c.ok != (err == nil && b != nil) || err != nil && !errors.Is(err, ErrLocator) {
			t.Errorf("%v under %+v: %v", c.l, c.p, err)
		}
	}
	o := NewOpener(DialPolicy{})
	for _, s := range []string{"s3:us-east-1/abc", "s3:us-east-1/def", "gcs:abc"} {
		if _, err := o.Open(parse(s), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.clients) != 2 {
		t.Errorf("%d sets of connections for two endpoints", len(o.clients))
	}
	for _, e := range []Endpoint{{URL: "ftp://x", Bucket: "abc"}, {URL: "https://x/path", Bucket: "abc"}, {URL: "https://u@x", Bucket: "abc"}, {URL: "https://x", Bucket: "A"}, {URL: "https://x", Bucket: "abc", Provider: ProviderAWS}, {URL: "https://x", Bucket: "abc", Provider: "awss"}, {URL: "://", Bucket: "abc"}} {
		if _, err := OpenEndpoint(e, nil); !errors.Is(err, ErrLocator) {
			t.Errorf("%+v: %v, want ErrLocator", e, err)
		}
	}
}

func TestClientIsDeafToTricks(t *testing.T) {
	var redirected atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abc/redirect":
			http.Redirect(w, r, "/abc/target", http.StatusFound)
		case "/abc/target":
			redirected.Store(true)
		case "/abc/headers":
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeader))
		case "/abc/error":
			w.WriteHeader(http.StatusBadRequest)
			for range 100 {
				if _, err := w.Write(make([]byte, maxErrorBody)); err != nil {
					return
				}
			}
		}
	}))
	defer srv.Close()
	b, err := OpenEndpoint(Endpoint{URL: srv.URL, Bucket: "abc", Provider: ProviderOther}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, kind := range map[string]error{"redirect": ErrNotFound, "headers": ErrUnavailable} {
		if _, err := b.Get(t.Context(), key, 100); !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", key, err, kind)
		}
	}
	if redirected.Load() {
		t.Error("followed a redirect")
	}
	if _, err := b.Get(t.Context(), "error", 100); err == nil || kindOf(err) != nil || len(err.Error()) > 300 {
		t.Errorf("endless error body: %v", err)
	}
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	if tr, ok := newHTTPClient(DialPolicy{}).Transport.(capped).RoundTripper.(*http.Transport); !ok || tr.Proxy != nil {
		t.Error("a proxy from the environment would be used")
	}
}
