package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"sn3/chain/local"
	"sn3/chain/local/node"
)

// squad is a network whose nodes are processes of their own, as its operators run them: workers of a worker. The first turn of
// each has it meet the others; then of two turns the first signs its share of the transactions and the second hands them in, so
// that all begin at the same time.
type squad []*worker

// apart is a worker that has others do the work.
func (j job) apart(ctx context.Context) (*piece, error) {
	c := j.Chain
	homes, _, err := c.found(j.Dir)
	if err != nil {
		return nil, err
	}
	var s squad
	var peers []string
	for i, home := range homes {
		own := job{Task: "chain-member", Form: j.Task, Dir: home, Threads: j.Threads, Peers: peers, Chain: c}
		own.Chain.Index = i
		if j.Profile != "" {
			own.Profile = fmt.Sprintf("%s.%d", j.Profile, i)
		}
		w, err := ours(ctx, own)
		if err != nil {
			s.close()
			return nil, err
		}
		s, peers = append(s, w), append(peers[:len(peers):len(peers)], w.ready.What)
	}
	if _, err := s.ask(ctx, 1); err != nil {
		s.close()
		return nil, err
	}
	p := &piece{found: figures{}, work: float64(c.Txs), close: func() error { s.close(); return nil }, cpu: s.cpu}
	var peak int64
	p.memory = func() int64 { return peak }
	turn := func(s squad) func(context.Context) error {
		return func(ctx context.Context) error {
			replies, err := s.ask(ctx, 1)
			peak = 0
			for _, r := range replies {
				peak += r.Memory
				for name, v := range r.Figures {
					p.found.add(name, v...)
				}
			}
			return err
		}
	}
	if j.Task == "chain-latency" {
		p.turn = turn(s[:1])
		return p, nil
	}
	p.before, p.turn = turn(s), turn(s)
	return p, nil
}

// ask has all make their turns at the same time.
func (s squad) ask(ctx context.Context, n int) ([]reply, error) {
	replies := make([]reply, len(s))
	var g errgroup.Group
	for i, w := range s {
		g.Go(func() (err error) {
			if replies[i], err = w.ask(ctx, n); err != nil {
				err = fmt.Errorf("node %d: %w", i, err)
			}
			return err
		})
	}
	return replies, g.Wait()
}

func (s squad) cpu() (seconds float64) {
	for _, w := range s {
		seconds += used(w.cmd.Process.Pid)
	}
	return seconds
}

// close ends them all at once: nobody waits for the others.
func (s squad) close() {
	var g errgroup.Group
	for _, w := range s {
		g.Go(w.close)
	}
	_ = g.Wait() // what they could say, they have said
}

// member is a worker with one node of a network of processes; it says where its node meets others.
func (j job) member() (*piece, error) {
	c := j.Chain
	_, _, keys, err := c.genesis()
	if err != nil {
		return nil, err
	}
	var own []local.Signer
	for i := c.Index; i < len(keys); i += c.Nodes {
		own = append(own, keys[i])
	}
	var n network
	p := &piece{found: figures{}, work: 1}
	if c.Bare {
		b, err := node.StartBare(chainOptions(j.Dir, j.Peers))
		if err != nil {
			return nil, err
		}
		n, p.ready.What = &engines{list: []*node.Bare{b}, by: c.Nodes}, b.Peer()
		if j.Form == "chain-latency" {
			n = &engines{list: []*node.Bare{b}, by: 1}
		}
	} else {
		b, err := node.Start(chainOptions(j.Dir, j.Peers))
		if err != nil {
			return nil, err
		}
		st := b.Status()
		n, p.ready.What = &subnet{nodes: []*node.Node{b}, keys: own}, st.ID+"@"+st.Listen
	}
	p.close = n.close
	turn := 0
	var txs [][][]byte
	p.turn = func(ctx context.Context) (err error) {
		turn++
		switch {
		case turn == 1:
			return n.warm(ctx)
		case j.Form == "chain-latency":
			for range c.Txs {
				took, err := single(ctx, n, own)
				if err != nil {
					return err
				}
				p.found.add("ms", took)
			}
			return nil
		case turn%2 == 0:
			txs, err = transfers(ctx, n, own, (c.Txs-c.Index+c.Nodes-1)/c.Nodes)
			return err
		default:
			return n.push(ctx, txs)
		}
	}
	return p, nil
}
