package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/wallet"
	"sn3/internal/proc"
)

func stakeCommand() *cli.Command {
	return &cli.Command{Name: "stake", Usage: "stake coins on a hotkey, take them back, show what is staked", Subcommands: []*cli.Command{
		command("add", "stake coins of your account on a hotkey", "HOTKEY COINS", 2, keyFlags(), stakeAdd),
		command("remove", "take coins back from a hotkey: they are in your account after the network's delay", "HOTKEY COINS|all", 2, keyFlags(), stakeRemove),
		command("show", "show what an account has staked and is being paid back", "ACCOUNT", 1, nil, stakeShow),
		command("take", "set the share of dividends that you, a hotkey's owner, take before those who stake on it", "HOTKEY PERCENT", 2, keyFlags(), stakeTake),
	}}
}

func stakeAdd(c *cli.Context) error {
	amount, err := coins(c.Args().Get(1))
	if err != nil {
		return err
	}
	return onHotkey(c, func(ctx context.Context, n *network, h chain.Hotkey) error {
		r, err := n.client.AddStake(ctx, h, amount)
		if err != nil {
			return err
		}
		fmt.Printf("staked %s on %s in block %d\n", amount, n.name(h), r.Block)
		return nil
	})
}

func stakeRemove(c *cli.Context) error {
	amount, what := local.WholeStake, "all"
	if arg := c.Args().Get(1); arg != what {
		var err error
		if amount, err = coins(arg); err != nil {
			return err
		}
		what = amount.String()
	}
	return onHotkey(c, func(ctx context.Context, n *network, h chain.Hotkey) error {
		r, err := n.client.RemoveStake(ctx, h, amount)
		if err != nil {
			return err
		}
		fmt.Printf("unstaked %s from %s in block %d; sn3 stake show says when it is paid out\n", what, n.name(h), r.Block)
		return nil
	})
}

func stakeTake(c *cli.Context) error {
	percent, err := strconv.ParseFloat(c.Args().Get(1), 64)
	if err != nil || percent < 0 || percent > 100 {
		return proc.Usage(fmt.Errorf("%q is not a number of percent from 0 to 100", c.Args().Get(1)))
	}
	return onHotkey(c, func(ctx context.Context, n *network, h chain.Hotkey) error {
		r, err := n.client.SetTake(ctx, h, uint16(percent*65535/100))
		if err != nil {
			return err
		}
		fmt.Printf("the owner of %s takes %g %% of dividends since block %d\n", n.name(h), percent, r.Block)
		return nil
	})
}

// onHotkey opens the network with the command's key for a hotkey that the first argument names: one with a seat as in other
// commands, any in hex or as a file.
func onHotkey(c *cli.Context, f func(context.Context, *network, chain.Hotkey) error) error {
	return with(c, keyFrom(c), func(ctx context.Context, n *network) error {
		arg := c.Args().First()
		if h, err := wallet.ReadAccount(arg); err == nil {
			return f(ctx, n, h)
		}
		s, err := n.head(ctx)
		if err != nil {
			return err
		}
		x, err := n.hotkey(s, arg)
		if err != nil {
			return err
		}
		return f(ctx, n, x.Hotkey)
	})
}

func stakeShow(c *cli.Context) error {
	of, err := wallet.ReadAccount(c.Args().First())
	if err != nil {
		return proc.Usage(fmt.Errorf("account %q: %w", c.Args().First(), err))
	}
	return with(c, nil, func(ctx context.Context, n *network) error {
		x, err := n.client.Stakes(ctx, chain.Coldkey(of))
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		for _, s := range x.Staked {
			fmt.Fprintf(t, "staked\t%s\ton %s\n", s.Amount, s.Hotkey)
		}
		for _, w := range x.Unbonding {
			fmt.Fprintf(t, "unstaked\t%s\tpaid out at block %d, in %d\n", w.Amount, w.At, w.At-min(w.At, n.status.Height))
		}
		if len(x.Staked)+len(x.Unbonding) == 0 {
			fmt.Fprintln(t, "nothing is staked by this account")
		}
		return t.Flush()
	})
}
