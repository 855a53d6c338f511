package local

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sn3/chain"
)

// The node's HTTP API: POST /v1/tx, GET /v1/query/{name}?arg=, GET /v1/heads?after=.
const (
	PathTx    = "/v1/tx"
	PathQuery = "/v1/query/"
	PathHeads = "/v1/heads"
	// HeadsWait is how long a node holds a request for heads before it answers with none.
	HeadsWait = 15 * time.Second

	maxAnswer   = 64 << 20
	callTimeout = 10 * time.Second
)

// Answer is the body of every response: a result, or an error and its kind.
type Answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	Kind   string          `json:"kind,omitempty"`
}

// kindOf names the sentinel that err wraps, for an Answer; "" for another error.
func kindOf(err error) string {
	switch {
	case errors.Is(err, chain.ErrPruned):
		return "pruned"
	case errors.Is(err, chain.ErrNotYet):
		return "not_yet"
	case errors.Is(err, chain.ErrNotFound):
		return "not_found"
	case errors.Is(err, chain.ErrUnavailable):
		return "unavailable"
	}
	return ""
}

// remoteError is a node's error: its words, which are whole as they are, and the sentinel that it named.
type remoteError struct {
	text     string
	sentinel error
}

func (e *remoteError) Error() string { return cmp.Or(e.text, e.sentinel.Error()) }
func (e *remoteError) Unwrap() error { return e.sentinel }

// err is the error that an Answer carries, with its sentinel; nil if it carries a result.
func (a Answer) err() error {
	for _, s := range []error{chain.ErrPruned, chain.ErrNotYet, chain.ErrNotFound, chain.ErrUnavailable} {
		if a.Kind == kindOf(s) {
			return &remoteError{a.Error, s}
		}
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

// httpBackend talks to a node.
type httpBackend struct {
	base string
	c    *http.Client
}

// Dial makes a Backend for the node at HOST:PORT, or behind a proxy at https://HOST, whose certificate must be good. It does
// not connect yet.
func Dial(addr string) (Backend, error) {
	base, err := baseURL(addr)
	if err != nil {
		return nil, err
	}
	c := &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}, // no proxy: the node is near
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &httpBackend{base, c}, nil
}

// baseURL is what the API's paths are put behind.
func baseURL(addr string) (string, error) {
	if strings.HasPrefix(addr, "https://") {
		u, err := url.Parse(addr)
		if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return "", fmt.Errorf("chain address %q: want https://HOST, https://HOST:PORT or https://HOST/PATH", addr)
		}
		return strings.TrimRight(addr, "/"), nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("chain address %q: want HOST:PORT, or https://HOST of a node behind a proxy: %w", addr, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" || strings.Contains(host, "/") {
		return "", fmt.Errorf("chain address %q: want HOST:PORT, or https://HOST of a node behind a proxy", addr)
	}
	return "http://" + addr, nil
}

// do makes one call of at most wait. An unreachable node is chain.ErrUnavailable, unless it is ctx that ended.
func (b *httpBackend) do(ctx context.Context, method, path string, body []byte, wait time.Duration) (json.RawMessage, error) {
	call, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(call, method, b.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	raw, status, err := b.exchange(req)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.As(err, new(*tls.CertificateVerificationError)) {
		err = fmt.Errorf("%w (SSL_CERT_FILE=FILE names an authority that this machine does not know)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", chain.ErrUnavailable, err)
	}
	var a Answer
	if err := json.Unmarshal(raw, &a); err != nil {
		if status >= 500 || status == http.StatusTooManyRequests { // of a proxy that does not reach its node
			return nil, fmt.Errorf("%w: %s answers with status %d", chain.ErrUnavailable, b.base, status)
		}
		return nil, fmt.Errorf("read answer of %s (is it a chain node?): %w", b.base, err)
	}
	return a.Result, a.err()
}

func (b *httpBackend) exchange(req *http.Request) (raw []byte, status int, err error) {
	resp, err := b.c.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && len(raw) == 0 {
		err = io.ErrUnexpectedEOF // a node that is stopping
	}
	return raw, resp.StatusCode, err
}

func (b *httpBackend) Submit(ctx context.Context, tx []byte) (Code, error) {
	raw, err := b.do(ctx, http.MethodPost, PathTx, tx, callTimeout)
	if err != nil {
		return 0, err
	}
	return decode[Code](raw)
}

func (b *httpBackend) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	return b.do(ctx, http.MethodGet, PathQuery+url.PathEscape(name)+"?arg="+url.QueryEscape(arg), nil, callTimeout)
}

func (b *httpBackend) Heads(ctx context.Context, after chain.Block) ([]chain.Head, error) {
	raw, err := b.do(ctx, http.MethodGet, PathHeads+"?after="+strconv.FormatUint(uint64(after), 10), nil, HeadsWait+callTimeout)
	if err != nil {
		return nil, err
	}
	return decode[[]chain.Head](raw)
}

func decode[T any](raw json.RawMessage) (out T, err error) {
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("read the chain node's answer: %w", err)
	}
	return out, nil
}
