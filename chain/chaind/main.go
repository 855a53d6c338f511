// Command chaind runs a node of the local chain.
package main

import (
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
	home := &cli.StringFlag{Name: "home", Usage: "`FOLDER` of the node", Required: true, EnvVars: env("CHAIN_HOME")}
	usage := func(c *cli.Context, err error, _ bool) error { return proc.Flag(c, err) }
	app := &cli.App{Name: "chaind", Usage: "run a node of the local chain", Version: proc.Version, Suggest: true, EnableBashCompletion: true,
		ExitErrHandler: func(*cli.Context, error) {}, OnUsageError: usage,
		Commands: []*cli.Command{
			{Name: "init", Usage: "make a node's folder from a genesis file", OnUsageError: usage, Action: initNode, Flags: []cli.Flag{home,
				&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE`; an empty beacon key is filled in", Required: true}}},
			{Name: "run", Usage: "run the node", OnUsageError: usage, Action: runNode, Flags: []cli.Flag{home,
				&cli.StringFlag{Name: "listen", Value: "127.0.0.1:0", Usage: "`HOST:PORT` of the API; port 0 is chosen", EnvVars: env("LISTEN")},
				&cli.StringFlag{Name: "ready-file", Usage: "`FILE` written when the node serves: its address as JSON"},
				&cli.IntFlag{Name: "s3-port", Usage: "`PORT` of the local network's S3 server, told to clients", EnvVars: env("S3_PORT")},
				&cli.StringSliceFlag{Name: "peer", Usage: "peer-to-peer `ADDRESS` told to clients"},
				&cli.IntFlag{Name: "parent-fd", Hidden: true},
				&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json", EnvVars: env("LOG_FORMAT")},
				&cli.BoolFlag{Name: "verbose", Usage: "log more"}}},
		}}
	return app.Run(args)
}

func initNode(c *cli.Context) error {
	raw, err := os.ReadFile(c.String("genesis"))
	if err != nil {
		return proc.Usage(fmt.Errorf("read genesis: %w", err))
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return proc.Usage(err)
	}
	return node.Init(c.String("home"), g)
}

func runNode(c *cli.Context) error {
	ctx, cancel := proc.Context(c.Int("parent-fd"))
	defer cancel(nil)
	log, err := proc.Logger(c.String("log-format"), c.Bool("verbose"))
	if err != nil {
		return err
	}
	n, err := node.Start(node.Options{Home: c.String("home"), Listen: c.String("listen"), Version: proc.Version, Log: log,
		Info: local.NodeInfo{S3Port: c.Int("s3-port"), Peers: c.StringSlice("peer")}})
	if errors.Is(err, node.ErrFormat) {
		return proc.Refused(err)
	}
	if err != nil {
		return err
	}
	log.Info("chain node serves", "addr", n.Addr())
	if f := c.String("ready-file"); f != "" {
		if err := ready(f, n.Addr()); err != nil {
			return errors.Join(err, n.Close())
		}
	}
	return errors.Join(n.Wait(ctx), n.Close())
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
