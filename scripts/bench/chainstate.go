package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
	"sn3/chain/timelock"
)

// windowTxs is what one window brings at most: a record of every hotkey, and of every validator a sealed row over all seats.
// Records are as long as they may be, votes too.
func (c chainJob) windowTxs(keys []local.Signer, public []byte, round chain.Round, w chain.Window, nonceOf func(int) (uint64, error)) ([][][]byte, error) {
	out := make([][][]byte, len(keys))
	row := make([]chain.Weight, len(keys))
	for uid := range row {
		row[uid] = chain.Weight{UID: chain.UID(uid), Value: uint16(1 + uid*97)}
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for who, key := range keys {
		g.Go(func() error {
			nonce, err := nonceOf(who)
			if err != nil {
				return err
			}
			rec := chain.Record{Locator: bytes.Repeat([]byte{'x'}, chain.MaxLocator), Digest: chain.Hash{byte(who), byte(who >> 8), byte(w), byte(w >> 8)}, Body: chain.SubmissionBody{Window: w}.Encode()}
			ops := []local.Op{local.Publish{Record: rec}}
			if who >= c.Miners {
				vote := chain.Vote{Window: w, Root: rec.Digest}
				for uid := range min(chain.MaxScores, len(keys)) {
					vote.Scores = append(vote.Scores, chain.Score{UID: chain.UID(uid), Value: uint16(8192 + uid)})
				}
				if rec.Body, err = vote.Encode(); err != nil {
					return err
				}
				sealed, err := local.Seal(key.Hotkey(), row, public, round, rand.Reader)
				if err != nil {
					return err
				}
				ops = []local.Op{local.Publish{Record: rec}, sealed}
			}
			for _, op := range ops {
				tx, err := local.SignTx(localtest.Network, nonce, op, key)
				if err != nil {
					return err
				}
				out[who], nonce = append(out[who], tx.Encode()), nonce+1
			}
			return nil
		})
	}
	return out, g.Wait()
}

// machine is a state machine without an engine.
type machine struct {
	job    chainJob
	g      *state.Genesis
	secret []byte
	keys   []local.Signer
	run    *chain.Run
	first  chain.Round // of the reveal epoch of block 1
	txs    [][]byte    // of one window, for block 1
	*state.State
}

func newMachine(c chainJob) (*machine, error) {
	g, secret, keys, err := c.genesis()
	if err != nil {
		return nil, err
	}
	m := &machine{job: c, g: g, secret: secret, keys: keys}
	if m.run, err = g.Validate(); err != nil {
		return nil, err
	}
	m.first, _ = local.RevealRounds(1, m.run.Tempo, g.Params.RevealPeriod)
	lists, err := c.windowTxs(keys, g.BeaconKey, m.first, 0, func(int) (uint64, error) { return 0, nil })
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		m.txs = append(m.txs, list...)
	}
	return m, m.fresh()
}

func (m *machine) fresh() (err error) {
	m.State, err = state.New(m.g)
	return err
}

// next makes a block, with the beacon of the one before.
func (m *machine) next(txs ...[]byte) error {
	h := m.Height()
	sig, err := beacon.Sign(m.secret, chain.Round(h))
	if err != nil {
		return err
	}
	return m.finalize(sig, txs)
}

func (m *machine) finalize(sig []byte, txs [][]byte) error {
	h := m.Height()
	r := m.Finalize(state.Block{Height: h + 1, Beacons: []state.Beacon{{Round: chain.Round(h), Signature: sig}}, Txs: txs})
	for i, code := range r.Codes {
		if code != local.CodeOK {
			return fmt.Errorf("transaction %d: %w", i, code.Err())
		}
	}
	return nil
}

// recover finds the senders on all cores, as a node does when transactions enter its mempool.
func (m *machine) recover() error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, raw := range m.txs {
		g.Go(func() error {
			tx, err := local.ParseTx(raw)
			if err == nil {
				_, err = m.Senders().Of(tx)
			}
			return err
		})
	}
	return g.Wait()
}

// until makes empty blocks up to a height.
func (m *machine) until(h chain.Block) error {
	for m.Height() < h {
		if err := m.next(); err != nil {
			return err
		}
	}
	return nil
}

// chainState measures blocks of a state machine alone; Form names the block.
func (j job) chainState() (*piece, error) {
	m, err := newMachine(j.Chain)
	if err != nil {
		return nil, err
	}
	p := &piece{work: 1}
	var sig []byte
	light := func() (err error) { sig, err = beacon.Sign(m.secret, chain.Round(m.Height())); return err }
	switch j.Form {
	case "signatures":
		p.before = func(context.Context) error { return m.fresh() }
		p.turn = func(context.Context) error { return m.recover() }
		p.work = float64(len(m.txs))
	case "window cold", "window":
		p.before = func(context.Context) error {
			err := m.fresh()
			if err == nil && j.Form == "window" {
				err = m.recover()
			}
			if err == nil {
				err = light()
			}
			return err
		}
		p.turn = func(context.Context) error { return m.finalize(sig, m.txs) }
	case "empty":
		p.before = func(context.Context) error {
			if (m.Height()+1)%m.run.Tempo == 0 {
				if err := m.next(); err != nil {
					return err
				}
			}
			return light()
		}
		p.turn = func(context.Context) error { return m.finalize(sig, nil) }
	case "reveal", "epoch":
		at := chain.Block(m.first)
		if j.Form == "epoch" {
			at += m.run.Tempo
		}
		p.before = func(context.Context) error {
			err := m.fresh()
			if err == nil {
				err = m.next(m.txs...)
			}
			if err == nil {
				err = m.until(at)
			}
			if err == nil {
				err = light()
			}
			return err
		}
		p.turn = func(context.Context) error { return m.finalize(sig, nil) }
	case "open":
		return m.opening()
	default:
		return nil, fmt.Errorf("no block is called %q", j.Form)
	}
	return p, nil
}

// opening opens the sealed rows alone, one after the other as a block does.
func (m *machine) opening() (*piece, error) {
	sig, err := beacon.Sign(m.secret, m.first)
	if err != nil {
		return nil, err
	}
	var sealed [][]byte
	for _, raw := range m.txs {
		tx, err := local.ParseTx(raw)
		if err != nil {
			return nil, err
		}
		if op, ok := tx.Op.(local.CommitWeights); ok {
			sealed = append(sealed, op.Commit)
		}
	}
	return &piece{work: 1, turn: func(context.Context) error {
		for _, b := range sealed {
			if _, err := timelock.Open(sig, b); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}
