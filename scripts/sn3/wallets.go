package main

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"sn3/chain/local/wallet"
	"sn3/internal/node"
	"sn3/internal/proc"
)

func walletCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "dir", Value: "wallets", Usage: "`FOLDER` of wallets", EnvVars: []string{"SN3_WALLETS"}}
	none := []string{} // what makes another key, or a weaker one, or shows it is said in the command, not left in an environment
	light := &cli.BoolFlag{Name: "light", EnvVars: none, Usage: "light scrypt: quick and small, for local networks (the standard one takes 0.3 GiB of memory and half a second to open)"}
	pipe := &cli.BoolFlag{Name: "to-pipe", EnvVars: none, Usage: "print the secret although the output is no terminal"}
	flags := func(more ...cli.Flag) []cli.Flag { return append(more, dir) }
	opens := func(more ...cli.Flag) []cli.Flag { return append(flags(more...), node.PassphraseFlags("")...) }
	renews := func(more ...cli.Flag) []cli.Flag {
		return append(opens(more...), node.SecretFlags("new-passphrase", "new passphrase", "")...)
	}
	return &cli.Command{Name: "wallet", Usage: "make, show, restore and move keys", Subcommands: []*cli.Command{
		command("new", "make a key in an encrypted keystore file, and show its words once", "NAME", 1, opens(light, pipe,
			&cli.IntFlag{Name: "words", EnvVars: none, Value: 12, Usage: "`MANY` words: 12 or 24"},
			&cli.BoolFlag{Name: "no-words", EnvVars: none, Usage: "show none: the file and its passphrase are the only backup"}), walletNew),
		command("restore", "make the wallet from its words again", "NAME", 1, opens(light,
			node.FDFlag("mnemonic", "words", ""),
			&cli.Uint64Flag{Name: "index", EnvVars: none, Usage: "which account of the words: m/44'/60'/0'/0/`INDEX`"}), walletRestore),
		command("import", "make a wallet from another program's keystore file or from a private key in hex", "NAME", 1, renews(light,
			&cli.StringFlag{Name: "from", EnvVars: none, Usage: "keystore v3 `FILE`, such as geth's UTC--…; without it a private key is asked for"},
			node.FDFlag("key", "private key in hex", "")), walletImport),
		command("export", "print the private key in hex", "NAME", 1, opens(pipe,
			&cli.BoolFlag{Name: "private-key", EnvVars: none, Usage: "yes, the private key: whoever reads it owns the account"}), walletExport),
		command("passwd", "change the passphrase", "NAME", 1, renews(light), walletPasswd),
		command("list", "list the wallets of a folder", "", 0, flags(), walletList),
		command("show", "print a wallet's account and EVM address without opening it", "NAME", 1, flags(), walletShow),
	}}
}

func walletNew(c *cli.Context) error {
	name, dir := c.Args().First(), c.String("dir")
	show := !c.Bool("no-words")
	if err := free(dir, name); err != nil {
		return err
	}
	if show {
		if err := secretOut(c, "words", "; or --no-words for a key without them"); err != nil {
			return err
		}
	}
	words, err := wallet.NewMnemonic(c.Int("words"))
	if err != nil {
		return proc.Usage(fmt.Errorf("--words: %w", err))
	}
	key, err := words.Key(0)
	if err != nil {
		return err
	}
	if err := create(c, key, "passphrase"); err != nil {
		return err
	}
	if !show {
		fmt.Println("Keep the file and its passphrase: nobody can restore them.")
		return nil
	}
	_, err = fmt.Printf("\nWrite these words down, on paper and in this order. They are the key: whoever reads them has it, and no passphrase\nprotects them. They are not shown again.\n\n    %s\n\nsn3 wallet restore NAME makes the wallet from them again, on any machine.\n", words.Words())
	if err != nil {
		return fmt.Errorf("show the words (no wallet was made): %w", errors.Join(err, wallet.Remove(dir, name)))
	}
	return nil
}

