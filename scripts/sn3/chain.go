package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
)

func chainCommand() *cli.Command {
	return &cli.Command{Name: "chain", Usage: "look at the chain itself", Subcommands: []*cli.Command{blocksCommand(), blockCommand(), txCommand(), metagraphCommand(), hotkeyCommand(), weightsCommand(), paramsCommand(), logCommand(), supplyCommand(), validatorsCommand(), validatorCommand(), setCommand(), upgradeCommand()}}
}

func supplyCommand() *cli.Command {
	at := &cli.Uint64Flag{Name: "at", Usage: "as of block `HEIGHT`, one of the newest 5,000 (default: the newest)"}
	return command("supply", "show where all coins are, and that none is missing or too many", "", 0, []cli.Flag{at, jsonFlag()}, func(c *cli.Context) error {
		return with(c, nil, func(ctx context.Context, n *network) error {
			s, err := n.client.SupplyNow(ctx)
			if c.IsSet("at") {
				s, err = n.client.Supply(ctx, chain.Block(c.Uint64("at")))
			}
			if err != nil {
				return err
			}
			if !c.Bool("json") {
				return printSupply(n.status.Network, s)
			}
			if err := printJSON(s); err != nil || s.Holds() {
				return err
			}
			return errSupply
		})
	})
}

// errSupply: the node's figures do not add up.
var errSupply = errors.New("issued is not held + burned + pending: this node's chain has lost or made coins, which is a bug or a lie; ask another node")

func printSupply(network string, s local.Supply) error {
	fmt.Printf("network %s, block %d, in coins\n\n", network, s.Block)
	g := grid{right: "rr "}
	for _, x := range []struct {
		name string
		sum  chain.Amount
		what string
	}{
		{"genesis", s.Genesis, ""}, {"emitted", s.Emitted, "  by blocks"}, {"issued", s.Issued, "= genesis + emitted"}, {},
		{"balances", s.Balances, "  of accounts"}, {"staked", s.Staked, "  on hotkeys"}, {"unbonding", s.Unbonding, "  unstaked, not paid out yet"},
		{"held", s.Held(), "= balances + staked + unbonding"}, {"burned", s.Burned, "  fees, registrations, what the owner mined"}, {"pending", s.Pending, "  for the next epoch to hand out"},
	} {
		if x.name == "" {
			g.add()
			continue
		}
		g.add(x.name, x.sum, x.what)
	}
	if err := g.print(os.Stdout); err != nil {
		return err
	}
	if !s.Holds() {
		return errSupply
	}
	basis := "the sums that the chain keeps"
	if s.Audited {
		basis = "recomputed by the node from every entry of the state"
	}
	fmt.Printf("\n%s issued = %s held + %s burned + %s pending:\nit holds (%s)\n", s.Issued, s.Held(), s.Burned, s.Pending, basis)
	return nil
}
