package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/dkg/dkgtest"
	"sn3/chain/local/ceremony"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"chaind": main}) }

// The node as an operator types it. Beside testscript's commands the scripts have:
//
//	pay READY N          waits for the ready file of a node and has one account pay N more coins to another one
//	paid READY N         that other account must hold N coins
//	high READY N         waits until a node is at block N
//	follow READY OTHER   waits until a node has caught up with another one
//	join READY OTHER     has the owner make a node a validator, through another one, and waits until it signs
//	rounds READY N       waits until the beacons of N more rounds are there
//	misdeal HOME FOLDER VICTIM [NAME]  writes a node's dealing with a bad share for another one into a ceremony's folder
//	announce READY       has the owner announce a beacon key, and waits until this node has the block
//	beacon READY WHAT    waits until all have dealt, there is a next key, or it signs
//	signal NAME READY    sends TERM, INT, KILL, STOP or CONT to the node
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("SN3_LISTEN", "127.0.0.1:0") // several nodes on this machine
			return genesis(filepath.Join(e.WorkDir, "genesis.json"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"pay": pay, "paid": paid, "high": high, "follow": follow, "join": join, "signal": signal, "rounds": rounds, "misdeal": misdeal,
			"announce": announce, "beacon": keyIs}})
}

// genesis writes one of a chain with blocks of 100 ms.
func genesis(path string) error {
	g, _, err := localtest.Genesis(100, localtest.Actor{Name: "rich", Seat: true, Balance: 1000 * chain.RaoPerCoin})
	if err != nil {
		return err
	}
	run, err := chain.ParseRun(g.Run)
	if err != nil {
		return err
	}
	run.Tempo = 4                          // a beacon key is announced some tempos ahead
	g.BeaconKey, g.Run = nil, run.Encode() // chaind init makes a key
	raw, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

type served struct {
	Addr string `json:"addr"`
	PID  int    `json:"pid"`
}

// await reads a ready file as soon as it is there.
func await(ts *testscript.TestScript, name string) (s served) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		raw, err := os.ReadFile(ts.MkAbs(name))
		if err == nil {
			ts.Check(json.Unmarshal(raw, &s))
			return s
		}
		if !errors.Is(err, fs.ErrNotExist) {
			ts.Check(err)
		}
		<-tick.C
	}
	ts.Fatalf("the node did not write %s", name)
	return s
}

func client(ts *testscript.TestScript, ready string) (*local.Client, context.Context) {
	b, err := local.Dial(await(ts, ready).Addr)
	ts.Check(err)
	key, err := localtest.Key("rich")
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	ts.Defer(cancel)
	return local.NewClient(b, local.Signer{Key: key}), ctx
}

// until asks a node with every block until something holds.
func until(ts *testscript.TestScript, ready string, holds func(local.NodeStatus, local.Status) bool) {
	c, ctx := client(ts, ready)
	heads, err := c.Heads(ctx)
	ts.Check(err)
	for range heads {
		n, err := c.Node(ctx)
		ts.Check(err)
		st, err := c.Status(ctx)
		ts.Check(err)
		if holds(n, st) {
			return
		}
	}
	ts.Fatalf("the node at %s did not get there", ready)
}

func follow(ts *testscript.TestScript, _ bool, args []string) {
	c, ctx := client(ts, args[1])
	st, err := c.Status(ctx)
	ts.Check(err)
	until(ts, args[0], func(n local.NodeStatus, own local.Status) bool { return !n.CatchingUp && own.Height >= st.Height })
}

func join(ts *testscript.TestScript, _ bool, args []string) {
	c, ctx := client(ts, args[0])
	n, err := c.Node(ctx)
	ts.Check(err)
	line, err := local.ParseCandidate(n.Line, localtest.Network)
	ts.Check(err)
	b, err := local.Dial(await(ts, args[1]).Addr)
	ts.Check(err)
	key, err := localtest.Key(localtest.Owner)
	ts.Check(err)
	_, err = local.NewClient(b, local.Signer{Key: key}).Send(ctx, line.Op())
	ts.Check(err)
	until(ts, args[0], func(n local.NodeStatus, _ local.Status) bool {
		for _, v := range n.Voters {
			if v.Key == n.Key {
				return v.Signed > v.Since
			}
		}
		return false
	})
}

func high(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	until(ts, args[0], func(_ local.NodeStatus, own local.Status) bool { return own.Height >= chain.Block(n) })
}

func rounds(ts *testscript.TestScript, _ bool, args []string) {
	c, ctx := client(ts, args[0])
	n, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	if n == 0 {
		return
	}
	st, err := c.Status(ctx)
	ts.Check(err)
	for r := chain.Round(st.Height); r < chain.Round(st.Height)+chain.Round(n); r++ {
		until(ts, args[0], func(local.NodeStatus, local.Status) bool {
			_, err := c.Beacon(ctx, r)
			return err == nil
		})
	}
}

func announce(ts *testscript.TestScript, _ bool, args []string) {
	c, ctx := client(ts, args[0])
	st, err := c.Status(ctx)
	ts.Check(err)
	b, err := local.Dial(await(ts, args[0]).Addr)
	ts.Check(err)
	key, err := localtest.Key(localtest.Owner)
	ts.Check(err)
	_, err = local.NewClient(b, local.Signer{Key: key}).Send(ctx, local.MakeBeacon{At: st.Beacon.Earliest + 6})
	ts.Check(err)
}

func keyIs(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, args[0], func(_ local.NodeStatus, st local.Status) bool {
		switch b := st.Beacon; args[1] {
		case "dealt":
			return b.Making != nil && !slices.ContainsFunc(b.Making.Members, func(m local.BeaconMember) bool { return !m.Dealt })
		case "next":
			return b.Next != nil
		default:
			return b.Signs.From > 0
		}
	})
}

func misdeal(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(filepath.Join(ts.MkAbs(args[1]), "draft.json"))
	ts.Check(err)
	g, err := state.ParseGenesis(raw)
	ts.Check(err)
	c, err := ceremony.Draft(g)
	ts.Check(err)
	var who [2]*dkg.Member
	for i, home := range []string{args[0], args[2]} {
		raw, err := os.ReadFile(filepath.Join(ts.MkAbs(home), "member.key"))
		ts.Check(err)
		who[i], err = dkg.ParseMember(raw)
		ts.Check(err)
	}
	victim, err := c.Index(who[1])
	ts.Check(err)
	seed := c.Session().ID()
	d, err := dkgtest.Misdeal(c.Session(), who[0], victim, seed)
	ts.Check(err)
	name := append(args[3:], "bad.dealing")[0]
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[1]), name), append([]byte("sn3deal1"), d.Encode()...), 0o600))
}

func pay(ts *testscript.TestScript, _ bool, args []string) {
	c, ctx := client(ts, args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(c.Transfer(ctx, chain.Coldkey{7}, chain.Amount(n)*chain.RaoPerCoin))
}

func paid(ts *testscript.TestScript, _ bool, args []string) {
	c, ctx := client(ts, args[0])
	got, err := c.Balance(ctx, chain.Coldkey{7})
	ts.Check(err)
	if want := args[1] + ".000000000"; got.String() != want {
		ts.Fatalf("the account holds %s, not %s", got, want)
	}
}

func signal(ts *testscript.TestScript, _ bool, args []string) {
	number := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[args[0]]
	pid := await(ts, args[1]).PID
	ts.Check(syscall.Kill(pid, number))
	if number == syscall.SIGSTOP {
		ts.Defer(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // so that it can be ended where the script fails
	}
}