// free refuses a name that cannot be a wallet's or is one already, before anybody types a secret.
func free(dir, name string) error { return walletError(wallet.Check(dir, name, nil)) }

// walletError gives an error of package wallet its exit code.
func walletError(err error) error {
	switch {
	case errors.Is(err, wallet.ErrName), errors.Is(err, wallet.ErrWords), errors.Is(err, wallet.ErrChecksum), errors.Is(err, os.ErrNotExist):
		return proc.Usage(err)
	case errors.Is(err, wallet.ErrExists), errors.Is(err, wallet.ErrPassphrase), errors.Is(err, wallet.ErrKeystore), errors.Is(err, wallet.ErrAccount):
		return proc.Refused(err)
	}
	return err
}

// secretOut refuses to print a secret where it would be kept.
func secretOut(c *cli.Context, what, or string) error {
	if c.Bool("to-pipe") || term.IsTerminal(int(os.Stdout.Fd())) {
		return nil
	}
	return proc.Refused(fmt.Errorf("the output is no terminal, and the %s would stay where it goes: give --to-pipe if they should%s", what, or))
}

// create asks for the new wallet's passphrase and writes it.
func create(c *cli.Context, key *ecdsa.PrivateKey, flag string) error {
	name := c.Args().First()
	s := node.FlaggedSecret(c, flag, "New passphrase of "+name+": ")
	pass, err := s.ReadNew()
	if err != nil {
		return err
	}
	return keep(c, key, pass)
}

func keep(c *cli.Context, key *ecdsa.PrivateKey, pass string) error {
	name, dir := c.Args().First(), c.String("dir")
	p, err := wallet.Create(dir, name, key, pass, c.Bool("light"))
	if err != nil {
		return walletError(err)
	}
	fmt.Printf("wallet   %s\npublic   %s\naccount  %s\naddress  %s\n", wallet.Path(dir, name), filepath.Join(dir, name+wallet.PublicFile), p.Account, p.Address)
	return nil
}

func walletRestore(c *cli.Context) error {
	if err := free(c.String("dir"), c.Args().First()); err != nil {
		return err
	}
	index := c.Uint64("index")
	if index >= 1<<31 {
		return proc.Usage(fmt.Errorf("--index %d: want less than %d", index, 1<<31))
	}
	from := node.FlaggedSecret(c, "mnemonic", "Words: ")
	if err := node.Distinct(from, node.FlaggedSecret(c, "passphrase", "")); err != nil {
		return err
	}
	text, err := from.Read()
	if err != nil {
		return err
	}
	words, err := wallet.ParseMnemonic(text)
	if err != nil {
		return walletError(err)
	}
	key, err := words.Key(uint32(index))
	if err != nil {
		return err
	}
	return create(c, key, "passphrase")
}

func walletImport(c *cli.Context) error {
	if err := free(c.String("dir"), c.Args().First()); err != nil {
		return err
	}
	file, hex := c.String("from"), node.FlaggedSecret(c, "key", "Private key in hex: ")
	old, renewed := node.FlaggedSecret(c, "passphrase", ""), node.FlaggedSecret(c, "new-passphrase", "")
	if err := errors.Join(node.Distinct(hex, old), node.Distinct(old, renewed)); err != nil {
		return err
	}
	if file == "" {
		if renewed.Given() {
			return proc.Usage(errors.New("--new-passphrase is for --from; a private key has none yet: give --passphrase"))
		}
		text, err := hex.Read()
		if err != nil {
			return err
		}
		key, err := wallet.ParseKey([]byte(text))
		if err != nil {
			return proc.Usage(err)
		}
		return create(c, key, "passphrase")
	}
	if hex.Given() {
		return proc.Usage(errors.New("--from and --key-fd: give one of them"))
	}
	pass, err := node.Passphrase(c, file).Read()
	if err != nil {
		return err
	}
	key, err := wallet.Open(file, pass)
	if err != nil {
		return walletError(err)
	}
	if renewed.Given() || pass == "" { // geth makes keys without one
		return create(c, key, "new-passphrase")
	}
	return keep(c, key, pass)
}

