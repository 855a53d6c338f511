package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	if _, err := exec.LookPath("go"); err != nil {
		return "", fmt.Errorf("%w: a chaind with a clock of its own is built by the go command, which is not there", errSkip)
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find the standard library: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	if src, err = filepath.EvalSymlinks(src); err != nil {
		return "", err
	}
	plain, err := os.ReadFile(filepath.Join(src, "time.go"))
	if err != nil {
		return "", err
	}
	const head = "func Now() Time {\n"
	if strings.Count(string(plain), head) != 1 {
		return "", errors.New("package time of this Go is another one than expected; adapt scripts/chainsoak/clock.go")
	}
	changed := strings.Replace(string(plain), head, "func Now() Time { return shifted(unshifted()) }\n\n"+strings.Replace(head, "Now", "unshifted", 1), 1)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(src, "time.go"): filepath.Join(dir, "time.go.txt"), filepath.Join(src, "shift.go"): filepath.Join(dir, "shift.go.txt")}})
	if err != nil {
		return "", err
	}
	for name, b := range map[string][]byte{"time.go.txt": []byte(changed), "shift.go.txt": shiftSource, "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return "", err
		}
	}
	out := filepath.Join(dir, "chaind-skewed")
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", out, "sn3/chain/chaind")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build a chaind with a clock of its own: %w: %s", err, said)
	}
	return out, nil
}

// clock lets one node's clock jump, there and back: the chain goes on with it, and keeps the time of the others.
func clock(ctx context.Context, n *network, rounds int) error {
	bin, err := skewed(ctx, n.dir)
	if err != nil {
		return err
	}
	for i := range rounds {
		m := n.any()
		file := m.home + ".clock"
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		m.chaind, m.env = bin, []string{clockEnv + "=" + file}
		if err := errors.Join(set(file, 0), m.start(ctx)); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
		by := jump
		if (i+n.rng.IntN(2))%2 == 0 {
			by = -jump
		}
		for _, d := range []time.Duration{by, 0, -by, 0} {
			n.log.Info("clock", "node", m.name(), "shift", d)
			n.faults++
			if err := set(file, d); err != nil {
				return err
			}
			if err := n.goOn(ctx, 15, n.nodes...); err != nil {
				return fmt.Errorf("clock of %s by %s: %w", m.name(), d, err)
			}
			if err := n.onTime(ctx); err != nil {
				return err
			}
		}
		if at, err = n.down(ctx, m); err != nil {
			return err
		}
		m.chaind, m.env = n.chaind, nil
		if err := m.start(ctx); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
	}
	return nil
}

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
