package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// joins lets new nodes begin with a snapshot of the others, killed on their way at random moments.
func joins(ctx context.Context, n *network, rounds int) error {
	const every = 20
	_, at, err := heights(ctx, n.nodes)
	if err != nil {
		return err
	}
	for _, m := range n.nodes {
		if err := m.stop(); err != nil {
			return err
		}
		m.flags = []string{"--snapshot-every", fmt.Sprint(every)}
	}
	if err := n.start(ctx, n.nodes...); err != nil {
		return err
	}
	if err := n.recovered(ctx, at, n.nodes...); err != nil {
		return err
	}
	for i := range rounds {
		if err := n.goOn(ctx, 2*every, n.nodes...); err != nil { // a snapshot is complete, and blocks after it
			return err
		}
		ports := freePorts(2)
		m := &member{id: size + i, home: filepath.Join(n.dir, fmt.Sprint("new", i+1)), api: ports[0], p2p: ports[1], chaind: n.chaind, log: n.log}
		p := n.rng.Perm(size)
		said, err := exec.CommandContext(ctx, n.chaind, "join", "--home", m.home, "--rpc", n.nodes[p[0]].api, "--rpc", n.nodes[p[1]].api,
			"--sync", "state", "--p2p-listen", m.p2p).CombinedOutput()
		if err != nil {
			return fmt.Errorf("join: %w: %s", err, said)
		}
		if err := n.newcomer(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// newcomer starts a node that joins, kills it up to three times, and lets it go again when it has followed for some blocks.
func (n *network) newcomer(ctx context.Context, m *member) error {
	_, at, err := heights(ctx, n.nodes)
	if err != nil {
		return err
	}
	for range n.rng.IntN(4) {
		if err := m.start(ctx); err != nil {
			return err
		}
		if err := n.pause(ctx, patience/180); err != nil {
			return err
		}
		n.faults++
		if err := m.kill(); err != nil {
			return err
		}
	}
	if err := m.start(ctx); err != nil {
		return err
	}
	if err := n.recovered(ctx, at, m); err != nil {
		return err
	}
	if err := n.goOn(ctx, 5, m); err != nil {
		return err
	}
	if err := errors.Join(n.compareAll(ctx, append([]*member{m}, n.nodes...)), m.stop()); err != nil {
		return err
	}
	if err := n.inspect(m); err != nil {
		return err
	}
	n.log.Info("joined", "node", m.name(), "at", at)
	return nil
}
