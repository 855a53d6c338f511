package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/node"
	"sn3/internal/proc"
	"sn3/scripts/localnet/netdir"
)

// keySource gives the key that a command signs with; nil for reading.
type keySource func() (*ecdsa.PrivateKey, error)

func keyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "keystore", Usage: "key `FILE`", Required: true},
		&cli.StringFlag{Name: "passphrase-file", Usage: "`FILE` with its passphrase (default: ask)"},
	}
}

func keyFrom(c *cli.Context) keySource {
	return func() (*ecdsa.PrivateKey, error) { return node.Key(c.String("keystore"), c.String("passphrase-file")) }
}

func walletCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "dir", Value: "wallets", Usage: "`FOLDER` of wallets", EnvVars: []string{"SN3_WALLETS"}}
	return &cli.Command{Name: "wallet", Usage: "make and show keys", Subcommands: []*cli.Command{
		command("new", "make a key in an encrypted keystore file", "NAME", 1, []cli.Flag{dir,
			&cli.StringFlag{Name: "passphrase-file", Usage: "`FILE` with the passphrase (default: ask)"},
			&cli.BoolFlag{Name: "light", Usage: "light scrypt: quick and small, for local networks (the standard one takes 0.5 GiB of memory to open)"}}, walletNew),
		command("list", "list the wallets of a folder", "", 0, []cli.Flag{dir}, walletList),
		command("show", "print a keystore's account without opening it", "FILE", 1, nil, walletShow),
	}}
}

func walletNew(c *cli.Context) error {
	name := c.Args().First()
	if name == "" || strings.ContainsAny(name, "/\\") || strings.HasPrefix(name, ".") {
		return proc.Usage(fmt.Errorf("wallet name %q: use letters, digits and dashes", name))
	}
	if _, err := os.Stat(filepath.Join(c.String("dir"), name+".json")); err == nil {
		return proc.Refused(fmt.Errorf("wallet %s is already there; nothing was changed", name))
	}
	pass, err := node.NewPassphrase(c.String("passphrase-file"))
	if err != nil {
		return err
	}
	path, account, err := local.NewWallet(c.String("dir"), name, pass, c.Bool("light"))
	if err != nil {
		return err
	}
	fmt.Printf("wallet   %s\naccount  %s\nKeep the file and its passphrase: nobody can restore them.\n", path, account)
	return nil
}

func walletList(c *cli.Context) error {
	files, err := filepath.Glob(filepath.Join(c.String("dir"), "*.json"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		fmt.Printf("no wallets in %s; sn3 wallet new NAME makes one\n", c.String("dir"))
	}
	sort.Strings(files)
	for _, f := range files {
		account, err := local.AccountInFile(f)
		if err != nil {
			fmt.Printf("%-24s not a wallet: %v\n", filepath.Base(f), err)
			continue
		}
		fmt.Printf("%-24s %s\n", filepath.Base(f), account)
	}
	return nil
}

func walletShow(c *cli.Context) error {
	account, err := local.AccountInFile(c.Args().First())
	if errors.Is(err, os.ErrNotExist) {
		return proc.Usage(err)
	}
	if err != nil {
		return proc.Refused(err)
	}
	fmt.Println(account)
	return nil
}

func registerCommand() *cli.Command {
	return command("register", "burn the registration cost and take a seat", "", 0, keyFlags(), func(c *cli.Context) error {
		return with(c, keyFrom(c), func(ctx context.Context, n *network) error {
			uid, err := n.client.Register(ctx)
			if err != nil {
				return err
			}
			fmt.Printf("registered with uid %d\n", uid)
			return nil
		})
	})
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
		key := func() (*ecdsa.PrivateKey, error) {
			return node.Key(filepath.Join(dir, "faucet", "key.json"), filepath.Join(dir, "faucet", "passphrase"))
		}
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

// payment reads an account in hex and a number of coins with up to nine decimals.
func payment(account, coins string) (to chain.Coldkey, a chain.Amount, err error) {
	if err := to.UnmarshalText([]byte(account)); err != nil {
		return to, 0, proc.Usage(fmt.Errorf("account %q: %w", account, err))
	}
	whole, frac, _ := strings.Cut(coins, ".")
	if len(frac) > 9 {
		return to, 0, proc.Usage(fmt.Errorf("%q coins: at most nine decimals", coins))
	}
	v, err := strconv.ParseUint(whole+frac+strings.Repeat("0", 9-len(frac)), 10, 64)
	if err != nil || v == 0 {
		return to, 0, proc.Usage(fmt.Errorf("%q is not a number of coins above 0", coins))
	}
	return to, chain.Amount(v), nil
}
