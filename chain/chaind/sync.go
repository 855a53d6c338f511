package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"sn3/chain/local"
	"sn3/chain/local/node"
	"sn3/internal/proc"
)

// planSync decides how a node that joined gets the state, and says what that relies on.
func planSync(ctx context.Context, c *cli.Context, from local.Backend, rpcs []string) (string, error) {
	how := c.String("sync")
	if how == "auto" {
		n, err := local.NewClient(from, nil).Node(ctx)
		if err != nil {
			return "", err
		}
		if how = "replay"; n.Snapshot > 0 || c.IsSet("trust") {
			how = "state"
		}
	}
	switch {
	case how == "replay" && c.IsSet("trust"):
		return "", proc.Usage(fmt.Errorf("--trust is for --sync state: a node that executes all blocks trusts the genesis alone"))
	case how == "replay":
		return "sync      by executing all blocks\n", nil
	case how != "state":
		return "", proc.Usage(fmt.Errorf("--sync %q: want state, replay or auto", how))
	}
	var trust node.Trust
	if v := c.String("trust"); v != "" {
		var err error
		if trust, err = node.ParseTrust(v); err != nil {
			return "", proc.Usage(err)
		}
	}
	trust, err := node.PlanSync(ctx, c.String("home"), rpcs, trust)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("sync      by a snapshot of its peers, checked against headers that follow from block %s\n", trust)
	if !c.IsSet("trust") {
		text += fmt.Sprintf("          That block is what %s says, and nobody else was asked: compare it with chaind trust\n          on a node that you trust, or join with --trust.\n", rpcs[0])
	}
	if len(rpcs) == 1 {
		text += "          The headers come from one node; with --rpc given again, another one checks them.\n"
	}
	return text, nil
}

func trustCommand() *cli.Command {
	return &cli.Command{Name: "trust", Usage: "print a block that others can trust when they join: HEIGHT:HASH", Before: given(), Action: printTrust,
		Description: "It is the oldest block that the node keeps. Give it to who joins by a way that nobody can change.",
		Flags:       []cli.Flag{home(), &cli.StringFlag{Name: "rpc", Usage: "API of the node: `HOST:PORT` or https://HOST (default: the one that runs in --home)"}}}
}

func printTrust(c *cli.Context) error {
	return asked(c, func(ctx context.Context, from local.Backend) error {
		t, err := node.OldestBlock(ctx, from)
		if err == nil {
			fmt.Println(t)
		}
		return err
	})
}

func exportCommand() *cli.Command {
	return &cli.Command{Name: "export", Usage: "write the whole state of a stopped node, or its newest snapshot, into one file", Before: given("home", "out"), Action: export,
		Flags: []cli.Flag{home(), &cli.StringFlag{Name: "out", Usage: "`FILE` to write; it must not exist"},
			&cli.BoolFlag{Name: "snapshot", Usage: "take the newest snapshot, which a running node has, too"}}}
}

func export(c *cli.Context) error {
	e, err := node.Export(c.String("home"), c.String("out"), c.Bool("snapshot"))
	if err != nil {
		return exit(err)
	}
	fmt.Printf("network   %s\ngenesis   %s\nblock     %d\nstate     %s\nentries   %d\nbytes     %d\n", e.Network, e.Genesis, e.Height, e.AppHash, e.Entries, e.Size)
	return nil
}

func importCommand() *cli.Command {
	return &cli.Command{Name: "import", Usage: "begin a new network with the state of an exported one", Before: given("home", "file"), Action: importState,
		Description: "Balances, stakes, seats, records and history are those of the file; validators and the beacon's key are new. The network goes on at the block after. " +
			"The first node imports without --genesis and becomes the only validator; others take its genesis (its folder's genesis.sn3.json) and the same file.",
		Flags: append([]cli.Flag{home(), &cli.StringFlag{Name: "file", Usage: "`FILE` that chaind export wrote"},
			&cli.StringFlag{Name: "network", Usage: "`NAME` of the new network (default: the old one's, for one that no longer runs)"},
			&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE` of the first node that imported"}}, netFlags()...)}
}

func importState(c *cli.Context) error {
	n, err := withFlags(c, node.DefaultNet())
	if err != nil {
		return exit(err)
	}
	o := node.ImportOptions{Network: c.String("network"), Net: n}
	if file := c.String("genesis"); file != "" {
		if o.Genesis, err = readGenesis(file); err != nil {
			return err
		}
	}
	g, err := node.Import(c.String("home"), c.String("file"), o)
	if err != nil {
		return exit(err)
	}
	hash, err := g.Hash()
	if err != nil {
		return err
	}
	line, err := node.Keys(c.String("home"), g.Network)
	if err != nil {
		return exit(err)
	}
	fmt.Printf("network   %s\ngenesis   %s\nblock     %d\nstate     %s\nnode      %s\n\nStart it: chaind start --home %s\n", g.Network, hash, g.From.Height, g.From.AppHash, line.Node, c.String("home"))
	return nil
}

func pruneCommand() *cli.Command {
	return &cli.Command{Name: "prune", Usage: "give back the disk space that a stopped node does not need", Before: given("home"), Action: prune,
		Flags: []cli.Flag{home(), &cli.BoolFlag{Name: "json", Usage: "print JSON"}}}
}

func prune(c *cli.Context) error {
	p, err := node.Prune(c.String("home"))
	if err != nil {
		return exit(err)
	}
	if c.Bool("json") {
		raw, err := json.Marshal(p)
		if err != nil {
			return err
		}
		fmt.Println(string(raw))
		return nil
	}
	for _, x := range p {
		fmt.Printf("%-20s %12d -> %12d bytes\n", x.Name, x.Before, x.After)
	}
	return nil
}
