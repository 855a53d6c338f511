// Command sn3 is the operator's and researcher's tool: wallets, registration, what the network does and why, and pulling,
// checking and trying its checkpoints.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/quorum"
	"sn3/internal/node"
	"sn3/internal/proc"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
)

func main() { os.Exit(proc.Main("sn3", run(os.Args))) }

// run is main without the exit, for tests.
func run(args []string) error {
	app := proc.Frame(&cli.App{
		Name: "sn3", Usage: "operate and use an SN3 network",
		Description: "Commands that need a network take --local FOLDER (one made by make up; when it does not run, its S3 server and, paused, its chain are started for the length of the command) or --chain HOST:PORT.",
		Commands: []*cli.Command{statusCommand(), whyCommand(), registerCommand(), transferCommand(), faucetCommand(), stakeCommand(), walletCommand(), genesisCommand(), chainCommand(),
			bucketCommand(), pullCommand(), verifyCommand(), importCommand(), exportCommand(), evalCommand(), generateCommand(), inspectCommand(), presetCommand(), planCommand(), dataCommand(), s3Command()},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "local", Usage: "`FOLDER` of a local network"},
			&cli.StringFlag{Name: "chain", Usage: "chain node as `HOST:PORT`, or several separated by commas, which are compared"},
			proc.LogFormat(""),
		},
		Before: func(c *cli.Context) error {
			_, err := proc.Logger(c.String("log-format"), false)
			return err
		},
	})
	return app.Run(flagsFirst(app, args))
}

// command fills in what every command has: a usage error for surplus or missing arguments.
func command(name, usage, args string, want int, flags []cli.Flag, act func(*cli.Context) error) *cli.Command {
	return &cli.Command{Name: name, Usage: usage, ArgsUsage: args, Flags: flags,
		Action: func(c *cli.Context) error {
			switch {
			case want < 0 || c.NArg() == want:
				return act(c)
			case want == 0:
				return proc.Usage(fmt.Errorf("unexpected argument %q; %s takes none", c.Args().First(), name))
			}
			return proc.Usage(fmt.Errorf("%s takes %s, got %d arguments", name, args, c.NArg()))
		}}
}

// network is what a command talks to.
type network struct {
	client *local.Client
	status local.Status
	run    *chain.Run
	policy storage.DialPolicy
	dir    string // of a local network, or ""
	names  map[chain.Hotkey]string
	close  func() error
}

// open reaches the network that the global flags name. With a key the client can also write; without one the chain of a
// stopped local network is started paused.
func open(ctx context.Context, c *cli.Context, key keySource) (*network, error) {
	n := &network{dir: c.String("local"), close: func() error { return nil }}
	addr := c.String("chain")
	if addr != "" && addr != os.Getenv("SN3_CHAIN") && n.dir == os.Getenv("SN3_LOCAL") {
		n.dir = "" // a flag wins over the environment
	}
	if n.dir == "" && addr == "" {
		return nil, proc.Usage(errors.New("which network? give --local FOLDER (a network made by make up) or --chain HOST:PORT"))
	}
	var by chain.Signer // an interface without a value reads only
	if key != nil {
		var err error
		if by, err = key(); err != nil { // before anything is started
			return nil, err
		}
	}
	if n.dir != "" {
		at, err := attach(ctx, n.dir, key != nil)
		if err != nil {
			return nil, err
		}
		n.close, addr = at.Close, at.Chain
		if n.names, err = netdir.Names(n.dir); err != nil {
			return nil, errors.Join(err, n.close())
		}
	}
	back, err := quorum.Dial(addr, func(x quorum.Notice) { proc.Note(x.String()) })
	if err != nil {
		return nil, errors.Join(proc.Usage(err), n.close())
	}
	n.client = local.NewClient(back, by)
	if n.status, err = n.client.Status(ctx); err != nil {
		if errors.Is(err, chain.ErrUnavailable) {
			err = fmt.Errorf("%w; is it running, and is this the address of its API (chaind start --listen)?", err)
		}
		return nil, errors.Join(fmt.Errorf("ask the chain node at %s: %w", addr, err), n.close())
	}
	if n.run, err = n.client.Describe(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("read run descriptor: %w", err), n.close())
	}
	n.policy = storage.DialPolicy{Loopback: n.run.Loopback, LocalPort: n.status.Info.S3Port}
	return n, nil
}

// attach uses a local network, or starts what is needed of it.
func attach(ctx context.Context, dir string, write bool) (*netdir.Attached, error) {
	at, err := netdir.Attach(ctx, dir, write, proc.Note)
	if errors.Is(err, netdir.ErrNotOurs) || errors.Is(err, netdir.ErrFormat) {
		return nil, proc.Refused(err)
	}
	return at, err
}

// with opens a network for the length of f.
func with(c *cli.Context, key keySource, f func(ctx context.Context, n *network) error) error {
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a reader that leaves (| head) must not end us before we have cleared up
	n, err := open(ctx, c, key)
	if err != nil {
		return proc.Ended(ctx, err)
	}
	return ending(ctx, f(ctx, n), n.close())
}

// ending is what ended a command, with the exit code of a refused transaction; of one that was interrupted, what is to be known.
func ending(ctx context.Context, did, closed error) error {
	var refused *local.TxError
	var pending *local.PendingError
	switch {
	case errors.As(did, &pending) && ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), errors.New(pending.Hint()), closed)
	case errors.As(did, &refused) && !errors.Is(did, chain.ErrUnavailable):
		did = proc.Refused(did)
	}
	return proc.Ended(ctx, errors.Join(did, closed))
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
	s, err := node.Head(ctx, n.client)
	if err != nil {
		return nil, fmt.Errorf("read metagraph: %w", err)
	}
	return s, nil
}

// name is the local network's name of a hotkey, or its first digits.
func (n *network) name(h chain.Hotkey) string {
	if x := n.names[h]; x != "" {
		return x
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
		match := "no seat matches"
		if len(found) > 1 {
			match = fmt.Sprintf("%d seats match", len(found))
		}
		return chain.Neuron{}, proc.Usage(fmt.Errorf("%s %q; give a uid, a name such as miner-1 or the hotkey in hex (sn3 chain metagraph lists them)", match, arg))
	}
	return found[0], nil
}

func outputFlag(value string) cli.Flag {
	return &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Value: value, Usage: "`FOLDER` to write to"}
}
