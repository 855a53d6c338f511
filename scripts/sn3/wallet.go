package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/wallet"
	"sn3/internal/node"
	"sn3/internal/proc"
	"sn3/scripts/localnet/netdir"
)

// keySource gives what a command signs with; nil for reading.
type keySource func() (chain.Signer, error)

// keystoreKey opens a keystore when it is needed.
func keystoreKey(path string, pass node.Secret) keySource {
	return func() (chain.Signer, error) {
		key, err := node.Key(path, pass)
		if err != nil {
			return nil, err
		}
		return local.Signer{Key: key}, nil
	}
}

func keyFlags() []cli.Flag {
	return append([]cli.Flag{&cli.StringFlag{Name: "keystore", Usage: "key `FILE`", Required: true}}, node.PassphraseFlags("")...)
}

func keyFrom(c *cli.Context) keySource {
	path := c.String("keystore")
	return keystoreKey(path, node.Passphrase(c, path))
}

func registerCommand() *cli.Command {
	flags := append(keyFlags(), &cli.StringFlag{Name: "coldkey", Usage: "`ACCOUNT` that owns the seat and gets what it earns: in hex, an address 0x…, or a wallet's .pub file (default: the key itself)"},
		&cli.StringFlag{Name: "limit", Usage: "most `COINS` that the seat may cost (default: whatever it costs)"})
	return command("register", "burn the registration cost and take a seat", "", 0, flags, func(c *cli.Context) error {
		var owner chain.Coldkey
		if arg := c.String("coldkey"); arg != "" {
			of, err := wallet.ReadAccount(arg)
			if err != nil {
				return proc.Usage(fmt.Errorf("--coldkey: %w", err))
			}
			owner = chain.Coldkey(of)
		}
		var limit chain.Amount
		if arg := c.String("limit"); arg != "" {
			var err error
			if limit, err = coins(arg); err != nil {
				return err
			}
		}
		return with(c, keyFrom(c), func(ctx context.Context, n *network) error {
			uid, err := n.client.RegisterFor(ctx, owner, limit)
			if err != nil {
				return err
			}
			if err := owned(ctx, n, uid, owner); err != nil {
				return err
			}
			fmt.Printf("registered with uid %d\n", uid)
			return nil
		})
	})
}

// owned checks that a seat belongs to who was asked for: a hotkey that had one keeps its owner.
func owned(ctx context.Context, n *network, uid chain.UID, owner chain.Coldkey) error {
	if owner == (chain.Coldkey{}) {
		return nil
	}
	s, err := n.head(ctx)
	if err != nil {
		return err
	}
	for _, x := range s.Neurons {
		if x.UID == uid && x.Coldkey != owner {
			return proc.Refused(fmt.Errorf("this key has a seat already, uid %d, and its owner is %s for good; register another key for another owner", uid, x.Coldkey))
		}
	}
	return nil
}

func transferCommand() *cli.Command {
	return command("transfer", "send coins", "ACCOUNT COINS", 2, keyFlags(), func(c *cli.Context) error {
		to, amount, err := payment(c.Args().Get(0), c.Args().Get(1))
		if err != nil {
			return err
		}
		return with(c, keyFrom(c), func(ctx context.Context, n *network) error { return pay(ctx, n, to, amount) })
	})
}

func faucetCommand() *cli.Command {
	amount := &cli.StringFlag{Name: "coins", Value: "10", Usage: "how `MANY`"}
	return command("faucet", "give an account coins on a local network", "ACCOUNT", 1, []cli.Flag{amount}, func(c *cli.Context) error {
		to, sum, err := payment(c.Args().First(), c.String("coins"))
		if err != nil {
			return err
		}
		dir := c.String("local")
		if dir == "" {
			return proc.Usage(errors.New("the faucet is a local network's: give --local FOLDER before the command"))
		}
		if _, err := netdir.Dir(dir).Settings(); err != nil {
			return proc.Refused(err)
		}
		key := keystoreKey(filepath.Join(dir, "faucet", "key.json"), node.FileSecret(filepath.Join(dir, "faucet", "passphrase")))
		return with(c, key, func(ctx context.Context, n *network) error { return pay(ctx, n, to, sum) })
	})
}

func pay(ctx context.Context, n *network, to chain.Coldkey, amount chain.Amount) error {
	if err := n.client.Transfer(ctx, to, amount); err != nil {
		return err
	}
	fmt.Printf("sent %s to %s\n", amount, to)
	return nil
}

// payment reads an account and a number of coins with up to nine decimals.
func payment(account, coinsText string) (to chain.Coldkey, a chain.Amount, err error) {
	of, err := wallet.ReadAccount(account)
	if err != nil {
		return to, 0, proc.Usage(fmt.Errorf("account %q: %w", account, err))
	}
	a, err = coins(coinsText)
	return chain.Coldkey(of), a, err
}

// coins reads a number of coins with up to nine decimals.
func coins(text string) (chain.Amount, error) {
	whole, frac, _ := strings.Cut(text, ".")
	if len(frac) > 9 {
		return 0, proc.Usage(fmt.Errorf("%q coins: at most nine decimals", text))
	}
	v, err := strconv.ParseUint(whole+frac+strings.Repeat("0", 9-len(frac)), 10, 64)
	if err != nil || v == 0 {
		return 0, proc.Usage(fmt.Errorf("%q is not a number of coins above 0", text))
	}
	return chain.Amount(v), nil
}
