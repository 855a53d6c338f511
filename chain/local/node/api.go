package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/cometbft/cometbft/libs/log"

	"sn3/chain"
	"sn3/chain/local"
)

func (n *Node) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST "+local.PathTx, func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, local.MaxTx+1))
		if err != nil {
			reply(w, nil, fmt.Errorf("read transaction: %w", err))
			return
		}
		code, err := n.submit(raw)
		reply(w, code, err)
	})
	m.HandleFunc("GET "+local.PathQuery+"{name}", func(w http.ResponseWriter, r *http.Request) {
		v, err := n.query(r.PathValue("name"), r.URL.Query().Get("arg"))
		reply(w, v, err)
	})
	m.HandleFunc("GET "+local.PathHeads, n.headsAPI)
	return m
}

// headsAPI answers as soon as there is a newer head, at the latest after local.HeadsWait.
func (n *Node) headsAPI(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		reply(w, nil, fmt.Errorf("after: %w", err))
		return
	}
	timeout := time.NewTimer(local.HeadsWait)
	defer timeout.Stop()
	for {
		heads, moved := n.app.headsAfter(chain.Block(after))
		if len(heads) > 0 {
			reply(w, heads, nil)
			return
		}
		select {
		case <-moved:
		case <-timeout.C:
			reply(w, []chain.Head{}, nil)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func reply(w http.ResponseWriter, v any, err error) {
	a := local.Answer{}
	if err == nil {
		a.Result, err = json.Marshal(v)
	}
	if err != nil {
		a = local.Answer{Error: err.Error(), Kind: local.KindOf(err)}
	}
	w.Header().Set("Content-Type", "application/json")
	if a.Error != "" {
		w.WriteHeader(http.StatusBadRequest)
	}
	_ = json.NewEncoder(w).Encode(a) // the client is gone if this fails
}

var errQuery = errors.New("unknown query")

func (n *Node) query(name, arg string) (any, error) {
	a := n.app
	a.mu.Lock()
	defer a.mu.Unlock()
	number := func() (uint64, error) { return strconv.ParseUint(arg, 10, 64) }
	switch name {
	case local.QueryStatus:
		s := local.Status{Network: n.gen.Network, Height: a.st.Height(), BlockTimeMS: n.gen.BlockTimeMS, RunHash: a.st.Run().Hash(), Info: n.opts.Info,
			Version: n.opts.Version}
		if len(a.heads) > 0 { // what is committed, not what is only executed
			last := a.heads[len(a.heads)-1]
			s.Height, s.Time = last.Block, last.Time
		}
		return s, nil
	case local.QueryRun:
		return a.st.Run().Encode(), nil
	case local.QueryGenesis:
		return n.gen, nil
	case local.QueryAccount:
		var k chain.Coldkey
		if err := k.UnmarshalText([]byte(arg)); err != nil {
			return nil, err
		}
		balance, nonce := a.st.Account(k)
		return local.AccountInfo{Balance: balance, Nonce: nonce}, nil
	case local.QueryTx:
		var h chain.Hash
		if err := h.UnmarshalText([]byte(arg)); err != nil {
			return nil, err
		}
		info, ok := a.txs[h]
		if !ok {
			return nil, fmt.Errorf("transaction %s: %w", h.Short(), chain.ErrNotFound)
		}
		return info, nil
	}
	x, err := number()
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", name, err)
	}
	switch name {
	case local.QuerySnapshot:
		return a.st.Snapshot(chain.Block(x))
	case local.QuerySelection:
		return a.st.Selection(chain.Window(x))
	case local.QueryBeacon:
		return a.st.Beacon(chain.Round(x))
	}
	return nil, fmt.Errorf("%w %q", errQuery, name)
}

// logger hands CometBFT's warnings and errors to slog; the rest is noise to an operator.
type logger struct{ l *slog.Logger }

func (l logger) Debug(string, ...any)      {}
func (l logger) Info(string, ...any)       {}
func (l logger) Warn(m string, kv ...any)  { l.l.Debug(m, kv...) }
func (l logger) Error(m string, kv ...any) { l.l.Error(m, kv...) }
func (l logger) With(kv ...any) log.Logger { return logger{l.l.With(kv...)} }
