package node_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/chaintest"
	"sn3/chain/local"
	"sn3/chain/local/node"
)

// childHome makes this test binary a node on that folder: it says where it listens and runs until it is killed.
const childHome = "SN3_TEST_NODE_HOME"

func TestMain(m *testing.M) {
	dir := os.Getenv(childHome)
	if dir == "" {
		os.Exit(together(m))
	}
	n, err := node.Start(options(dir))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("serves", n.Addr())
	fmt.Println("ended", n.Wait(context.Background()))
	os.Exit(1)
}

// together runs the tests, at least ten at a time: nodes mostly wait, for blocks and for the seconds that the engine takes before
// it dials and after it has caught up.
func together(m *testing.M) int {
	flag.Parse()
	const least = 10
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue && runtime.GOMAXPROCS(0) < least {
		if err := f.Value.Set(strconv.Itoa(least)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// child starts a node as a process of its own.
func child(t *testing.T, dir string) (cmd *exec.Cmd, addr string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childHome+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "serves ")
	if err != nil || !ok {
		t.Fatalf("the node says %q, %v", line, err)
	}
	return cmd, addr
}

// A node killed at any moment comes back with everything it acknowledged: CometBFT itself compares the replayed state with
// the hash in the blocks and would refuse to start. Every round kills at another moment after a growing number of
// acknowledged transfers, while more are on their way.
func TestKilled(t *testing.T) {
	dir, to := home(t), chain.Coldkey{42}
	acked, newest := uint64(0), chain.Block(0)
	const rounds = 4
	for round := range rounds {
		cmd, addr := child(t, dir)
		ctx, cancel := context.WithCancel(within(t))
		c := dial(t, addr, chaintest.Rich)
		enough, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for n := 0; ; n++ {
				if n == round+1 {
					close(enough)
				}
				got, err := c.Send(ctx, local.Transfer{To: to, Amount: 500})
				if err != nil {
					return
				}
				acked, newest = acked+1, max(newest, got.Block)
			}
		}()
		select {
		case <-enough:
		case <-ctx.Done():
			t.Fatal("no transfer was included")
		}
		moment := time.NewTimer(time.Duration(round*31) * time.Millisecond) // somewhere in a block of 100 ms
		<-moment.C
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // "signal: killed"
		cancel()
		<-done
	}

	n, stop := start(t, dir)
	defer stop()
	ctx := within(t)
	c := dial(t, n.Addr(), chaintest.Rich)
	if err := reach(ctx, c, newest+2); err != nil {
		t.Fatal(err)
	}
	a, err := c.Account(ctx, chain.Coldkey(account(t, chaintest.Rich)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Balance(ctx, to)
	got /= 500
	if err != nil || uint64(got) < acked || uint64(got) > acked+rounds || a.Nonce != uint64(got) {
		t.Errorf("%d transfers acknowledged, %d arrived, nonce %d, %v", acked, got, a.Nonce, err)
	}
	if acked < rounds*(rounds+1)/2 {
		t.Errorf("only %d acknowledged", acked)
	}
}
