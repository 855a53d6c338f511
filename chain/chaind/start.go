package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/node"
	"sn3/internal/proc"
)

// runningFile in a node's folder says where the process that runs it, or ran it last, listens.
const runningFile = "running.json"

func startCommand() *cli.Command {
	flags := append([]cli.Flag{home(),
		&cli.StringFlag{Name: "listen", Value: "127.0.0.1:26657", Usage: "`HOST:PORT` of the API; port 0: any that is free", EnvVars: env("LISTEN")},
		&cli.StringFlag{Name: "ready-file", Usage: "`FILE` written when the node serves: its address as JSON"},
		&cli.IntFlag{Name: "s3-port", Usage: "`PORT` of the local network's S3 server, told to clients", EnvVars: env("S3_PORT")},
		&cli.StringSliceFlag{Name: "gossip-peer", Usage: "`ADDRESS` of miners' and validators' announcements, told to clients"},
		&cli.Uint64Flag{Name: "snapshot-every", Value: 500, Usage: "`BLOCKS` between two snapshots for nodes that join; three are kept", EnvVars: env("SNAPSHOT_EVERY")},
		&cli.BoolFlag{Name: "paused", Usage: "only answer from the folder: make no blocks, take no transactions"},
		&cli.IntFlag{Name: "parent-fd", Hidden: true},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json", EnvVars: env("LOG_FORMAT")},
		&cli.BoolFlag{Name: "verbose", Usage: "log more"}}, netFlags()...)
	return &cli.Command{Name: "start", Aliases: []string{"run"}, Usage: "run the node until SIGTERM or Ctrl-C", Before: given("home"), Action: startNode, Flags: flags}
}

// network is the folder's settings of peer-to-peer with the flags in their place.
func network(c *cli.Context) (node.Net, error) {
	n, err := node.ReadNet(c.String("home"))
	if err != nil {
		return n, err
	}
	return withFlags(c, n)
}

// public warns of an API that others than this machine reach.
func public(log *slog.Logger, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsLoopback() {
		log.Warn("the API is open to whoever reaches this address, without encryption; keep it on loopback and put a reverse proxy with TLS before it: docs/chain.md", "addr", addr)
	}
}

func startNode(c *cli.Context) error {
	if p := c.Int("s3-port"); p < 0 || p > 65535 {
		return proc.Usage(fmt.Errorf("--s3-port %d is no port", p))
	}
	if n := c.Uint64("snapshot-every"); n < 10 || n > 1000 { // of older ones nobody could fetch the blocks that follow
		return proc.Usage(fmt.Errorf("--snapshot-every %d: want 10 to 1000 blocks", n))
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
	meet, err := network(c)
	if err != nil {
		return exit(err)
	}
	n, err := node.Start(node.Options{Home: c.String("home"), Listen: c.String("listen"), Version: proc.Version, Log: log,
		Info: local.NodeInfo{S3Port: c.Int("s3-port"), Peers: c.StringSlice("gossip-peer")}, Paused: c.Bool("paused"), Net: &meet, SnapshotEvery: chain.Block(c.Uint64("snapshot-every"))})
	if err != nil {
		return exit(err)
	}
	log.Info("chain node serves", "addr", n.Addr(), "peers", n.Status().Listen)
	public(log, n.Addr())
	if err := ready(filepath.Join(c.String("home"), runningFile), n.Addr()); err != nil {
		return errors.Join(err, n.Close())
	}
	if f := c.String("ready-file"); f != "" {
		if err := ready(f, n.Addr()); err != nil {
			return errors.Join(err, n.Close())
		}
	}
	err = exit(errors.Join(n.Wait(ctx), n.Close()))
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
