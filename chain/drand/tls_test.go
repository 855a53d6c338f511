package drand

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sn3/chain"
)

// Relays over real sockets and TLS: a certificate by a known authority and TLS 1.2 at least.
func TestTLS(t *testing.T) {
	n := Quicknet()
	answer := http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if in.URL.Path != "/"+quicknetHash+"/public/1000" || in.Header.Get("User-Agent") != "sn3" {
			http.NotFound(out, in)
			return
		}
		fmt.Fprintf(out, `{"round":1000,"signature":"%s"}`, quicknet1000)
	})
	serve := func(highest uint16) (*httptest.Server, *x509.CertPool) {
		s := httptest.NewUnstartedServer(answer)
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: highest}
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())
		return s, roots
	}
	modern, known := serve(tls.VersionTLS13)
	old, oldKnown := serve(tls.VersionTLS11)
	for name, c := range map[string]struct {
		relay string
		roots *x509.CertPool
		want  string
	}{
		"known":   {modern.URL, known, ""},
		"unknown": {modern.URL, x509.NewCertPool(), "certificate"},
		"TLS 1.1": {old.URL, oldKnown, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(Config{Network: n, Relays: []string{c.relay}, Roots: c.roots, Now: func() time.Time { return n.Time(5000) }})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sig, err := s.Signature(t.Context(), 1000)
			if c.want == "" {
				if err != nil || fmt.Sprintf("%x", sig) != quicknet1000 {
					t.Errorf("%x, %v", sig, err)
				}
				return
			}
			if !errors.Is(err, chain.ErrUnavailable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%x, %v, want %q", sig, err, c.want)
			}
		})
	}
}
