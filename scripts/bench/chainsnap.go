package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/node"
)

// notice is what a node logged of a snapshot: that it was written, or that a joining node has taken it.
type notice struct {
	at      time.Time
	took    time.Duration
	entries uint64
	bytes   uint64
	taken   bool
}

// notices is a log that keeps what nodes say of snapshots and drops the rest.
type notices struct {
	mu   sync.Mutex
	list []notice
	more chan struct{} // closed with each
}

func newNotices() *notices { return &notices{more: make(chan struct{})} }

// Enabled says yes: what is written about is said in detail only.
func (n *notices) Enabled(context.Context, slog.Level) bool { return true }

// Handle keeps a record of a snapshot.
func (n *notices) Handle(_ context.Context, r slog.Record) error {
	x := notice{at: r.Time, taken: r.Message == "the state is there"}
	if !x.taken && r.Message != "snapshot written" {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "took":
			x.took = a.Value.Duration()
		case "entries":
			x.entries = a.Value.Uint64()
		case "bytes":
			x.bytes = a.Value.Uint64()
		}
		return true
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, x)
	close(n.more)
	n.more = make(chan struct{})
	return nil
}

// WithAttrs is the same log.
func (n *notices) WithAttrs([]slog.Attr) slog.Handler { return n }

// WithGroup is the same log.
func (n *notices) WithGroup(string) slog.Handler { return n }

// said gives what was said from one notice on, and a channel that closes with the next one.
func (n *notices) said(from int) ([]notice, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list[min(from, len(n.list)):]), n.more
}

const (
	snapEvery  = 10 // blocks between two snapshots that are measured: the blocks in between are the baseline
	never      = 1 << 40
	fillAtOnce = 3000 // new accounts a batch
)

// snapshots is a worker whose only turn makes a state of some size and watches the blocks beside the snapshots of it.
func (c chainJob) snapshots(dir string) *piece {
	p := &piece{work: 1, found: figures{}}
	p.turn = func(ctx context.Context) error {
		homes, keys, err := c.found(dir)
		if err != nil {
			return err
		}
		log := newNotices()
		s, err := startSubnet(homes, keys, func(o *node.Options) { o.Log, o.SnapshotEvery = slog.New(log), snapEvery })
		if err != nil {
			return err
		}
		if err = s.grow(ctx, c); err == nil {
			err = s.watch(ctx, log, c.Snapshots, p.found)
		}
		if err := errors.Join(err, s.close()); err != nil {
			return err
		}
		// without new snapshots, which would replace the one that a joining node takes
		if s, err = startSubnet(homes, keys, func(o *node.Options) { o.SnapshotEvery = never }); err != nil {
			return err
		}
		if err = s.warm(ctx); err == nil {
			err = s.takeOver(ctx, dir, p.found)
		}
		height, _ := s.nodes[0].Height()
		if err := errors.Join(err, s.close()); err != nil {
			return err
		}
		return starts(homes[0], height, p.found)
	}
	return p
}

// grow makes accounts by transfers, as strangers would, and lives through windows until as many as are kept have passed.
func (s *subnet) grow(ctx context.Context, c chainJob) error {
	for made := 0; made < c.Accounts; made += fillAtOnce {
		first := made
		txs, err := payments(ctx, s, s.keys, min(fillAtOnce, c.Accounts-made), func(i int) local.Transfer {
			to := chain.Coldkey{'n', 'e', 'w'}
			binary.BigEndian.PutUint64(to[24:], uint64(first+i))
			return local.Transfer{To: to, Amount: 1}
		})
		if err == nil {
			err = s.push(ctx, txs)
		}
		if err != nil {
			return fmt.Errorf("make accounts: %w", err)
		}
	}
	if c.Windows == 0 {
		return nil
	}
	_, err := s.windows(ctx, c, nil)
	return err
}

