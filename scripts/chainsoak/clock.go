package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// shiftSource joins package time in a chaind whose clock can be set apart from this machine's.
//
//go:embed testdata/shift.go.txt
var shiftSource []byte

const (
	clockEnv = "SN3_CLOCK_SHIFT" // names a file with seconds; see testdata/shift.go.txt
	jump     = 10 * time.Minute
)

// skewed builds such a chaind with another package time. That compiles all of it again, once: the build cache keeps it.
func skewed(ctx context.Context, dir string) (string, error) {
	root, err := goTool(ctx, "env", "GOROOT")
	if err != nil {
		return "", err
	}
	src, err := filepath.EvalSymlinks(filepath.Join(root, "src", "time"))
	if err != nil {
		return "", err
	}
	return variant(ctx, dir, "skewed",
		edit{filepath.Join(src, "time.go"), "func Now() Time {\n", "func Now() Time { return shifted(unshifted()) }\n\nfunc unshifted() Time {\n"},
		edit{filepath.Join(src, "shift.go"), "", string(shiftSource)})
}

// clock lets one node's clock jump, there and back, then those of all at once: the chain goes on, and keeps the time of more than
// half while there is such.
func clock(ctx context.Context, n *network, rounds int) error {
	bin, err := skewed(ctx, n.dir)
	if err != nil {
		return err
	}
	for _, m := range n.nodes {
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		m.chaind, m.env = bin, []string{clockEnv + "=" + m.clock()}
		if err := errors.Join(set(m.clock(), 0), m.start(ctx)); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
	}
	for range rounds {
		by := jump
		if n.rng.IntN(2) == 0 {
			by = -jump
		}
		m := n.any()
		for _, d := range []time.Duration{by, 0, -by, 0} {
			if err := n.jump(ctx, d, m); err != nil {
				return err
			}
			if err := n.onTime(ctx); err != nil {
				return err
			}
		}
	}
	for range rounds { // forwards and back again: the newest block is then ten minutes ahead of every clock
		for _, d := range []time.Duration{jump, 0, -jump} {
			if err := n.jump(ctx, d, n.nodes...); err != nil {
				return err
			}
		}
		m := n.any() // and a node that starts on such a day
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		if err := m.start(ctx); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
	}
	return nil
}

// jump sets the clocks of nodes apart and waits for blocks.
func (n *network) jump(ctx context.Context, by time.Duration, list ...*member) error {
	for _, m := range list {
		n.log.Info("clock", "node", m.name(), "shift", by)
		n.faults++
		if err := set(m.clock(), by); err != nil {
			return err
		}
	}
	if err := n.goOn(ctx, 15, n.nodes...); err != nil {
		return fmt.Errorf("clocks of %d nodes by %s: %w", len(list), by, err)
	}
	return nil
}

func (m *member) clock() string { return m.home + ".clock" }

// set replaces the shift of a clock; the file is never empty.
func set(file string, by time.Duration) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%+015d", int64(by/time.Second)), 0)
	return errors.Join(err, f.Close())
}

// onTime holds the newest block's time against this machine's clock: one wrong clock of four moves it by less than what it is
// wrong by.
func (n *network) onTime(ctx context.Context) error {
	c, err := n.nodes[0].client()
	if err != nil {
		return err
	}
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if off := time.Since(st.Time); off.Abs() > jump/2 {
		n.violated("block %d is of %s, %s from now", st.Height, st.Time, off)
	}
	return nil
}
