package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
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

	maxAnswer = 64 << 20
)

// Answer is the body of every response: a result, or an error by name.
type Answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	Kind   string          `json:"kind,omitempty"`
}

var kinds = map[string]error{"pruned": chain.ErrPruned, "not_yet": chain.ErrNotYet, "not_found": chain.ErrNotFound, "unavailable": chain.ErrUnavailable}

// KindOf names the sentinel that err wraps, for an Answer; "" for another error.
func KindOf(err error) string {
	for name, is := range kinds {
		if errors.Is(err, is) {
			return name
		}
	}
	return ""
}

// httpBackend talks to a node.
type httpBackend struct {
	base string
	c    *http.Client
}

// Dial makes a Backend for the node at HOST:PORT. It does not connect yet.
func Dial(addr string) (Backend, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("chain address %q: want HOST:PORT: %w", addr, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" {
		return nil, fmt.Errorf("chain address %q: want HOST:PORT", addr)
	}
	return &httpBackend{"http://" + addr, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}}}, nil
}

func (b *httpBackend) do(ctx context.Context, method, path string, body []byte, wait time.Duration) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	resp, err := b.c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", chain.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", chain.ErrUnavailable, err)
	}
	var a Answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("read answer of %s: not a chain node?: %w", b.base, err)
	}
	if is := kinds[a.Kind]; is != nil {
		return nil, fmt.Errorf("%w (%s)", is, a.Error)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Result, nil
}

const callTimeout = 10 * time.Second

func (b *httpBackend) Submit(ctx context.Context, tx []byte) (Code, error) {
	raw, err := b.do(ctx, http.MethodPost, PathTx, tx, callTimeout)
	if err != nil {
		return 0, err
	}
	var code Code
	return code, json.Unmarshal(raw, &code)
}

func (b *httpBackend) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	return b.do(ctx, http.MethodGet, PathQuery+url.PathEscape(name)+"?arg="+url.QueryEscape(arg), nil, callTimeout)
}

func (b *httpBackend) Heads(ctx context.Context, after chain.Block) ([]chain.Head, error) {
	raw, err := b.do(ctx, http.MethodGet, PathHeads+"?after="+strconv.FormatUint(uint64(after), 10), nil, HeadsWait+callTimeout)
	if err != nil {
		return nil, err
	}
	var heads []chain.Head
	return heads, json.Unmarshal(raw, &heads)
}