// watch notes how long blocks take, apart for those beside which a snapshot was written.
func (s *subnet) watch(ctx context.Context, log *notices, rounds int, found figures) error {
	n := s.nodes[0]
	before, _ := log.said(0)
	type block struct{ from, to time.Time }
	var blocks []block
	height, _ := n.Height()
	var last time.Time
	for {
		heads, err := n.Heads(ctx, height)
		if err != nil {
			return err
		}
		now := time.Now()
		if len(heads) != 1 { // the watcher was late: it cannot say when which came
			last = time.Time{}
		}
		for _, h := range heads {
			height = h.Block
		}
		if !last.IsZero() && len(heads) == 1 {
			blocks = append(blocks, block{last, now})
		}
		last = now
		list, _ := log.said(len(before))
		if len(list) > rounds && now.After(list[rounds].at) {
			break
		}
	}
	list, _ := log.said(len(before))
	for _, x := range list[1:] { // the first may have begun before
		found.add("write ms", 1e3*x.took.Seconds())
		found.add("entries", float64(x.entries))
		found.add("bytes", float64(x.bytes))
	}
	for _, b := range blocks {
		name := "alone ms"
		for _, x := range list {
			if b.from.Before(x.at) && b.to.After(x.at.Add(-x.took)) {
				name = "beside ms"
			}
		}
		if b.to.After(list[0].at) {
			found.add(name, 1e3*b.to.Sub(b.from).Seconds())
		}
	}
	return nil
}

// takeOver lets a node that was never there begin with the newest snapshot.
func (s *subnet) takeOver(ctx context.Context, dir string, found figures) error {
	first := s.nodes[0]
	b, err := local.Dial(first.Addr())
	if err != nil {
		return err
	}
	home := filepath.Join(dir, "joined")
	j, err := node.Join(ctx, home, b, "127.0.0.1", chain.Hash{}, node.DefaultNet())
	if err != nil {
		return err
	}
	if _, err := node.PlanSync(ctx, home, []string{first.Addr()}, node.Trust{}); err != nil {
		return err
	}
	log := newNotices()
	o := chainOptions(home, j.Peers)
	o.Log = slog.New(log)
	from := time.Now()
	late, err := node.Start(o)
	if err != nil {
		return err
	}
	for err == nil && late.Status().CatchingUp {
		h, _ := late.Height()
		_, err = late.Heads(ctx, h)
	}
	found.add("join ms", 1e3*time.Since(from).Seconds())
	list, _ := log.said(0)
	for _, x := range list {
		if x.taken {
			found.add("take ms", 1e3*x.took.Seconds())
		}
	}
	if err = errors.Join(err, late.Close()); err == nil && len(list) == 0 {
		err = errors.New("the joining node took no snapshot")
	}
	return err
}

// snapshot is what a snapshot of a small state and of a large one costs, and the blocks beside which it is written.
func (r *chainRun) snapshot() error {
	small := r.c
	small.Windows, small.Snapshots = 0, r.flags.Int("snapshots")
	states := []chainJob{small}
	if n := r.flags.Int("accounts"); n > 0 {
		large := small
		large.Accounts, large.Windows = n, 2
		states = append(states, large)
	}
	for _, c := range states {
		r.section("chain snapshot", "%d accounts beside %d seats, blocks of %d ms, a snapshot every %d", c.Accounts, c.Miners+c.Validators, c.BlockMS, snapEvery)
		w, err := ours(r.ctx, r.job("chain-snapshot", c))
		if err != nil {
			return err
		}
		one := &contender{by: "sn3", w: w, turns: 1}
		reply, err := w.ask(r.ctx, 1)
		if err = errors.Join(err, w.close()); err != nil {
			return err
		}
		one.replies = append(one.replies, reply)
		for _, f := range [][3]string{{"entries", "", "entries"}, {"size", "bytes", "bytes"}, {"write", "ms", "write ms"}, {"take: fetch and check", "ms", "take ms"}, {"join until it follows", "ms", "join ms"}, {"start", "ms", "start ms"}} {
			row := one.of(f[0], f[1], f[2])
			if f[2] == "start ms" {
				row.Memory = reply.Memory
			}
			r.add(row)
		}
		for _, q := range []float64{0.5, 0.95, 1} {
			alone, beside := one.quantile("block alone", "ms", q, "alone ms"), one.quantile("block beside", "ms", q, "beside ms")
			beside.Share, beside.Of = beside.Median/alone.Median, "alone"
			r.add(alone)
			r.add(beside)
		}
	}
	return nil
}
