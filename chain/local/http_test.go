package local

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sn3/chain"
)

func TestAddresses(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:80": "http://127.0.0.1:80", "[::1]:1": "http://[::1]:1", "node:26657": "http://node:26657",
		"https://chain.example.org": "https://chain.example.org", "https://chain.example.org:8443/": "https://chain.example.org:8443",
		"https://example.org/chain/": "https://example.org/chain",
		"":                           "", "node": "", ":80": "", "node:0": "", "node:http": "", "http://node:80": "", "https://": "", "https://u:p@node": "", "https://node?x": "",
		"https://node#x": "", "ftp://node:1": "",
	} {
		got, err := baseURL(addr)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", addr, got, err)
		}
	}
}

// A node behind a proxy with TLS is reached when its certificate is good, and only then; a proxy whose node is away says so in
// its own words, which mean that the node is away.
func TestBehindProxy(t *testing.T) {
	away := false
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case away:
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<html>502 Bad Gateway</html>"))
		case r.URL.Path == "/sub"+PathQuery+"params":
			_, _ = w.Write([]byte(`{"result":{"max_seats":7}}`))
		default:
			_, _ = w.Write([]byte("<html>hello</html>"))
		}
	}))
	defer s.Close()
	strange, err := Dial(s.URL + "/sub")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strange.Query(t.Context(), QueryParams, ""); !errors.Is(err, chain.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") || !strings.Contains(err.Error(), "SSL_CERT_FILE") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	known := &httpBackend{s.URL + "/sub", s.Client()}
	raw, err := known.Query(t.Context(), QueryParams, "")
	if err != nil || string(raw) != `{"max_seats":7}` {
		t.Errorf("%s, %v", raw, err)
	}
	if _, err := known.Query(t.Context(), QueryStatus, ""); err == nil || errors.Is(err, chain.ErrUnavailable) || !strings.Contains(err.Error(), "is it a chain node") {
		t.Errorf("a web page: %v", err)
	}
	away = true
	if _, err := known.Query(t.Context(), QueryParams, ""); !errors.Is(err, chain.ErrUnavailable) || !strings.Contains(err.Error(), "status 502") {
		t.Errorf("a proxy without its node: %v", err)
	}
}

// What a node says failed is told once, as the sentinel that it names and in its words; a node without words has the sentinel's.
func TestAnswerErrors(t *testing.T) {
	for _, sentinel := range []error{chain.ErrPruned, chain.ErrNotYet, chain.ErrNotFound, chain.ErrUnavailable} {
		theirs := fmt.Errorf("head of block 7: %w", sentinel)
		if got := (Answer{Error: theirs.Error(), Kind: kindOf(theirs)}).err(); !errors.Is(got, sentinel) || got.Error() != theirs.Error() {
			t.Errorf("%q: %v", theirs, got)
		}
		if got := (Answer{Kind: kindOf(sentinel)}).err(); !errors.Is(got, sentinel) || got.Error() != sentinel.Error() {
			t.Errorf("%v without words: %v", sentinel, got)
		}
	}
	for _, a := range []Answer{{}, {Kind: "nonsense"}, {Result: []byte("1")}} {
		if err := a.err(); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
	if err := (Answer{Error: "broken", Kind: "nonsense"}).err(); err == nil || err.Error() != "broken" {
		t.Errorf("an error of no kind: %v", err)
	}
}
