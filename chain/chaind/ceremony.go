package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/chain/local/node"
)

func ceremonyCommand() *cli.Command {
	return &cli.Command{Name: "ceremony", Usage: "make the beacon's key with the other validators, before the first block", Before: given("home", "folder"), Action: takePart,
		Description: "Every validator of the draft runs it three times with its own copy of the folder: it deals, answers the dealings of the others, and takes its share of the key. " +
			"Each time it says which file the others need, and what it waits for; put their files into the folder, under any name. None of them is a secret. To run it again does no harm, and brings back a lost share.",
		Flags: []cli.Flag{home(), &cli.StringFlag{Name: "folder", Usage: "`FOLDER` with draft.json, which chaind genesis --ceremony wrote, and the files of the members"}}}
}

func takePart(c *cli.Context) error {
	x, err := node.TakePart(c.String("home"), c.String("folder"))
	if x == nil {
		return exit(err)
	}
	fmt.Printf("network   %s\ndraft     %s\n", x.Network, x.Draft)
	for i, m := range x.Members {
		said := map[bool]string{true: "has dealt", false: "has not dealt"}[m.Dealt]
		if m.Answered {
			said = "has dealt and answered"
		}
		if i == x.Self {
			said += "  (this node)"
		}
		fmt.Printf("validator %s %s\n", m.Validator.Short(), said)
	}
	for _, bad := range x.Bad {
		fmt.Printf("          %s has dealt a bad share, which somebody shows in its answer: its dealing does not count\n", bad.Short())
	}
	if err != nil {
		return exit(err)
	}
	if x.Made {
		fmt.Printf("beacon    %d of %d sign together\ngenesis   %s\n\nThis node has its share of the key. Compare the hash of the genesis with all others, not by the way that the files came:\n"+
			"if one has another, somebody said different things to you; begin again. Then make the node's folder:\n  chaind init --home %s --genesis %s --p2p-listen HOST:PORT --peer ID@HOST:PORT\n",
			x.Threshold, len(x.Members), x.Genesis, c.String("home"), x.File)
		return nil
	}
	fmt.Printf("\nSend to all others:  %s\n%s\n", strings.Join(x.Own, "  "), awaited(x))
	return nil
}

// awaited says whose files are missing.
func awaited(x *node.Ceremony) string {
	what, who := "dealing", []string(nil)
	for _, m := range x.Members {
		if !m.Dealt {
			who = append(who, m.Validator.Short())
		}
	}
	if who == nil {
		what = "answer"
		for _, m := range x.Members {
			if !m.Answered {
				who = append(who, m.Validator.Short())
			}
		}
	}
	return fmt.Sprintf("Missing here:        the %s of %s. Put it into the folder and run this command again.\nWhoever never sends one is left out by beginning again: chaind genesis, a new folder, the lines of the others.", what, strings.Join(who, ", "))
}
