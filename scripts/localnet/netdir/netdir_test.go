package netdir

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sn3/chain"
)

// The test binary plays the programs of a network: NETDIR_TEST says which.
func TestMain(m *testing.M) {
	switch os.Getenv("NETDIR_TEST") {
	case "dies":
		fmt.Fprintln(os.Stderr, "cannot write: disk full")
		os.Exit(1)
	case "stays": // as long as its parent lives, like every program of ours
		_, _ = io.Copy(io.Discard, os.NewFile(3, "parent"))
		os.Exit(0)
	case "stubborn": // neither the parent's end nor a signal ends it
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		select {}
	case "launcher":
		os.Exit(launcher())
	}
	os.Exit(m.Run())
}

// launcher locks a folder, starts a child that holds the lock, says so and waits to be killed.
func launcher() int {
	lock, err := Dir(os.Getenv("NETDIR_TEST_DIR")).Lock()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	k, err := Keep(Spec{Name: "child", Bin: os.Args[0], Log: Dir(os.Getenv("NETDIR_TEST_DIR")).Path("child.log"), Env: []string{"NETDIR_TEST=stays"}, Hold: lock})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(k.PID())
	select {}
}

func spec(t *testing.T, mode string) Spec {
	t.Helper()
	return Spec{Name: mode, Bin: os.Args[0], Log: filepath.Join(t.TempDir(), "log"), Env: []string{"NETDIR_TEST=" + mode}}
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: nothing for half a minute", what)
	}
}

