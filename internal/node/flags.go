// Package node wires what miners and validators have in common: flags, key, chain, buckets, dataset, replica, gossip, diary.
// It is part of the two mains, kept once.
package node

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model/data"
	"sn3/model/kern"
)

// Groups of flags in the help text.
const (
	flagGroupNetwork  = "Network:"
	flagGroupIdentity = "Identity and bucket:"
	flagGroupMachine  = "This machine:"
)

func str(group, name, value, usage string) cli.Flag {
	return &cli.StringFlag{Name: name, Value: value, Usage: usage, Category: group}
}

// Flags are the flags of both miner and validator.
func Flags() []cli.Flag {
	flags := []cli.Flag{
		str(flagGroupNetwork, "chain", "", "chain node as `HOST:PORT`, or several as HOST:PORT,HOST:PORT,…: compared, and one takes the place of another"),
		&cli.BoolFlag{Name: "no-p2p", Usage: "do not announce or listen by peer-to-peer; chain and S3 are enough", Category: flagGroupNetwork},
		str(flagGroupNetwork, "p2p-listen", "", "peer-to-peer `MULTIADDR` to listen on (default: a free loopback port)"),
		&cli.StringSliceFlag{Name: "p2p-peer", Usage: "peer-to-peer `MULTIADDR` to connect to (default: what the chain node names)", Category: flagGroupNetwork},
		str(flagGroupIdentity, "keystore", "", "key `FILE` (keystore v3; sn3 wallet new makes one)"),
		str(flagGroupIdentity, "bucket", "", "own bucket as `LOCATOR`: local:NAME, s3:REGION/NAME, r2:ACCOUNT/NAME?public=ID, gcs:NAME, b2:REGION/NAME"),
		str(flagGroupIdentity, "s3-access-key", "", "access `KEY` that may write the own bucket"),
		str(flagGroupIdentity, "s3-secret-file", "", "`FILE` with the secret of that key (or SN3_S3_SECRET)"),
		str(flagGroupMachine, "dir", "", "private `FOLDER` of this node (default: sn3-miner-HOTKEY or sn3-validator-HOTKEY here)"),
		str(flagGroupMachine, "engine", "cpu", "training `ENGINE`: cpu or gorgonia (slow, for checking)"),
		str(flagGroupMachine, "kernels", "", "force CPU `KERNELS`: "+strings.Join(kern.Names(), ", ")+" (default: the fastest of those this CPU has, by a short measurement)"),
		&cli.IntFlag{Name: "threads", Value: runtime.NumCPU(), Usage: "compute with `N` threads", Category: flagGroupMachine},
		&cli.IntFlag{Name: "micro-batch", DefaultText: "whole batches", Usage: "keep `N` sequences in the model at once: less memory, somewhat slower", Category: flagGroupMachine},
		&cli.BoolFlag{Name: "plan", Usage: "print what this node would need and end; needs --chain only", Category: flagGroupMachine},
		&cli.BoolFlag{Name: "ignore-plan", Usage: "start although memory or disk do not seem to suffice", Category: flagGroupMachine},
		str(flagGroupMachine, "compute-lock", "", "`FOLDER` of lock files that share this machine's cores between processes"),
		&cli.Int64Flag{Name: "data-cache", Value: data.DefaultCache >> 20, Usage: "keep at most `MIB` of the dataset's pages in the node's folder", Category: flagGroupMachine},
		&cli.IntFlag{Name: "parent-fd", Usage: "end when this inherited pipe closes", Hidden: true},
		&cli.StringFlag{Name: "failpoint", Usage: "kill this process at a named point (crash tests)", EnvVars: []string{"SN3_FAILPOINT"}, Hidden: true},
		proc.LogFormat(flagGroupMachine),
		&cli.BoolFlag{Name: "verbose", Usage: "log more", Category: flagGroupMachine},
	}
	return append(flags, PassphraseFlags(flagGroupIdentity)...)
}

// App is a binary with one main action.
// first, if not nil, runs before required flags are checked.
func App(name, usage, description string, flags []cli.Flag, first, action cli.ActionFunc) *cli.App {
	return proc.Frame(&cli.App{
		Name: name, Usage: usage, Description: description, Flags: flags, Action: action, HideHelpCommand: true, UseShortOptionHandling: true,
		Before: func(c *cli.Context) error {
			if _, err := proc.Logger(c.String("log-format"), c.Bool("verbose")); err != nil {
				return err
			}
			if c.Args().Len() > 0 {
				return proc.Usage(fmt.Errorf("unexpected argument %q; every setting is a flag", c.Args().First()))
			}
			if n := c.Int("threads"); n < 1 {
				return proc.Usage(fmt.Errorf("--threads %d: at least 1", n))
			}
			if n := c.Int("micro-batch"); n < 0 {
				return proc.Usage(fmt.Errorf("--micro-batch %d: want at least 1, or 0 for whole batches", n))
			}
			if mib := c.Int64("data-cache"); mib < 1 || mib > 1<<30 {
				return proc.Usage(fmt.Errorf("--data-cache %d: want 1 to %d (MiB)", mib, 1<<30))
			}
			if _, err := kern.Select(c.String("kernels")); err != nil {
				return proc.Usage(fmt.Errorf("--kernels: %w", err))
			}
			if first != nil {
				if err := first(c); err != nil {
					return err
				}
			}
			if c.Bool("plan") {
				return proc.Missing(c, "chain")
			}
			return proc.Missing(c, "chain", "keystore", "bucket", "s3-access-key")
		},
	})
}
