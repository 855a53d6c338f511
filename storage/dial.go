package storage

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// DialPolicy says which addresses may be connected to. It is checked on the resolved address of every single connection,
// so a host name that changes its address after a check (DNS rebinding) gains nothing.
//
// The zero value is the policy of real networks: public unicast addresses, port 443. Loopback is the policy of a local
// network: loopback addresses only, and there only LocalPort.
type DialPolicy struct {
	Loopback  bool
	LocalPort int // TCP port of the local network's S3 server

	any bool // an operator's own endpoint: no check
}

// errForbidden is an address that the policy refuses. It is a denial, never worth a retry.
var errForbidden = fmt.Errorf("%w: the dial policy forbids this address", ErrDenied)

// allow decides about one resolved address.
func (p DialPolicy) allow(at netip.AddrPort) error {
	ok := at.Port() == 443 && publicUnicast(at.Addr())
	if p.Loopback {
		ok = int(at.Port()) == p.LocalPort && at.Addr().Unmap().IsLoopback()
	}
	if !ok && !p.any {
		return fmt.Errorf("%w: %s", errForbidden, at)
	}
	return nil
}

// control is net.Dialer.Control: it runs after name resolution, before a packet is sent.
func (p DialPolicy) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errForbidden, err)
	}
	return p.allow(at)
}

// publicUnicast says whether a is an address of the public internet: IPv4 without the special-purpose blocks of RFC 6890
// and its successors, IPv6 only from 2000::/3 without tunnels and documentation blocks.
func publicUnicast(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	if a.Is6() && !netip.MustParsePrefix("2000::/3").Contains(a) {
		return false
	}
	for _, block := range []string{
		"0.0.0.0/8",                      // this network
		"100.64.0.0/10",                  // carrier NAT
		"192.0.0.0/24", "192.88.99.0/24", // protocol assignments, 6to4 relays
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // documentation
		"198.18.0.0/15",          // benchmarks
		"240.0.0.0/4",            // reserved, broadcast
		"2001::/23", "2002::/16", // protocol assignments with Teredo, 6to4
		"2001:db8::/32", "3fff::/20", // documentation
	} {
		if netip.MustParsePrefix(block).Contains(a) {
			return false
		}
	}
	return true
}

// Limits of one connection and of what a server may send besides an object's bytes.
const (
	dialTimeout   = 5 * time.Second
	headerTimeout = 10 * time.Second // from the request's last byte to the response's first
	idleTimeout   = 60 * time.Second
	maxHeader     = 16 << 10 // bytes of response headers
	maxErrorBody  = 64 << 10
	maxListBody   = 2 << 20 // 1000 keys of 1 KiB and their XML; parsed, a list of empty entries takes 50 times its size
)

// newHTTPClient is the client of one endpoint: kept-alive connections, no proxy, no redirects, no cookies, no compression.
func newHTTPClient(p DialPolicy) *http.Client {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Control: p.control}
	return &http.Client{
		Transport: capped{&http.Transport{
			DialContext:            d.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    dialTimeout,
			ResponseHeaderTimeout:  headerTimeout,
			ExpectContinueTimeout:  time.Second,
			IdleConnTimeout:        idleTimeout,
			MaxIdleConnsPerHost:    8,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// capped limits the bodies of all answers but objects, whose readers count for themselves.
type capped struct{ http.RoundTripper }

func (c capped) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err // http.RoundTripper wants errors as they are
	}
	switch {
	case resp.StatusCode >= 300:
		resp.Body = &cappedBody{resp.Body, maxErrorBody}
	case r.Method != http.MethodGet || r.URL.Query().Has("list-type"):
		resp.Body = &cappedBody{resp.Body, maxListBody}
	}
	return resp, nil
}

type cappedBody struct {
	io.ReadCloser
	left int64
}

var errLongAnswer = errors.New("answer longer than any honest one")

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongAnswer
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
