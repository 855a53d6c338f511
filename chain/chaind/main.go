// Command chaind runs a node of the local chain.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"sn3/chain/local"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/ceremony"
	"sn3/chain/local/node"
	"sn3/chain/local/state"
	"sn3/internal/proc"
)

func main() { os.Exit(proc.Main("chaind", run(os.Args))) }

func env(name string) []string { return []string{"SN3_" + name} }

func run(args []string) error {
	usage := func(c *cli.Context, err error, _ bool) error { return proc.Flag(c, err) }
	app := &cli.App{Name: "chaind", Usage: "run a node of the local chain", Version: proc.Version, Suggest: true, EnableBashCompletion: true,
		ExitErrHandler: func(*cli.Context, error) {}, OnUsageError: usage, Action: noCommand,
		Commands: []*cli.Command{initCommand(), joinCommand(), keysCommand(), genesisCommand(), ceremonyCommand(), startCommand(), statusCommand(), trustCommand(), exportCommand(), importCommand(), pruneCommand()}}
	for _, c := range app.Commands {
		c.OnUsageError = usage
	}
	return app.Run(args)
}

// home is the flag that every command has.
func home() cli.Flag {
	return &cli.StringFlag{Name: "home", Usage: "`FOLDER` of the node", EnvVars: env("CHAIN_HOME")}
}

// noCommand is chaind without one of its commands.
func noCommand(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return proc.Usage(fmt.Errorf("there is no command %q; the commands are init, join, keys, genesis, ceremony, start, status, trust, export, import, prune and help", name))
	}
	return cli.ShowAppHelp(c)
}

// given refuses arguments, and a command line without one of the flags.
func given(flags ...string) cli.BeforeFunc {
	return func(c *cli.Context) error {
		if arg := c.Args().First(); arg != "" {
			return proc.Usage(fmt.Errorf("unexpected argument %q; every setting is a flag", arg))
		}
		return proc.Missing(c, flags...)
	}
}

// exit gives errors about the folder their exit codes.
func exit(err error) error {
	for _, refused := range []error{node.ErrFormat, node.ErrInUse, node.ErrExists, node.ErrGenesis, node.ErrRules, node.ErrTrust, node.ErrArchive, node.ErrCeremony, node.ErrShare, state.ErrVersion} {
		if errors.Is(err, refused) {
			return proc.Refused(err)
		}
	}
	if errors.Is(err, node.ErrNoChain) || errors.Is(err, node.ErrNet) || errors.Is(err, local.ErrCandidate) || errors.Is(err, ceremony.ErrDraft) || errors.Is(err, dkg.ErrNotMember) {
		return proc.Usage(err)
	}
	return err
}
