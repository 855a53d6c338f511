package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/node"
	"sn3/chain/local/state"
	"sn3/internal/proc"
)

// netFlags are those of peer-to-peer.
func netFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "p2p-listen", Usage: "`HOST:PORT` for other nodes (default: loopback, a port is chosen)", EnvVars: env("P2P_LISTEN")},
		&cli.StringFlag{Name: "p2p-external", Usage: "`HOST:PORT` at which other nodes reach this one, if that is elsewhere", EnvVars: env("P2P_EXTERNAL")},
		&cli.StringSliceFlag{Name: "peer", Usage: "`ID@HOST:PORT` of a node to keep a connection with; may be given again"},
	}
}

// withFlags puts the flags of peer-to-peer into n.
func withFlags(c *cli.Context, n node.Net) (node.Net, error) {
	if v := c.String("p2p-listen"); v != "" {
		n.Listen = v
	}
	if v := c.String("p2p-external"); v != "" {
		n.External = v
	}
	for _, p := range c.StringSlice("peer") {
		if !contains(n.Peers, p) {
			n.Peers = append(n.Peers, p)
		}
	}
	return n, n.Check()
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func initCommand() *cli.Command {
	return &cli.Command{Name: "init", Usage: "make a node's folder from a genesis file", Before: given("home", "genesis"), Action: initNode,
		Description: "The first node of a network takes a genesis without validators: it becomes the only one, and the genesis in its folder is the one that others are given. Several validators from the beginning: see genesis.",
		Flags: append([]cli.Flag{home(),
			&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE`; time, beacon key and validators are filled in where there are none"}}, netFlags()...)}
}

func readGenesis(file string) (*state.Genesis, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, proc.Usage(fmt.Errorf("read genesis: %w", err))
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return nil, proc.Usage(fmt.Errorf("%s: %w", file, err))
	}
	return g, nil
}

func initNode(c *cli.Context) error {
	g, err := readGenesis(c.String("genesis"))
	if err != nil {
		return err
	}
	n, err := withFlags(c, node.DefaultNet())
	if err != nil {
		return exit(err)
	}
	if err := node.CheckShare(c.String("home"), g); err != nil {
		return exit(fmt.Errorf("%w; nothing was changed", err))
	}
	if err := node.Init(c.String("home"), g, n); err != nil {
		return exit(err)
	}
	line, err := node.Keys(c.String("home"), g.Network)
	if err != nil {
		return exit(err)
	}
	hash, err := g.Hash()
	if err != nil {
		return err
	}
	fmt.Printf("network   %s\ngenesis   %s\nbeacon    %s\nnode      %s\n\nStart it: chaind start --home %s\n", g.Network, hash, whoSigns(g, line.Key), line.Node, c.String("home"))
	return nil
}

// whoSigns says to a validator whose key the beacon begins with.
func whoSigns(g *state.Genesis, self chain.Hash) string {
	if k, err := beacon.ParseKey(g.Beacon); err == nil {
		own := "this node is none of them, for its key is not in the genesis: it follows.\n          If it should be one, delete this folder, and give the --home that chaind keys was given"
		if slices.ContainsFunc(g.Validators, func(v state.Validator) bool { return v.Key == self }) {
			own = "this node is one"
		}
		return fmt.Sprintf("%d of %d members sign together; %s", k.Threshold, len(k.Members), own)
	}
	switch first := g.Validators[0].Key; {
	case len(g.Validators) == 1 && first == self:
		return "this node's own key"
	case first == self:
		return "this node's own key: it can know rounds ahead, and while it is away there are none. Once the validators run, have them\n          make a key together (sn3 chain validator beacon); chaind genesis --ceremony does so before the first block"
	default:
		return "the key of validator " + first.Short() + ", which alone signs and can know rounds ahead, until there is a shared one"
	}
}

func joinCommand() *cli.Command {
	return &cli.Command{Name: "join", Usage: "make the folder of a node of a network that runs", Before: given("home", "rpc"), Action: joinNode,
		Flags: append([]cli.Flag{home(),
			&cli.StringSliceFlag{Name: "rpc", Usage: "API of a running node: `HOST:PORT`, or https://HOST of one behind a proxy; more of them, by giving it again, check each other's headers"},
			&cli.StringFlag{Name: "hash", Usage: "`HASH` of the network's genesis, from somebody you trust"},
			&cli.StringFlag{Name: "sync", Value: "auto", Usage: "state: begin with a snapshot of its peers; replay: execute all blocks; auto: a snapshot where the node at --rpc has one"},
			&cli.StringFlag{Name: "trust", Usage: "`HEIGHT:HASH` of a block, from somebody you trust, that the snapshot must follow from (chaind trust prints one)"}}, netFlags()...)}
}

// askPatience is how long a command waits for a node's answer.
const askPatience = 20 * time.Second

func joinNode(c *cli.Context) error {
	n, err := withFlags(c, node.DefaultNet())
	if err != nil {
		return exit(err)
	}
	var pinned chain.Hash
	if v := c.String("hash"); v != "" {
		if err := pinned.UnmarshalText([]byte(v)); err != nil {
			return proc.Usage(fmt.Errorf("--hash %q: want 64 hex digits", v))
		}
	}
	rpcs := c.StringSlice("rpc")
	from, err := local.Dial(rpcs[0])
	if err != nil {
		return proc.Usage(err)
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	ask, done := context.WithTimeout(ctx, askPatience)
	defer done()
	j, err := node.Join(ask, c.String("home"), from, hostOf(rpcs[0]), pinned, n)
	if errors.Is(err, chain.ErrUnavailable) {
		err = fmt.Errorf("no node answers at %s: %w; is it running, and is this the address of its API (chaind start --listen)?", rpcs[0], err)
	}
	if err != nil {
		return exit(err)
	}
	how, err := planSync(ctx, c, from, rpcs)
	if err != nil {
		return exit(fmt.Errorf("%w; the folder %s is there and would execute all blocks; delete it to join otherwise", err, c.String("home")))
	}
	fmt.Printf("network   %s\ngenesis   %s\n", j.Network, j.Genesis)
	if pinned == (chain.Hash{}) {
		fmt.Printf("          This is what the node at %s says, and nobody else was asked: compare it with\n          what the network's owner published before you rely on this chain, or join with --hash.\n", rpcs[0])
	}
	fmt.Print(how)
	for _, p := range j.Peers {
		fmt.Printf("peer      %s\n", p)
	}
	fmt.Printf("line      %s\n\nStart it: chaind start --home %s\nWhen it has caught up (chaind status) the network's owner can make it a validator:\n  sn3 --chain HOST:PORT chain validator add --keystore OWNER %s\n", j.Line, c.String("home"), j.Line)
	return nil
}

// hostOf is the host of an API's address.
func hostOf(rpc string) string {
	if strings.Contains(rpc, "://") {
		if u, err := url.Parse(rpc); err == nil {
			return u.Hostname()
		}
	}
	host, _, _ := net.SplitHostPort(rpc) // Dial has refused what is none
	return host
}
