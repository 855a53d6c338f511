package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/node"
)

// chain is a worker that runs chain nodes.
func (j job) chain(ctx context.Context) (*piece, error) {
	c := j.Chain
	switch j.Task {
	case "chain-life":
		return c.life(j.Dir), nil
	case "chain-snapshot":
		return c.snapshots(j.Dir), nil
	case "chain-disk":
		return c.disk(j.Dir), nil
	}
	if c.Apart {
		return j.apart(ctx)
	}
	n, keys, err := c.start(ctx, j.Dir)
	if err != nil {
		return nil, err
	}
	p := &piece{found: figures{}, close: n.close}
	switch j.Task {
	case "chain-tx":
		var txs [][][]byte
		p.work = float64(c.Txs)
		p.before = func(ctx context.Context) (err error) { txs, err = transfers(ctx, n, keys, c.Txs); return err }
		p.turn = func(ctx context.Context) error { return n.push(ctx, txs) }
	case "chain-latency":
		p.work = float64(c.Txs)
		p.turn = func(ctx context.Context) error {
			for range c.Txs {
				took, err := single(ctx, n, keys)
				if err != nil {
					return err
				}
				p.found.add("ms", took)
			}
			return nil
		}
	case "chain-window":
		s, ok := n.(*subnet)
		if !ok {
			return nil, errors.New("a window needs a chain")
		}
		p.work = 1
		p.turn = func(ctx context.Context) error { return s.window(ctx, c, p.found) }
	}
	return p, nil
}

// single is the milliseconds from handing in a transaction until a block with it is committed.
func single(ctx context.Context, n network, keys []local.Signer) (float64, error) {
	txs, err := transfers(ctx, n, keys, 1)
	if err != nil {
		return 0, err
	}
	from := time.Now()
	err = n.push(ctx, txs)
	return 1e3 * time.Since(from).Seconds(), err
}

// window hands in what the miners and validators of one window do, as fast as it can after a block, and notes how it went.
func (s *subnet) window(ctx context.Context, c chainJob, found figures) error {
	n := s.nodes[0]
	load, err := s.windowLoad(ctx, c)
	if err != nil {
		return err
	}
	height, _ := n.Height()
	if _, err := n.Heads(ctx, height); err != nil { // from the beginning of a block time
		return err
	}
	from := time.Now()
	if err := s.push(ctx, load); err != nil {
		return err
	}
	found.add("ms", 1e3*time.Since(from).Seconds())
	blocks, size, count := map[chain.Block]bool{}, 0, 0
	for _, list := range load {
		for _, raw := range list {
			tx, err := local.ParseTx(raw)
			if err != nil {
				return err
			}
			answer, err := n.Query(ctx, local.QueryTx, tx.Hash().String())
			if err != nil {
				return err
			}
			var info local.TxInfo
			if err := json.Unmarshal(answer, &info); err != nil {
				return err
			}
			if info.Code != local.CodeOK {
				return fmt.Errorf("a transaction of the window: %w", info.Code.Err())
			}
			blocks[info.Block], size, count = true, size+len(raw), count+1
		}
	}
	found.add("blocks", float64(len(blocks)))
	found.add("bytes", float64(size))
	found.add("txs", float64(count))
	return nil
}

// windowLoad is a record of every hotkey, and of every validator a sealed row over all seats too.
func (s *subnet) windowLoad(ctx context.Context, c chainJob) ([][][]byte, error) {
	n := s.nodes[0]
	g := n.Genesis()
	run, err := g.Validate()
	if err != nil {
		return nil, err
	}
	height, _ := n.Height()
	for ; height%run.Tempo > run.Tempo/2; height, _ = n.Height() { // rows are for a block of the same epoch
		if _, err := n.Heads(ctx, height); err != nil {
			return nil, err
		}
	}
	first, _ := local.RevealRounds(height+1, run.Tempo, g.Params.RevealPeriod)
	raw, err := n.Query(ctx, local.QueryKey, fmt.Sprint(uint64(first)))
	if err != nil {
		return nil, err
	}
	var public []byte
	if err := json.Unmarshal(raw, &public); err != nil {
		return nil, err
	}
	return c.windowTxs(s.keys, public, first, chain.Window(height), func(who int) (uint64, error) { return s.nonce(ctx, who) })
}