func walletExport(c *cli.Context) error {
	if !c.Bool("private-key") {
		return proc.Usage(errors.New("what leaves the wallet is the private key, unencrypted: say so with --private-key; the keystore file itself can be copied as it is"))
	}
	if err := secretOut(c, "key", ""); err != nil {
		return err
	}
	path, err := keyFile(c)
	if err != nil {
		return err
	}
	key, err := node.Key(path, node.Passphrase(c, path))
	if err != nil {
		return err
	}
	_, err = fmt.Println(wallet.FormatKey(key))
	return err
}

func walletPasswd(c *cli.Context) error {
	path, err := keyFile(c)
	if err != nil {
		return err
	}
	old, renewed := node.Passphrase(c, path), node.FlaggedSecret(c, "new-passphrase", "New passphrase: ")
	if err := node.Distinct(old, renewed); err != nil {
		return err
	}
	pass, err := old.Read()
	if err != nil {
		return err
	}
	key, err := wallet.Open(path, pass) // before a new one is thought of
	if err != nil {
		return walletError(err)
	}
	next, err := renewed.ReadNew()
	if err != nil {
		return err
	}
	if err := wallet.ChangePassphrase(path, key, next, c.Bool("light")); err != nil {
		return walletError(err)
	}
	fmt.Printf("%s has a new passphrase; copies of the file keep the old one\n", path)
	return nil
}

// keyFile is the keystore file that the argument names.
func keyFile(c *cli.Context) (string, error) {
	arg, dir := c.Args().First(), c.String("dir")
	for _, path := range []string{wallet.Path(dir, arg), arg, filepath.Join(dir, arg)} {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", proc.Usage(fmt.Errorf("wallet %s: %w; sn3 wallet list shows those of a folder", arg, os.ErrNotExist))
}

func walletList(c *cli.Context) error {
	dir := c.String("dir")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return proc.Usage(fmt.Errorf("list wallets: %w", err))
	}
	found := 0
	for _, e := range entries {
		line, ok := describe(dir, e.Name(), entries)
		if !ok {
			continue
		}
		fmt.Printf("%-24s %s\n", e.Name(), line)
		found++
	}
	if found == 0 {
		fmt.Printf("no wallets in %s; sn3 wallet new NAME makes one\n", dir)
	}
	return nil
}

// describe is a line of the list: for every keystore file, and for public files that are alone.
func describe(dir, name string, all []os.DirEntry) (line string, ok bool) {
	path := filepath.Join(dir, name)
	switch {
	case strings.HasSuffix(name, wallet.PublicFile):
		key := strings.TrimSuffix(name, wallet.PublicFile) + wallet.KeyFile
		if slices.ContainsFunc(all, func(e os.DirEntry) bool { return e.Name() == key }) {
			return "", false
		}
		p, err := wallet.ReadPublic(path)
		if err != nil {
			return fmt.Sprintf("not a public file: %v", err), true
		}
		return fmt.Sprintf("%s %s public only", p.Account, p.Address), true
	case strings.HasSuffix(name, wallet.KeyFile), strings.HasPrefix(name, "UTC--"):
		p, err := wallet.PublicInFile(path)
		if err != nil {
			return fmt.Sprintf("not a wallet: %v", err), true
		}
		return fmt.Sprintf("%s %s", p.Account, p.Address), true
	}
	return "", false
}

func walletShow(c *cli.Context) error {
	arg, dir := c.Args().First(), c.String("dir")
	path, err := keyFile(c)
	if pub := filepath.Join(dir, arg+wallet.PublicFile); err != nil {
		if _, e := os.Stat(pub); e == nil {
			path, err = pub, nil
		}
	}
	if err != nil {
		return err
	}
	p, err := wallet.PublicInFile(path)
	if err != nil {
		return walletError(err)
	}
	fmt.Printf("account  %s\naddress  %s\n", p.Account, p.Address)
	return nil
}
