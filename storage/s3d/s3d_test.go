package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sn3/storage"
)

// s3d is a running child process.
type s3d struct {
	cmd    *exec.Cmd
	stderr *output
	ready  string
	Port   int
	PID    int
	exited chan error
}

// output is a buffer that a child writes while a test reads it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "S3D_TEST_CHILD=1")
	return cmd
}

// eventually polls until f says yes.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func startS3D(t *testing.T, extra []*os.File, args ...string) *s3d {
	t.Helper()
	return launch(t, func(cmd *exec.Cmd) error {
		cmd.ExtraFiles = extra
		return cmd.Start()
	}, args...)
}

// launch starts a child by start and waits until it serves.
func launch(t *testing.T, start func(*exec.Cmd) error, args ...string) *s3d {
	t.Helper()
	s := &s3d{stderr: &output{}, ready: filepath.Join(t.TempDir(), "ready.json"), exited: make(chan error, 1)}
	s.cmd = command(append([]string{"run", "--ready-file", s.ready}, args...)...)
	s.cmd.Stderr = s.stderr
	if err := start(s.cmd); err != nil {
		t.Fatal(err)
	}
	go func() { s.exited <- s.cmd.Wait() }()
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	eventually(t, "ready file", func() bool {
		select {
		case err := <-s.exited:
			t.Fatalf("s3d ended: %v\n%s", err, s.stderr)
		default:
		}
		b, err := os.ReadFile(s.ready)
		return err == nil && json.Unmarshal(b, s) == nil
	})
	return s
}

func (s *s3d) open(t *testing.T, bucket, secret string) *storage.Bucket {
	t.Helper()
	l, err := storage.Local(bucket)
	if err != nil {
		t.Fatal(err)
	}
	c, err := storage.NewCredential(bucket+"-key", secret)
	if err != nil {
		t.Fatal(err)
	}
	b, err := storage.Open(l, c, storage.DialPolicy{Loopback: true, LocalPort: s.Port})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *s3d) wait(t *testing.T, code int) {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		t.Fatal("s3d does not end")
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d\n%s", got, code, s.stderr)
	}
	if _, err := os.Stat(s.ready); !os.IsNotExist(err) {
		t.Errorf("ready file after a clean end: %v", err)
	}
}

func account(bucket, secret string) storage.Account {
	return storage.Account{Bucket: bucket, AccessKey: bucket + "-key", Secret: secret}
}

func write(t *testing.T, path string, list ...storage.Account) {
	t.Helper()
	if err := storage.WriteAccounts(path, list); err != nil {
		t.Fatal(err)
	}
}

func TestAccountsAreFollowedAndKilledServerLosesNothing(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	accounts := filepath.Join(dir, "accounts.json")
	write(t, accounts, account("alice", "alice-secret"))
	s := startS3D(t, nil, "--dir", filepath.Join(dir, "s3"), "--accounts", accounts)
	if err := s.open(t, "alice", "alice-secret").Put(ctx, "k", []byte("acknowledged")); err != nil {
		t.Fatal(err)
	}
	// A bucket joins, a secret changes, a broken file changes nothing, an account leaves.
	write(t, accounts, account("alice", "alice-other"), account("bob", "bob-secret"))
	eventually(t, "bob's bucket", func() bool { return s.open(t, "bob", "bob-secret").Put(ctx, "k", nil) == nil })
	if err := s.open(t, "alice", "alice-secret").Put(ctx, "k", nil); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("old secret: %v, want ErrDenied", err)
	}
	if err := os.WriteFile(accounts, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "complaint", func() bool { return strings.Contains(s.stderr.String(), "accounts stay as they were") })
	write(t, accounts, account("alice", "alice-other"))
	eventually(t, "bob without a key", func() bool {
		return errors.Is(s.open(t, "bob", "bob-secret").Put(ctx, "k", nil), storage.ErrDenied)
	})
	// Killed and started again on the same port.
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.exited
	s = startS3D(t, nil, "--dir", filepath.Join(dir, "s3"), "--accounts", accounts, "--listen", fmt.Sprintf("127.0.0.1:%d", s.Port))
	got, err := s.open(t, "alice", "alice-other").Get(ctx, "k", 100)
	if err != nil || string(got) != "acknowledged" {
		t.Errorf("after a kill: %q, %v", got, err)
	}
	if s.PID != s.cmd.Process.Pid {
		t.Errorf("ready file says pid %d, want %d", s.PID, s.cmd.Process.Pid)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.wait(t, 0)
	if out := s.stderr.String(); strings.Contains(out, "alice-other") {
		t.Errorf("a secret in the log:\n%s", out)
	}
}

func TestEndsWithParent(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := startS3D(t, []*os.File{r}, "--dir", t.TempDir(), "--parent-fd", "3", "--log-format", "json")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.wait(t, 0)
}