// life is a worker whose only turn lives through some windows, restarts, replays them and lets another node catch up.
func (c chainJob) life(dir string) *piece {
	p := &piece{work: float64(c.Windows), found: figures{}}
	p.turn = func(ctx context.Context) error {
		homes, keys, err := c.found(dir)
		if err != nil {
			return err
		}
		s, err := startSubnet(homes, keys)
		if err != nil {
			return err
		}
		txs, err := s.windows(ctx, c, nil)
		height, _ := s.nodes[0].Height()
		if err = errors.Join(err, s.follow(ctx, dir, txs, p.found)); err != nil {
			return errors.Join(err, s.close())
		}
		if err := s.close(); err != nil {
			return err
		}
		p.found.add("blocks", float64(height))
		p.found.add("txs", float64(txs))
		return restart(homes[0], height, txs, p.found)
	}
	return p
}

// windows lives through windows of the schedule, each with all that its miners and validators do; after each it calls done, if
// there is one.
func (s *subnet) windows(ctx context.Context, c chainJob, done func()) (txs int, err error) {
	n, inner := s.nodes[0], figures{}
	run, err := n.Genesis().Validate()
	if err != nil {
		return 0, err
	}
	for range c.Windows {
		before, _ := n.Height()
		err := s.window(ctx, c, inner)
		for try := 1; isLate(err) && try < lateTries; try++ {
			err = s.window(ctx, c, inner)
		}
		if err != nil {
			return txs, err
		}
		for h, _ := n.Height(); h < before+run.Schedule.Length; h, _ = n.Height() {
			if _, err := n.Heads(ctx, h); err != nil {
				return txs, err
			}
		}
		if done != nil {
			done()
		}
	}
	for _, x := range inner["txs"] {
		txs += int(x)
	}
	return txs, nil
}

// lateTries is how often a window is begun anew because its rows came into the next epoch.
const lateTries = 20

func isLate(err error) bool {
	var refused *local.TxError
	return errors.As(err, &refused) && refused.Code == local.CodeRound
}

// follow starts a node that was never there and waits until it has every block.
func (s *subnet) follow(ctx context.Context, dir string, txs int, found figures) error {
	first := s.nodes[0]
	st := first.Status()
	meet := node.DefaultNet()
	meet.Peers = []string{st.ID + "@" + st.Listen}
	home := filepath.Join(dir, "late")
	if err := node.Init(home, first.Genesis(), meet); err != nil {
		return err
	}
	want, _ := first.Height()
	from := time.Now()
	late, err := node.Start(chainOptions(home, meet.Peers))
	if err != nil {
		return err
	}
	for h, _ := late.Height(); h < want && err == nil; h, _ = late.Height() {
		_, err = late.Heads(ctx, h)
	}
	took := time.Since(from).Seconds()
	found.add("catch-up blocks/s", float64(want)/took)
	found.add("catch-up tx/s", float64(txs)/took)
	for h, _ := late.Height(); err == nil && late.Status().CatchingUp; h, _ = late.Height() { // the engine may panic when it is stopped while it fetches
		_, err = late.Heads(ctx, h)
	}
	return errors.Join(err, late.Close())
}

// started starts a node again, whose height must be at least the one before, and closes it.
func started(home string, height chain.Block) (time.Duration, error) {
	from := time.Now()
	n, err := node.Start(chainOptions(home, nil))
	if err != nil {
		return 0, err
	}
	took := time.Since(from)
	if h, _ := n.Height(); h < height {
		err = fmt.Errorf("restarted at block %d of %d", h, height)
	}
	return took, errors.Join(err, n.Close())
}

// starts starts a node some times.
func starts(home string, height chain.Block, found figures) error {
	for range 3 {
		took, err := started(home, height)
		if err != nil {
			return err
		}
		found.add("start ms", 1e3*took.Seconds())
	}
	return nil
}

// restart starts a node again, then once more without its state: the engine replays every block into it.
func restart(home string, height chain.Block, txs int, found figures) error {
	if err := starts(home, height, found); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(home, "sn3.db")); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	took, err := started(home, height)
	if err != nil {
		return err
	}
	seconds := max(took.Seconds()-median(found["start ms"])/1e3, 1e-6)
	found.add("replay blocks/s", float64(height)/seconds)
	found.add("replay tx/s", float64(txs)/seconds)
	return nil
}
