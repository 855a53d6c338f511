package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"sn3/chain"
)

// Handler serves a Backend over HTTP: the other end of Dial. Every request is bounded in size; how long it may take is the
// server's business, which must allow HeadsWait.
func Handler(b Backend) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST "+PathTx, func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxTx+1)) // one more, so that the machine says what is wrong
		if err != nil {
			reply(w, nil, fmt.Errorf("read transaction: %w", err))
			return
		}
		code, err := b.Submit(r.Context(), raw)
		reply(w, code, err)
	})
	m.HandleFunc("GET "+PathQuery+"{name}", func(w http.ResponseWriter, r *http.Request) {
		v, err := b.Query(r.Context(), r.PathValue("name"), r.URL.Query().Get("arg"))
		reply(w, v, err)
	})
	m.HandleFunc("GET "+PathHeads, func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
		if err != nil {
			reply(w, nil, fmt.Errorf("after: %w", err))
			return
		}
		heads, err := b.Heads(r.Context(), chain.Block(after))
		if heads == nil {
			heads = []chain.Head{}
		}
		reply(w, heads, err)
	})
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, nil, fmt.Errorf("%s %s is not part of this API; it has POST %s, GET %s{name}, GET %s", r.Method, r.URL.Path, PathTx, PathQuery, PathHeads))
	})
	return m
}

func reply(w http.ResponseWriter, v any, err error) {
	a := Answer{}
	if err == nil {
		a.Result, err = json.Marshal(v)
	}
	status := http.StatusOK
	if err != nil {
		a = Answer{Error: err.Error(), Kind: kindOf(err)}
		status = statusOf(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // the client is gone if this fails
}

// statusOf is for people with curl; our client reads the kind.
func statusOf(err error) int {
	switch {
	case errors.Is(err, chain.ErrNotFound), errors.Is(err, chain.ErrNotYet):
		return http.StatusNotFound
	case errors.Is(err, chain.ErrPruned):
		return http.StatusGone
	case errors.Is(err, chain.ErrUnavailable):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}
