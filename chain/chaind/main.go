// Command chaind runs a node of the local chain.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"sn3/chain/local"
	"sn3/chain/local/node"
	"sn3/chain/local/state"
	"sn3/internal/proc"
)

func main() { os.Exit(proc.Main("chaind", run(os.Args))) }

func env(name string) []string { return []string{"SN3_" + name} }

func run(args []string) error {
	home := &cli.StringFlag{Name: "home", Usage: "`FOLDER` of the node", EnvVars: env("CHAIN_HOME")}
	usage := func(c *cli.Context, err error, _ bool) error { return proc.Flag(c, err) }
	app := &cli.App{Name: "chaind", Usage: "run a node of the local chain", Version: proc.Version, Suggest: true, EnableBashCompletion: true,
		ExitErrHandler: func(*cli.Context, error) {}, OnUsageError: usage, Action: noCommand,
		Commands: []*cli.Command{
			{Name: "init", Usage: "make a node's folder from a genesis file", OnUsageError: usage, Before: given("home", "genesis"), Action: initNode, Flags: []cli.Flag{home,
				&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE`; an empty beacon key is filled in"}}},
			{Name: "run", Usage: "run the node until SIGTERM or Ctrl-C", OnUsageError: usage, Before: given("home"), Action: runNode, Flags: []cli.Flag{home,
				&cli.StringFlag{Name: "listen", Value: "127.0.0.1:0", Usage: "`HOST:PORT` of the API; port 0 is chosen", EnvVars: env("LISTEN")},
				&cli.StringFlag{Name: "ready-file", Usage: "`FILE` written when the node serves: its address as JSON"},
				&cli.IntFlag{Name: "s3-port", Usage: "`PORT` of the local network's S3 server, told to clients", EnvVars: env("S3_PORT")},
				&cli.StringSliceFlag{Name: "peer", Usage: "peer-to-peer `ADDRESS` told to clients"},
				&cli.BoolFlag{Name: "paused", Usage: "only answer from the folder: make no blocks, take no transactions"},
				&cli.IntFlag{Name: "parent-fd", Hidden: true},
				&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json", EnvVars: env("LOG_FORMAT")},
				&cli.BoolFlag{Name: "verbose", Usage: "log more"}}},
		}}
	return app.Run(args)
}

// noCommand is chaind without one of its commands.
func noCommand(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return proc.Usage(fmt.Errorf("there is no command %q; the commands are init, run and help", name))
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
	for _, refused := range []error{node.ErrFormat, node.ErrInUse, node.ErrExists, state.ErrVersion} {
		if errors.Is(err, refused) {
			return proc.Refused(err)
		}
	}
	if errors.Is(err, node.ErrNoChain) {
		return proc.Usage(err)
	}
	return err
}

func initNode(c *cli.Context) error {
	raw, err := os.ReadFile(c.String("genesis"))
	if err != nil {
		return proc.Usage(fmt.Errorf("read genesis: %w", err))
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return proc.Usage(fmt.Errorf("%s: %w", c.String("genesis"), err))
	}
	return exit(node.Init(c.String("home"), g, node.DefaultNet()))
}

func runNode(c *cli.Context) error {
	if p := c.Int("s3-port"); p < 0 || p > 65535 {
		return proc.Usage(fmt.Errorf("--s3-port %d is no port", p))
	}
	if _, _, err := net.SplitHostPort(c.String("listen")); err != nil {
		return proc.Usage(fmt.Errorf("--listen %q: want HOST:PORT", c.String("listen")))
	}
	ctx, cancel := proc.Context(c.Int("parent-fd"))
	defer cancel(nil)
	log, err := proc.Logger(c.String("log-format"), c.Bool("verbose"))
	if err != nil {
		return err
	}
	n, err := node.Start(node.Options{Home: c.String("home"), Listen: c.String("listen"), Version: proc.Version, Log: log,
		Info: local.NodeInfo{S3Port: c.Int("s3-port"), Peers: c.StringSlice("peer")}, Paused: c.Bool("paused")})
	if err != nil {
		return exit(err)
	}
	log.Info("chain node serves", "addr", n.Addr())
	if f := c.String("ready-file"); f != "" {
		if err := ready(f, n.Addr()); err != nil {
			return errors.Join(err, n.Close())
		}
	}
	err = errors.Join(n.Wait(ctx), n.Close())
	if err == nil {
		return context.Cause(ctx) // the signal
	}
	return err
}

// ready tells who started this process where it listens; the file appears whole.
func ready(path, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(map[string]any{"addr": addr, "port": p, "pid": os.Getpid()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", raw, 0o600); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	return os.Rename(path+".tmp", path)
}
