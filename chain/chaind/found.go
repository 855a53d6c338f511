package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"sn3/chain/local"
	"sn3/chain/local/node"
	"sn3/chain/local/state"
	"sn3/internal/proc"
)

func keysCommand() *cli.Command {
	return &cli.Command{Name: "keys", Usage: "make a node's keys before there is a chain, and print its line", Before: given("home", "network"), Action: makeKeys,
		Flags: []cli.Flag{home(), &cli.StringFlag{Name: "network", Usage: "`NAME` of the network that it is for"}}}
}

func makeKeys(c *cli.Context) error {
	line, err := node.Keys(c.String("home"), c.String("network"))
	if err != nil {
		return exit(err)
	}
	fmt.Println(line)
	return nil
}

func genesisCommand() *cli.Command {
	return &cli.Command{Name: "genesis", Usage: "complete the genesis of a network that begins with several validators", Before: given("home", "genesis"), Action: makeGenesis,
		Description: "Every validator prints its line (chaind keys); the first one puts all of them into the genesis. With --ceremony they make the beacon's key together: " +
			"the folder goes to all of them, and each runs chaind ceremony until there is a genesis. With --out the genesis is complete, with one key that the first one has alone. " +
			"Each makes its node's folder from the genesis (chaind init --genesis FILE --peer …).",
		Flags: []cli.Flag{home(),
			&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE` without validators"},
			&cli.StringSliceFlag{Name: "validator", Usage: "`LINE` that another validator's chaind keys printed; may be given again"},
			&cli.StringFlag{Name: "ceremony", Usage: "new `FOLDER` of the ceremony that makes a key which nobody has alone"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write, with a key of the first validator; it must not exist"}}}
}

func makeGenesis(c *cli.Context) error {
	folder, out := c.String("ceremony"), c.String("out")
	if (folder == "") == (out == "") {
		return proc.Usage(errors.New("give --ceremony FOLDER, for a beacon key that the validators share, or --out FILE, for one that this node has alone"))
	}
	g, err := readGenesis(c.String("genesis"))
	if err != nil {
		return err
	}
	var others []local.Candidate
	for _, line := range c.StringSlice("validator") {
		o, err := local.ParseCandidate(line, g.Network)
		if err != nil {
			return exit(err)
		}
		others = append(others, o)
	}
	if folder != "" {
		return makeDraft(c.String("home"), folder, g, others)
	}
	if err := node.Found(c.String("home"), g, others); err != nil {
		return exit(err)
	}
	if err := writeOut(out, g); err != nil {
		return err
	}
	hash, err := g.Hash()
	if err != nil {
		return err
	}
	line, err := node.Keys(c.String("home"), g.Network)
	if err != nil {
		return exit(err)
	}
	fmt.Printf("network   %s\ngenesis   %s\nbeacon    %s\nnode      %s\n", g.Network, hash, whoSigns(g, line.Key), line.Node)
	for _, v := range g.Validators {
		fmt.Printf("validator %s\n", v.Key)
	}
	return nil
}

func writeOut(file string, g *state.Genesis) error {
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return proc.Usage(fmt.Errorf("write genesis: %w", err))
	}
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write genesis: %w", err)
	}
	return nil
}

func makeDraft(home, folder string, g *state.Genesis, others []local.Candidate) error {
	hash, err := node.FoundDraft(home, folder, g, others)
	if err != nil {
		return exit(err)
	}
	line, err := node.Keys(home, g.Network)
	if err != nil {
		return exit(err)
	}
	fmt.Printf("network   %s\ndraft     %s\nnode      %s\n", g.Network, hash, line.Node)
	for _, v := range g.Validators {
		fmt.Printf("validator %s\n", v.Key)
	}
	fmt.Printf("\nGive the folder %s to all of them. Each runs, this one too:\n  chaind ceremony --home HOME --folder %s\n", folder, folder)
	return nil
}
