package main

import (
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
	"sn3/chain/local/wallet"
)

// scripted are the chains of scripts, by their address.
var scripted sync.Map

func devchain(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	g, secret, err := localtest.Genesis(250, localtest.Actor{Name: "other", Seat: true, Stake: 1, Balance: chain.RaoPerCoin})
	ts.Check(err)
	says := &local.NodeStatus{}
	for i := range n {
		m, err := dkg.Generate(rand.NewChaCha8([32]byte{byte(i)}))
		ts.Check(err)
		key := chain.Hash{byte(i + 1)}
		g.Validators = append(g.Validators, state.Validator{Key: key, Beacon: m.Card(state.MemberContext(g.Network, key))})
		says.Voters = append(says.Voters, local.VoterInfo{Key: key, Signed: 1000})
	}
	d, err := localtest.NewDevChain(g, secret, time.Unix(1000, 0))
	ts.Check(err)
	ts.Check(d.Run(20))
	dev := localtest.Instant{DevChain: d}
	srv := httptest.NewServer(local.Handler(seen{dev, says}))
	ts.Defer(srv.Close)
	addr := strings.TrimPrefix(srv.URL, "http://")
	scripted.Store(addr, dev)
	ts.Setenv("SN3_CHAIN", addr)
	ts.Check(os.WriteFile(ts.MkAbs("pass"), []byte("open\n"), 0o600))
	for _, name := range []string{localtest.Owner, "other"} {
		key, err := localtest.Key(name)
		ts.Check(err)
		_, err = wallet.Create(ts.MkAbs("."), name, key, "open", true)
		ts.Check(err)
	}
}

func ticks(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	x, _ := scripted.Load(ts.Getenv("SN3_CHAIN"))
	dev, ok := x.(localtest.Instant)
	if !ok {
		ts.Fatalf("no devchain runs")
	}
	h, _ := dev.Height()
	ts.Check(dev.Run(h + chain.Block(n)))
}
