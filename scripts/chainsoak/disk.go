package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// errSkip: this machine cannot do what a scenario needs.
var errSkip = errors.New("skipped")

const diskSize = 64 << 20

// fullDisk moves a node's folder onto a small disk, or where none can be made, gives it a limit for its files.
func fullDisk(ctx context.Context, n *network, rounds int) error {
	for range rounds {
		m := n.any()
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		free, err := n.shortOfRoom(ctx, m)
		if err != nil {
			return err
		}
		said, err := n.endsSoon(ctx, m)
		if err != nil {
			n.violated("%s goes on without room", m.name())
			return err
		}
		n.log.Info("ended", "node", m.name(), "said", said)
		if n.words(m, said); !strings.Contains(said, "disk") {
			n.violated("%s does not speak of its disk: %q", m.name(), said)
		}
		if err := n.inspect(m); err != nil {
			return err
		}
		if err := n.goOn(ctx, 5, n.without(m)...); err != nil {
			return fmt.Errorf("the others: %w", err)
		}
		if err := errors.Join(free(), m.start(ctx)); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
		if err := n.back(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// shortOfRoom starts a node that soon has no room; free gives it some.
func (n *network) shortOfRoom(ctx context.Context, m *member) (free func() error, err error) {
	if !mounts() {
		st, err := os.Stat(m.file("sn3.db"))
		if err != nil {
			return nil, err
		}
		m.limit = fmt.Sprintf("ulimit -f %d", st.Size()/512+64)
		n.log.Info("no disk can be mounted: a limit for files instead", "limit", m.limit)
		return func() error { m.limit = ""; return nil }, m.start(ctx)
	}
	if err := n.disk(m); err != nil {
		return nil, err
	}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	f, err := os.Create(m.file("ballast"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := io.Copy(f, io.LimitReader(zeros{}, diskSize)); !errors.Is(err, syscall.ENOSPC) {
		return nil, fmt.Errorf("fill the disk: %v", err)
	}
	return func() error { return os.Remove(m.file("ballast")) }, nil
}

type zeros struct{}

// Read gives zeros.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// disk moves the folder of a node that is down onto a disk of its own.
func (n *network) disk(m *member) error {
	plain := m.home + ".plain"
	if err := errors.Join(os.Rename(m.home, plain), os.Mkdir(m.home, 0o700), mount(m.home, diskSize)); err != nil {
		return fmt.Errorf("make a small disk: %w", err)
	}
	return errors.Join(os.CopyFS(m.home, os.DirFS(plain)), os.RemoveAll(plain))
}

// back moves it back.
func (n *network) back(ctx context.Context, m *member) error {
	if !mounts() {
		return nil
	}
	if err := m.stop(); err != nil {
		return err
	}
	plain := m.home + ".plain"
	if err := errors.Join(os.CopyFS(plain, os.DirFS(m.home)), unmount(m.home), os.Remove(m.home), os.Rename(plain, m.home)); err != nil {
		return fmt.Errorf("leave the small disk: %w", err)
	}
	return m.start(ctx)
}

// readOnly starts a node where it cannot write.
func readOnly(ctx context.Context, n *network, rounds int) error {
	if !mounts() {
		return fmt.Errorf("%w: no disk can be mounted", errSkip)
	}
	for range rounds {
		m := n.any()
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		if err := errors.Join(n.disk(m), writable(m.home, false)); err != nil {
			return err
		}
		switch err := m.start(ctx); {
		case errors.Is(err, errEnded):
			n.log.Info("refused", "node", m.name(), "said", err.Error())
			n.words(m, err.Error())
		case err == nil:
			n.violated("%s runs on a disk that it cannot write", m.name())
			return m.kill()
		default:
			return err
		}
		if err := errors.Join(writable(m.home, true), m.start(ctx)); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
		if err := n.back(ctx, m); err != nil {
			return err
		}
	}
	return nil
}
