// Command sn3 is the operator's and researcher's tool: wallets, registration, what the network does and why, and pulling,
// checking and trying its checkpoints.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
)

func main() { os.Exit(proc.Main("sn3", run(os.Args))) }

// run is main without the exit, for tests.
func run(args []string) error {
	app := &cli.App{
		Name: "sn3", Usage: "operate and use an SN3 network", Version: proc.Version, Suggest: true, EnableBashCompletion: true,
		Description: "Commands that need a network take --local FOLDER (a network made by `make up`; its chain and S3 are started for the length of the command if they are not running) or --chain HOST:PORT.",
		Commands: []*cli.Command{statusCommand(), whyCommand(), registerCommand(), transferCommand(), faucetCommand(), walletCommand(),
			bucketCommand(), pullCommand(), verifyCommand(), evalCommand(), generateCommand(), inspectCommand(), s3Command()},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "local", Usage: "`FOLDER` of a local network", EnvVars: []string{"SN3_LOCAL"}},
			&cli.StringFlag{Name: "chain", Usage: "chain node as `HOST:PORT`", EnvVars: []string{"SN3_CHAIN"}},
		},
		OnUsageError:   func(c *cli.Context, err error, _ bool) error { return proc.Flag(c, err) },
		ExitErrHandler: func(*cli.Context, error) {},
		CommandNotFound: func(c *cli.Context, name string) {
			fmt.Fprintf(c.App.ErrWriter, "sn3: no command %q; sn3 help lists them\n", name)
		},
	}
	return app.Run(flagsFirst(app.Commands, args))
}

// command fills in what every command has: a usage error for bad flags and for surplus or missing arguments.
func command(name, usage, args string, want int, flags []cli.Flag, act func(*cli.Context) error) *cli.Command {
	return &cli.Command{Name: name, Usage: usage, ArgsUsage: args, Flags: flags,
		OnUsageError: func(c *cli.Context, err error, _ bool) error { return proc.Flag(c, err) },
		Action: func(c *cli.Context) error {
			if want >= 0 && c.NArg() != want {
				return proc.Usage(fmt.Errorf("%s takes %d arguments (%s), got %d", name, want, args, c.NArg()))
			}
			return act(c)
		}}
}

// network is what a command talks to.
type network struct {
	client *local.Client
	status local.Status
	run    *chain.Run
	policy storage.DialPolicy
	dir    string // of a local network, or ""
	close  func() error
}

// open reaches the network that the global flags name. With a key the client can also write.
func open(ctx context.Context, c *cli.Context, key keySource) (*network, error) {
	n := &network{dir: c.String("local"), close: func() error { return nil }}
	addr := c.String("chain")
	if n.dir != "" {
		at, err := netdir.Attach(ctx, n.dir)
		if err != nil {
			return nil, err
		}
		n.close, addr = at.Close, at.Chain
	}
	if addr == "" {
		return nil, proc.Usage(errors.New("which network? give --local FOLDER (a network made by make up) or --chain HOST:PORT before the command"))
	}
	back, err := local.Dial(addr)
	if err != nil {
		return nil, errors.Join(proc.Usage(err), n.close())
	}
	k, err := key()
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	n.client = local.NewClient(back, k)
	if n.status, err = n.client.Status(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("ask the chain node at %s: %w", addr, err), n.close())
	}
	if n.run, err = n.client.Describe(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("read run descriptor: %w", err), n.close())
	}
	n.policy = storage.DialPolicy{Loopback: n.run.Loopback, LocalPort: n.status.Info.S3Port}
	return n, nil
}

// with opens a network for the length of f.
func with(c *cli.Context, key keySource, f func(ctx context.Context, n *network) error) error {
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	n, err := open(ctx, c, key)
	if err != nil {
		return proc.Ended(ctx, err)
	}
	return proc.Ended(ctx, errors.Join(f(ctx, n), n.close()))
}

// bucket opens a bucket by its encoded locator for reading.
func (n *network) bucket(locator []byte) (*storage.Bucket, error) {
	l, err := storage.ParseLocator(locator)
	if err != nil {
		return nil, fmt.Errorf("read locator: %w", err)
	}
	return storage.Open(l, nil, n.policy)
}

// head is the metagraph as of the newest block.
func (n *network) head(ctx context.Context) (*chain.Snapshot, error) {
	s, err := n.client.Snapshot(ctx, n.status.Height)
	if errors.Is(err, chain.ErrPruned) || errors.Is(err, chain.ErrNotYet) { // the chain moved on since
		if n.status, err = n.client.Status(ctx); err == nil {
			s, err = n.client.Snapshot(ctx, n.status.Height)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read metagraph: %w", err)
	}
	return s, nil
}

// name is the local network's name of a hotkey, or its first digits.
func (n *network) name(h chain.Hotkey) string {
	if n.dir != "" {
		if names, err := netdir.Names(n.dir); err == nil && names[h] != "" {
			return names[h]
		}
	}
	return h.Short()
}

// hotkey finds who an argument means: a name of the local network, a hotkey in hex or its beginning, or a uid.
func (n *network) hotkey(s *chain.Snapshot, arg string) (chain.Neuron, error) {
	var found []chain.Neuron
	for _, x := range s.Neurons {
		if n.name(x.Hotkey) == arg || fmt.Sprint(x.UID) == arg || len(arg) >= 4 && len(arg) <= 64 && x.Hotkey.String()[:len(arg)] == arg {
			found = append(found, x)
		}
	}
	if len(found) != 1 {
		return chain.Neuron{}, proc.Usage(fmt.Errorf("%d seats match %q; give a uid, a name such as miner-1 or the hotkey in hex", len(found), arg))
	}
	return found[0], nil
}

func outputFlag(value string) cli.Flag {
	return &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Value: value, Usage: "`FOLDER` to write to"}
}
