package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
	"sn3/chain/local/wallet"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/internal/spec"
	"sn3/model/data"
	"sn3/storage"
)

func genesisCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "network", Usage: "`NAME` of the network, which binds every signature: one that nobody else uses"},
		&cli.StringFlag{Name: "preset", Usage: "model preset `NAME` or file, see sn3 preset"},
		&cli.StringFlag{Name: "data", Usage: "packed dataset `FOLDER`, see sn3 data pack"},
		&cli.StringFlag{Name: "data-at", Usage: "`LOCATOR` of the bucket that the folder is copied to"},
		&cli.StringSliceFlag{Name: "data-mirror", Usage: "`LOCATOR` of another bucket with the same objects; may be given again"},
		&cli.StringFlag{Name: "owner", Usage: "`ACCOUNT` that may change parameters, block makers and rules, and gets the owner's cut"},
		&cli.StringSliceFlag{Name: "seat", Usage: "seat at genesis as `HOTKEY[:STAKE[:COLDKEY]]`; stake in coins makes a validator; may be given again"},
		&cli.StringSliceFlag{Name: "account", Usage: "balance at genesis as `ACCOUNT:COINS`; may be given again"},
		&cli.Int64Flag{Name: "block-time", Value: 12000, Usage: "`MILLISECONDS` between blocks; presets from 8m on count on Subtensor's 12 s, local, wire and small on 500"},
		&cli.Uint64Flag{Name: "seed", Usage: "`NUMBER` of the initial model (default: drawn)"},
		&cli.IntFlag{Name: "windows", Usage: "`WINDOWS` that the learning rate is planned for (default: the preset's)"},
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Value: "genesis.json", Usage: "`FILE` to write; it must not exist"},
	}
	cmd := command("genesis", "write the genesis of a network of your own, for chaind init", "", 0, flags, writeGenesis)
	cmd.Before = func(c *cli.Context) error {
		return proc.Missing(c, "network", "preset", "data", "data-at", "owner", "seat")
	}
	return cmd
}

func writeGenesis(c *cli.Context) error {
	run, err := newRun(c)
	if err != nil {
		return err
	}
	g := &state.Genesis{Network: run.Network, Run: run.Encode(), BlockTimeMS: c.Int64("block-time"), Rules: state.NewestRules, Params: state.DefaultParams()}
	if err := people(c, g); err != nil {
		return err
	}
	if err := checkGenesis(*g); err != nil {
		return proc.Usage(err)
	}
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return fmt.Errorf("write genesis: %w", err)
	}
	f, err := os.OpenFile(c.String("out"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return proc.Usage(fmt.Errorf("write genesis: %w", err))
	}
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write genesis: %w", errors.Join(err, os.Remove(c.String("out"))))
	}
	window := time.Duration(run.Schedule.Length) * time.Duration(g.BlockTimeMS) * time.Millisecond
	fmt.Printf("genesis  %s\nnetwork  %s, run %s, %s, blocks of %d ms, windows of %s\nParameters stand in the file and can be edited before the network starts. Next: chaind init --genesis %s\n",
		c.String("out"), g.Network, run.Hash().Short(), many(uint64(len(g.Seats)), "seat"), g.BlockTimeMS, window, c.String("out"))
	return nil
}

// checkGenesis finds now what chaind init would refuse. It fills in a beacon key if there is none; this one is nobody's.
func checkGenesis(g state.Genesis) error {
	secret, err := beacon.Generate()
	if err != nil {
		return err
	}
	if g.BeaconKey, err = beacon.Public(secret); err != nil {
		return err
	}
	_, err = g.Validate()
	return err
}

// newRun fills in what a preset leaves open.
func newRun(c *cli.Context) (*chain.Run, error) {
	p, err := preset.Open(c.String("preset"))
	if err != nil {
		return nil, proc.Usage(err)
	}
	run, err := p.Run(c.Int("windows"))
	if err != nil {
		return nil, proc.Usage(err)
	}
	pin, err := data.ReadPin(c.String("data"))
	if err != nil {
		return nil, proc.Usage(fmt.Errorf("--data %s: %w; sn3 data pack makes such a folder", c.String("data"), err))
	}
	m, err := data.ReadManifest(c.String("data"), pin)
	if err != nil {
		return nil, proc.Usage(fmt.Errorf("--data %s: %w", c.String("data"), err))
	}
	run.Network, run.Tokenizer = c.String("network"), m.Provenance.Tokenizer
	run.Dataset = chain.DatasetSpec{Manifest: pin.Manifest, Root: pin.Root}
	at, err := storage.ParseLocatorString(c.String("data-at"))
	if err != nil {
		return nil, proc.Usage(fmt.Errorf("--data-at: %w", err))
	}
	run.Dataset.Locator, run.Loopback = at.Encode(), at.Kind() == storage.KindLocal
	for _, s := range c.StringSlice("data-mirror") {
		l, err := storage.ParseLocatorString(s)
		if err != nil {
			return nil, proc.Usage(fmt.Errorf("--data-mirror: %w", err))
		}
		run.Dataset.Mirrors = append(run.Dataset.Mirrors, l.Encode())
	}
	if run.Seed = c.Uint64("seed"); !c.IsSet("seed") {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, fmt.Errorf("draw a seed: %w", err)
		}
		run.Seed = binary.BigEndian.Uint64(b[:])
	}
	if err := errors.Join(run.Validate(), spec.Check(run)); err != nil {
		return nil, proc.Usage(err)
	}
	return run, nil
}

// people are owner, seats and balances.
func people(c *cli.Context, g *state.Genesis) error {
	owner, err := wallet.ReadAccount(c.String("owner"))
	if err != nil {
		return proc.Usage(fmt.Errorf("--owner: %w", err))
	}
	g.Owner = chain.Coldkey(owner)
	staked := false
	for _, text := range c.StringSlice("seat") {
		s, err := seatOf(text)
		if err != nil {
			return proc.Usage(fmt.Errorf("--seat %q: %w; want HOTKEY[:STAKE[:COLDKEY]]", text, err))
		}
		staked = staked || s.Permit
		g.Seats = append(g.Seats, s)
	}
	if !staked {
		return proc.Usage(errors.New("no seat has a stake: nobody could score; give one of the seats a stake in coins, --seat HOTKEY:1000"))
	}
	for _, text := range c.StringSlice("account") {
		account, sum, _ := strings.Cut(text, ":")
		to, amount, err := payment(account, sum)
		if err != nil {
			return err
		}
		g.Accounts = append(g.Accounts, state.Account{Coldkey: to, Balance: amount})
	}
	return nil
}

func seatOf(text string) (s state.Seat, err error) {
	f := strings.SplitN(text, ":", 3)
	if s.Hotkey, err = wallet.ReadAccount(f[0]); err != nil {
		return s, err
	}
	if len(f) > 1 && f[1] != "" && f[1] != "0" {
		if s.Stake, err = coins(f[1]); err != nil {
			return s, err
		}
		s.Permit = true
	}
	if len(f) == 3 {
		cold, err := wallet.ReadAccount(f[2])
		if err != nil {
			return s, err
		}
		s.Coldkey = chain.Coldkey(cold)
	}
	return s, nil
}