// A process that dies is started again Restarts times, not in a row without a pause, and then is dead, with its last words.
func TestKept(t *testing.T) {
	k, err := Keep(spec(t, "dies"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	for i := range Restarts {
		within(t, "end", k.Ended())
		if d := k.Dead(); d != "" {
			t.Fatalf("dead after %d restarts: %s", i, d)
		}
		said := k.Heal(now)
		if want := fmt.Sprintf("disk full; starting it again (%d left)", Restarts-1-i); !strings.Contains(said, want) {
			t.Fatalf("restart %d: said %q, want %q", i, said, want)
		}
		within(t, "end", k.Ended())
		if said := k.Heal(now.Add(restartPause - 1)); said != "" {
			t.Fatalf("started again at once: %s", said)
		}
		now = now.Add(restartPause)
	}
	if said := k.Heal(now); said != "" {
		t.Errorf("started once more: %s", said)
	}
	if d := k.Dead(); !strings.Contains(d, "exit status 1") || !strings.Contains(d, "disk full") {
		t.Errorf("dead: %q", d)
	}
}

// Stop ends a process that listens, and kills one that does not.
func TestStop(t *testing.T) {
	polite, err := Start(spec(t, "stays"))
	if err != nil {
		t.Fatal(err)
	}
	polite.Stop(time.Minute)
	within(t, "end of a polite process", polite.Ended())

	s := spec(t, "stubborn")
	stubborn, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	for ready := false; !ready; { // it ignores SIGTERM only once it says so
		b, err := os.ReadFile(s.Log)
		if err != nil {
			t.Fatal(err)
		}
		ready = strings.Contains(string(b), "ready")
	}
	stubborn.Stop(0)
	if err := stubborn.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("ended by %v", err)
	}
	if _, err := Start(Spec{Name: "x", Bin: filepath.Join(t.TempDir(), "none"), Log: filepath.Join(t.TempDir(), "log")}); err == nil {
		t.Error("a program that is not there was started")
	}
	if _, err := Start(Spec{Name: "x", Bin: os.Args[0], Log: filepath.Join(t.TempDir(), "no", "folder")}); err == nil {
		t.Error("started without a log")
	}
}

// When a launcher is killed, its children end, and only then is the folder free.
func TestKilledLauncher(t *testing.T) {
	d := Dir(t.TempDir())
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "NETDIR_TEST=launcher", "NETDIR_TEST_DIR="+string(d))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !Alive(child) {
		t.Fatalf("child %q: %v", line, err)
	}
	if _, err := d.Lock(); !errors.Is(err, ErrRunning) || d.Holder() != c.Process.Pid {
		t.Fatalf("%v, held by %d; want ErrRunning, %d", err, d.Holder(), c.Process.Pid)
	}
	if _, err := d.LockWhenFree(t.Context(), func(s string) { t.Error("waits for a live launcher: " + s) }); !errors.Is(err, ErrRunning) {
		t.Fatal(err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // killed
	lock, err := d.LockWhenFree(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if d.Holder() != os.Getpid() {
		t.Errorf("held by %d, want %d", d.Holder(), os.Getpid())
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}

func TestFolders(t *testing.T) {
	put := func(d Dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(d.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name     string
		make     func(d Dir)
		foreign  bool
		settings error // of reading them
	}{
		{"empty", func(Dir) {}, false, ErrNotOurs},
		{"only the lock", func(d Dir) { put(d, "lock", "") }, false, ErrNotOurs},
		{"somebody's", func(d Dir) { put(d, "thesis.txt", "") }, true, ErrNotOurs},
		{"somebody's network.json", func(d Dir) { put(d, "network.json", `{"name": "office"}`) }, true, ErrNotOurs},
		{"somebody's creating", func(d Dir) { put(d, "creating", "") }, true, ErrNotOurs},
		{"begun", func(d Dir) {
			if err := d.Begin(); err != nil {
				t.Fatal(err)
			}
		}, false, ErrNotOurs},
		{"made", func(d Dir) {
			if err := d.SaveSettings(Settings{Format: Format, Miners: 3}); err != nil {
				t.Fatal(err)
			}
		}, false, nil},
		{"made by a later version", func(d Dir) { put(d, "network.json", `{"format": 2, "miners": "many"}`) }, false, ErrFormat},
	} {
		d := Dir(t.TempDir())
		c.make(d)
		if err := d.Foreign(); errors.Is(err, ErrNotOurs) != c.foreign {
			t.Errorf("%s: foreign: %v", c.name, err)
		}
		if _, err := d.Settings(); !errors.Is(err, c.settings) {
			t.Errorf("%s: settings: %v, want %v", c.name, err, c.settings)
		}
	}
	if err := Dir(filepath.Join(t.TempDir(), "none")).Foreign(); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// An unfinished folder is emptied but for its lock, and is then as new.
func TestDiscard(t *testing.T) {
	d := Dir(t.TempDir())
	lock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := d.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(d.NodePath("miner-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.SaveSettings(Settings{Format: Format}); err != nil {
		t.Fatal(err)
	}
	if !d.Unfinished() {
		t.Error("not unfinished")
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Settings(); d.Unfinished() || !errors.Is(err, ErrNotOurs) {
		t.Errorf("after Discard: unfinished %v, settings %v", d.Unfinished(), err)
	}
	if _, err := d.Lock(); !errors.Is(err, ErrRunning) {
		t.Errorf("the lock was lost: %v", err)
	}
}

func TestSettingsAndRuntime(t *testing.T) {
	d := Dir(t.TempDir())
	s := Settings{Format: Format, Network: "local-1", Miners: 2, Nodes: []Node{{Name: "miner-1", Role: "miner", Hotkey: chain.Hotkey{7}, P2P: 4000}}}
	r := Runtime{PID: 3, Chain: "127.0.0.1:4", PIDs: map[string]int{"miner-1": 5}}
	if rt, err := d.Runtime(); err != nil || rt.PID != 0 {
		t.Errorf("no runtime.json: %+v, %v", rt, err)
	}
	if err := errors.Join(d.SaveSettings(s), d.SaveRuntime(r)); err != nil {
		t.Fatal(err)
	}
	gotS, err1 := d.Settings()
	gotR, err2 := d.Runtime()
	if want, got := mustJSON(t, s, r), mustJSON(t, gotS, gotR); err1 != nil || err2 != nil || got != want {
		t.Errorf("%s, %v, %v; want %s", got, err1, err2, want)
	}
	if names, err := Names(string(d)); err != nil || names[chain.Hotkey{7}] != "miner-1" {
		t.Errorf("names: %v, %v", names, err)
	}
	if err := os.WriteFile(d.Path("runtime.json"), []byte(`{"pid":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Runtime(); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("torn runtime.json: %v", err)
	}
}

func mustJSON(t *testing.T, v ...any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The old port is kept when it is free, else another is found.
func TestFreePort(t *testing.T) {
	p, err := FreePort(0)
	if err != nil || p == 0 {
		t.Fatal(p, err)
	}
	if again, err := FreePort(p); err != nil || again != p {
		t.Errorf("free port %d became %d, %v", p, again, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := l.Addr().(*net.TCPAddr).Port
	if other, err := FreePort(busy); err != nil || other == busy || other == 0 {
		t.Errorf("busy port %d became %d, %v", busy, other, err)
	}
}

func TestLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	for text, want := range map[string]string{
		"":                                     "see x.log",
		"\n\n":                                 "see x.log",
		"one":                                  "one",
		"one\ntwo\n\n":                         "two",
		strings.Repeat("a", 5000) + "\nlast\n": "last",
		strings.Repeat("a", 5000):              strings.Repeat("a", maxLine),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := LastLine(path); got != want {
			t.Errorf("%.20q: %.20q, want %.20q", text, got, want)
		}
	}
	if got := LastLine(path + ".none"); got != "see x.log.none" {
		t.Error(got)
	}
}

// Attach refuses folders that are none, uses a running network, and waits, bounded by its context, for another command.
func TestAttach(t *testing.T) {
	d := Dir(t.TempDir())
	quiet := func(string) {}
	if _, err := Attach(t.Context(), string(d), false, quiet); !errors.Is(err, ErrNotOurs) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := errors.Join(d.SaveSettings(Settings{Format: Format}), d.SaveRuntime(Runtime{PID: os.Getpid(), Chain: "127.0.0.1:9", S3Port: 8})); err != nil {
		t.Fatal(err)
	}
	lock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	a, err := Attach(t.Context(), string(d), true, quiet)
	if err != nil || a.Chain != "127.0.0.1:9" || a.S3Port != 8 {
		t.Fatalf("%+v, %v", a, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for what, r := range map[string]Runtime{"just starting": {PID: os.Getpid()}, "the command of process": {Chain: "127.0.0.1:9"}} {
		if err := d.SaveRuntime(r); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var said string
		_, err := Attach(ctx, string(d), false, func(s string) { said = s; cancel() })
		if !errors.Is(err, context.Canceled) || !strings.Contains(said, what) {
			t.Errorf("said %q, %v; want %q", said, err, what)
		}
		cancel()
	}
}
