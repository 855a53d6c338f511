package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
)

func setCommand() *cli.Command {
	return command("set", "set a parameter, as the subnet's owner: VALUE as sn3 chain params lists it", "NAME VALUE", 2, keyFlags(), setParam)
}

// setParam changes a parameter and says what it was.
func setParam(c *cli.Context) error {
	name, arg := c.Args().Get(0), c.Args().Get(1)
	words, known := paramWords[name]
	if !known {
		return proc.Usage(fmt.Errorf("there is no parameter %q; sn3 chain params lists them", name))
	}
	if words.fixed {
		return proc.Refused(fmt.Errorf("%s stays as the genesis has it", name))
	}
	value, err := paramValue(arg)
	if err != nil {
		return proc.Usage(fmt.Errorf("%s: %w", name, err))
	}
	return with(c, keyFrom(c), func(ctx context.Context, n *network) error {
		all, err := n.client.AllParams(ctx)
		if err != nil {
			return err
		}
		was, ok := all[name]
		if !ok {
			return proc.Refused(fmt.Errorf("rules version %d has no parameter %s", n.status.Rules, name))
		}
		r, err := n.client.Send(ctx, local.SetParam{Name: name, Value: value})
		if err != nil {
			return err
		}
		fmt.Printf("%s was %s, is %s since block %d\n", name, words.unit.both(string(was), n.status.BlockTimeMS), words.unit.both(arg, n.status.BlockTimeMS), r.Block)
		return nil
	})
}

// paramValue is a number, or true or false.
func paramValue(arg string) (uint64, error) {
	switch arg {
	case "true":
		return 1, nil
	case "false":
		return 0, nil
	}
	v, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("value %q: want a whole number, as sn3 chain params lists it (amounts in rao, shares of 65535, time in blocks), or true or false", arg)
	}
	return v, nil
}

func upgradeCommand() *cli.Command {
	force := &cli.BoolFlag{Name: "force", Usage: "announce rules that this node's program does not know"}
	return command("upgrade", "announce that rules VERSION count from block HEIGHT on, as the subnet's owner; the present version calls an announced one off", "VERSION HEIGHT", 2, append(keyFlags(), force), announceUpgrade)
}

func announceUpgrade(c *cli.Context) error {
	version, err := strconv.ParseUint(c.Args().Get(0), 10, 64)
	at, err2 := strconv.ParseUint(c.Args().Get(1), 10, 64)
	if err = errors.Join(err, err2); err != nil {
		return proc.Usage(fmt.Errorf("want two numbers, the VERSION of the rules and the HEIGHT from which on they count: %w", err))
	}
	return with(c, keyFrom(c), func(ctx context.Context, n *network) error {
		s, err := n.client.Node(ctx)
		if err != nil {
			return err
		}
		if version > s.KnownRules && !c.Bool("force") {
			return proc.Refused(fmt.Errorf("the program of this node does not know rules version %d, %d is its newest: all nodes like it would stop before block %d; have the release that knows it installed first\nNothing was changed; --force announces it all the same", version, s.KnownRules, at))
		}
		if version == n.status.Rules && n.status.NextRules == 0 {
			return proc.Refused(fmt.Errorf("rules version %d counts already, and no other one is announced", version))
		}
		r, err := n.client.Send(ctx, local.Upgrade{Version: version, At: chain.Block(at)})
		if err != nil {
			return err
		}
		if version == n.status.Rules {
			fmt.Printf("called off in block %d: rules version %d stays\n", r.Block, version)
			return nil
		}
		fmt.Printf("announced in block %d: rules version %d from block %d on, about %s from now; chaind status tells every node's operator\n", r.Block, version, at, lasts(at-min(at, uint64(r.Block)), n.status.BlockTimeMS))
		return nil
	})
}