func TestRefusals(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"run", "--dir", dir, "--listen", l.Addr().String()}, 1, "port is taken; stop what uses it, or give another port"},
		{[]string{"run", "--dir", file}, 1, "make S3 folder"},
		{[]string{"run", "--dir", dir, "--listen", "0.0.0.0:1"}, 1, "127.0.0.1:PORT"},
		{[]string{"run"}, 2, "--dir is missing"},
		{[]string{"run", "--dri", dir}, 2, "did you mean --dir?"},
		{[]string{"run", "--dir", dir, "--parent-fd", "1"}, 2, "--parent-fd 1"},
		{[]string{"run", "--dir", dir, "--parent-fd", "x"}, 2, "parent-fd"},
		{[]string{"run", "--dir", dir, "--log-format", "xml"}, 2, "text or json"},
		{[]string{"run", "--dir", dir, "--root-access-key", "root"}, 2, "--root-secret-file"},
		{[]string{"run", "--dir", dir, "--root-access-key", "root", "--root-secret-file", filepath.Join(dir, "none")}, 2, "no such file"},
		{[]string{"run", "surplus", "--dir", dir}, 2, "surplus"},
		{[]string{"rnu"}, 2, `no command "rnu"`},
		{[]string{"--version"}, 0, ""},
		{[]string{"run", "--help"}, 0, ""},
	} {
		t.Run(strings.Join(c.args[:min(2, len(c.args))], " ")+" "+c.says, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			cmd := command(c.args...)
			stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
			defer stop()
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			_ = cmd.Run() // the exit code says it
			if got := cmd.ProcessState.ExitCode(); got != c.code || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("exit code %d, want %d; stderr, want %q in it:\n%s", got, c.code, c.says, stderr.String())
			}
		})
	}
}

// A key that moves to another bucket writes that one only, in this life of the server and in the next.
func TestKeyMovesToAnotherBucket(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	accounts := filepath.Join(dir, "accounts.json")
	old := storage.Account{Bucket: "old", AccessKey: "moving-key", Secret: "moving-secret"}
	moved := storage.Account{Bucket: "moving", AccessKey: "moving-key", Secret: "moving-secret"}
	open := func(s *s3d, bucket string) *storage.Bucket {
		l, err := storage.Local(bucket)
		if err != nil {
			t.Fatal(err)
		}
		c, err := storage.NewCredential("moving-key", "moving-secret")
		if err != nil {
			t.Fatal(err)
		}
		b, err := storage.Open(l, c, storage.DialPolicy{Loopback: true, LocalPort: s.Port})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write(t, accounts, old)
	s := startS3D(t, nil, "--dir", filepath.Join(dir, "s3"), "--accounts", accounts)
	if err := open(s, "old").Put(ctx, "k", []byte("old")); err != nil {
		t.Fatal(err)
	}
	check := func(life string) {
		if err := open(s, "old").Put(ctx, "k", nil); !errors.Is(err, storage.ErrDenied) {
			t.Errorf("%s: old bucket: %v, want ErrDenied", life, err)
		}
		if got, err := open(s, "old").Get(ctx, "k", 10); err != nil || string(got) != "old" {
			t.Errorf("%s: reading the old bucket: %q, %v", life, got, err)
		}
	}
	write(t, accounts, moved)
	eventually(t, "the new bucket", func() bool { return open(s, "moving").Put(ctx, "k", nil) == nil })
	eventually(t, "the old one closed", func() bool { return errors.Is(open(s, "old").Put(ctx, "k", []byte("old")), storage.ErrDenied) })
	check("the same life")
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.exited
	s = startS3D(t, nil, "--dir", filepath.Join(dir, "s3"), "--accounts", accounts)
	check("the next life")
	write(t, accounts, old, storage.Account{Bucket: "moving", AccessKey: "other-key", Secret: "other-secret"})
	eventually(t, "the old bucket again", func() bool { return open(s, "old").Put(ctx, "k", nil) == nil })
	// A file that is gone for a moment changes nothing.
	if err := os.Remove(accounts); err != nil {
		t.Fatal(err)
	}
	eventually(t, "complaint", func() bool { return strings.Contains(s.stderr.String(), "accounts stay as they were") })
	if err := open(s, "old").Put(ctx, "k", nil); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

// What the library prints by itself becomes lines of the log.
func TestLogIsAllJSON(t *testing.T) {
	s := startS3D(t, nil, "--dir", t.TempDir(), "--log-format", "json")
	eventually(t, "a message of the library", func() bool { // about a request that is reset in the middle of its headers
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(c, "PUT /alice/k HTTP/1.1\r\nHost")
		if tcp, ok := c.(*net.TCPConn); ok {
			err = errors.Join(err, tcp.SetLinger(0))
		}
		if err := errors.Join(err, c.Close()); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(s.stderr.String(), `"says":"[INTERNAL ERROR]`)
	})
	for line := range strings.Lines(s.stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %q", line)
		}
	}
}
