package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sn3/internal/proc"
	"sn3/storage"
)

// small starts a server on a disk of its own.
func small(t *testing.T, options, accounts string) *s3d {
	t.Helper()
	disk := t.TempDir()
	return launch(t, func(cmd *exec.Cmd) error {
		onDisk(cmd, disk, options)
		if err := cmd.Start(); err != nil {
			t.Skipf("this machine gives a test no disk of its own: %v", err)
		}
		return nil
	}, "--dir", filepath.Join(disk, "s3"), "--accounts", accounts)
}

// A full disk refuses uploads and says so; what was acknowledged stays whole, also what an upload would have replaced, and
// deleting makes room again.
func TestFullDisk(t *testing.T) {
	skipWithoutDisks(t)
	accounts := filepath.Join(t.TempDir(), "accounts.json")
	write(t, accounts, account("alice", "alice-secret"))
	for name, size := range map[string]int{"large": 1 << 20, "small": 10} {
		t.Run(name, func(t *testing.T) {
			s := small(t, "size=4m,nr_inodes=500", accounts)
			b, ctx := s.open(t, "alice", "alice-secret"), t.Context()
			var kept []string
			var err error
			for i := range uint32(1000) {
				key := fmt.Sprintf("k/%03d", i)
				if err = b.Put(ctx, key, filled(size, i)); err != nil {
					break
				}
				kept = append(kept, key)
			}
			if !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "disk is full") {
				t.Fatalf("after %d objects: %v, want ErrUnavailable and why", len(kept), err)
			}
			if len(kept) == 0 {
				t.Fatal("no object fits")
			}
			if err := b.Put(ctx, kept[0], filled(4<<20, 7)); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("a larger object over an older one: %v, want ErrUnavailable", err)
			}
			objs, err := b.List(ctx, "", "", 2000)
			if err != nil || len(objs) != len(kept) {
				t.Errorf("%d objects, %v; %d were acknowledged", len(objs), err, len(kept))
			}
			for i, key := range kept {
				if got, err := b.Get(ctx, key, 4<<20); err != nil || !bytes.Equal(got, filled(size, uint32(i))) {
					t.Errorf("%s: %d bytes, %v", key, len(got), err)
				}
			}
			if err := b.Delete(ctx, kept...); err != nil {
				t.Errorf("delete on a full disk: %v", err)
			}
			if err := b.Put(ctx, "again", filled(size, 1)); err != nil {
				t.Errorf("after making room: %v", err)
			}
		})
	}
}

// A server that cannot even make its folders says what to do.
func TestStartOnFullDisk(t *testing.T) {
	skipWithoutDisks(t)
	disk := t.TempDir()
	cmd := command("run", "--dir", filepath.Join(disk, "s3"))
	onDisk(cmd, disk, "nr_inodes=2")
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != proc.ExitFailure || !strings.Contains(string(out), "choose a folder that this user may write, on a disk with room") {
		t.Errorf("%v: %s", err, out)
	}
}

// skipWithoutDisks skips a test where a child may not have a disk of its own.
func skipWithoutDisks(t *testing.T) {
	t.Helper()
	cmd := command("--version")
	onDisk(cmd, t.TempDir(), "size=1m")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == noNamespace || errors.Is(err, os.ErrPermission) {
		t.Skipf("this machine gives a test no disk of its own: %s %v", out, err)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
