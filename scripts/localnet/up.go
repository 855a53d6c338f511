package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/node"
	"sn3/internal/plan"
	"sn3/internal/proc"
	"sn3/model/data"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
)

// continued is how many windows an existing network goes on when nobody says.
const continued = 24

// network is a running local network.
type network struct {
	dir     netdir.Dir
	set     netdir.Settings
	rt      netdir.Runtime
	run     *chain.Run
	sched   chain.Schedule
	client  *local.Client
	lock    *netdir.Lock
	out     voice
	servers *netdir.Servers
	nodes   []*member
	noP2P   bool
	from    chain.Window                  // first window of this run
	shown   chain.Window                  // first window that was not shown
	until   chain.Window                  // windows of the network when this run is over; 0 = no end
	add     int                           // windows of this run; 0 = no end
	old     bool                          // the network existed before this run
	earned  map[chain.Hotkey]chain.Amount // when this run began
}

// blockTime is what the network's genesis says.
func (n *network) blockTime() time.Duration {
	return time.Duration(n.set.BlockTimeMS) * time.Millisecond
}

// member is a node with its process.
type member struct {
	netdir.Node
	spec netdir.Spec
	kept *netdir.Kept // nil until it is started
}

func up(c *cli.Context) error {
	cfg, err := parse(c)
	if err != nil {
		return err
	}
	if err := cfg.dir.Foreign(); err != nil {
		return proc.Refused(fmt.Errorf("%w; choose another DIR", err))
	}
	if _, err := cfg.dir.Settings(); errors.Is(err, netdir.ErrNotOurs) { // a new network
		if err := cfg.matches(); err != nil {
			return proc.Usage(err)
		}
	}
	if err := os.MkdirAll(string(cfg.dir), 0o700); err != nil {
		return fmt.Errorf("make network folder: %w; choose another DIR", err)
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	lock, err := cfg.dir.LockWhenFree(ctx, func(s string) { cfg.out.say("note", "%s", s) })
	if errors.Is(err, netdir.ErrRunning) {
		return proc.Refused(busy(cfg.dir, c.String("dir"), err))
	}
	if err != nil {
		return err
	}
	err = runNetwork(ctx, cfg, lock)
	return errors.Join(proc.Ended(ctx, err), lock.Close())
}

// busy says who uses a folder that is locked.
func busy(d netdir.Dir, name string, err error) error {
	rt, rerr := d.Runtime()
	if holder := d.Holder(); rerr != nil || rt.PID != holder {
		return fmt.Errorf("%s is in use by the command of process %d; try again when it is done", name, holder)
	}
	return fmt.Errorf("%w in %s (launcher process %d): make status shows it, make down stops it, another DIR= starts a second one", err, name, rt.PID)
}

// runNetwork starts or continues a network, watches it to its end and sums it up.
func runNetwork(ctx context.Context, cfg config, lock *netdir.Lock) error {
	cfg.out.say("SN3", "a network on this machine, in %s", display(cfg.dir))
	n, src, err := prepare(ctx, cfg)
	if err != nil {
		return err
	}
	n.lock = lock
	defer n.stop()
	if err := n.start(ctx, src); err != nil {
		return err
	}
	w := newWatch(n)
	werr := w.run(ctx)
	n.shown = w.next
	cfg.out.say("stopping", "miners, validators, chain, S3")
	n.stop()
	verdict, serr := n.summarise(context.Background(), werr)
	if werr != nil || serr != nil {
		return errors.Join(werr, serr)
	}
	return verdict
}

// prepare makes a new network or reads an old one; what cannot change on an old one is refused by name.
func prepare(ctx context.Context, cfg config) (*network, *source, error) {
	n := &network{dir: cfg.dir, out: cfg.out, noP2P: cfg.noP2P, add: cfg.windows}
	if cfg.dir.Unfinished() {
		cfg.out.say("note", "an earlier start ended before its network was complete; starting over")
		if err := cfg.dir.Discard(); err != nil {
			return nil, nil, err
		}
	}
	set, err := cfg.dir.Settings()
	var src *source
	switch {
	case errors.Is(err, netdir.ErrNotOurs):
		if err := cfg.feasible(); err != nil {
			return nil, nil, err
		}
		if set, src, err = create(ctx, cfg); err != nil {
			return nil, nil, err
		}
		if err := chainInit(ctx, cfg.dir); err != nil {
			return nil, nil, err
		}
	case err != nil:
		return nil, nil, proc.Refused(err)
	default:
		if err := sameSettings(cfg, set); err != nil {
			return nil, nil, proc.Refused(err)
		}
		cfg.out.say("continuing", "%s", set.Network)
		if n.old = true; n.add < 0 {
			n.add = continued
		}
	}
	if !n.old {
		n.add = set.Windows
	}
	n.set = set
	if n.rt, err = cfg.dir.Runtime(); err != nil {
		return nil, nil, err
	}
	return n, src, cfg.dir.SaveSettings(set)
}

func chainInit(ctx context.Context, d netdir.Dir) error {
	bin, err := netdir.Bin("chaind")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, bin, "init", "--home", d.Path("chain"), "--genesis", d.Path("genesis.json")).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("make chain: %s: %w", strings.TrimSpace(string(out)), err)
	}
	return nil
}

// start brings up S3, the dataset, the chain and all nodes.
func (n *network) start(ctx context.Context, src *source) error {
	n.rt.PID, n.rt.Version, n.rt.PIDs, n.rt.Chain = os.Getpid(), proc.Version, map[string]int{}, ""
	err := n.dir.SaveRuntime(n.rt) // who asks from now on learns that it is starting
	if err != nil {
		return err
	}
	if n.servers, err = netdir.StartServers(ctx, n.dir, n.lock, n.rt, n.set.Nodes, false); err != nil {
		return err
	}
	n.rt.Chain, n.rt.ChainPort, n.rt.S3Port = n.servers.Chain, n.servers.ChainPort, n.servers.S3Port
	if src != nil {
		if err := errors.Join(n.upload(ctx, src), n.dir.Complete()); err != nil {
			return err
		}
	}
	back, err := local.Dial(n.servers.Chain)
	if err != nil {
		return err
	}
	n.client = local.NewClient(back, nil)
	if n.run, err = n.client.Describe(ctx); err != nil {
		return err
	}
	if n.sched, err = chain.NewSchedule(n.run.Schedule); err != nil {
		return err
	}
	size := int64(0) // of the dataset, as far as it is still to be copied
	if src != nil {
		size = src.size()
	}
	if note := crowded(n.run, n.set.Miners, n.set.Validators, size, plan.Here(string(n.dir))); note != "" {
		n.out.say("note", "%s", note)
	}
	if err := n.span(ctx); err != nil {
		return err
	}
	for _, x := range n.set.Nodes {
		if x.Role == "idle" {
			continue
		}
		m, err := n.member(x)
		if err != nil {
			return err
		}
		n.nodes = append(n.nodes, m)
		if m.kept, err = netdir.Keep(m.spec); err != nil {
			return err
		}
	}
	for _, k := range n.kept() {
		n.rt.PIDs[k.Name] = k.PID()
	}
	return n.dir.SaveRuntime(n.rt)
}

// span decides which windows this run covers and says how long it will take.
func (n *network) span(ctx context.Context) error {
	meta, err := node.Head(ctx, n.client)
	if err != nil {
		return fmt.Errorf("ask the chain where it stands: %w", err)
	}
	if w, ok := n.sched.Training(meta.Block); ok {
		n.from = w
	}
	n.earned = map[chain.Hotkey]chain.Amount{}
	for _, x := range meta.Neurons {
		n.earned[x.Hotkey] = x.Earned
	}
	per := time.Duration(n.run.Schedule.Length) * n.blockTime()
	n.out.say("window", "%d blocks of %s: %s", n.run.Schedule.Length, n.blockTime(), per)
	if n.add == 0 {
		n.out.say("duration", "until Ctrl-C")
		return nil
	}
	n.until = n.from + chain.Window(n.add)
	n.set.Windows = int(n.until)
	if err := n.dir.SaveSettings(n.set); err != nil {
		return err
	}
	left := time.Duration(n.sched.At(n.until-1, chain.PhaseApply)-meta.Block) * n.blockTime()
	n.out.say("duration", "%d windows, about %s", n.until-n.from, left.Round(10*time.Second))
	return nil
}

// upload copies the dataset to its bucket, object by object.
func (n *network) upload(ctx context.Context, src *source) error {
	secret, err := os.ReadFile(n.dir.Path("data.secret"))
	if err != nil {
		return fmt.Errorf("read data bucket's secret: %w", err)
	}
	cred, err := storage.NewCredential("key-data", strings.TrimSpace(string(secret)))
	if err != nil {
		return err
	}
	l, err := storage.Local("data")
	if err != nil {
		return err
	}
	b, err := storage.Open(l, cred, storage.DialPolicy{Loopback: true, LocalPort: n.rt.S3Port})
	if err != nil {
		return err
	}
	for _, key := range src.keys {
		object, err := src.from.Get(ctx, key, data.MaxTokenizer) // the largest kind
		if err == nil {
			err = b.Put(ctx, key, object)
		}
		if err != nil {
			return fmt.Errorf("upload dataset: %w", err)
		}
	}
	return nil
}

// member says how a node's process is started. Its peer-to-peer port moves if something else took it.
func (n *network) member(x netdir.Node) (*member, error) {
	bin, err := netdir.Bin(x.Role)
	if err != nil {
		return nil, err
	}
	port, err := netdir.FreePort(x.P2P)
	if err != nil {
		return nil, err
	}
	args := []string{"--chain", n.rt.Chain, "--keystore", n.dir.NodePath(x.Name, "key.json"),
		"--passphrase-file", n.dir.NodePath(x.Name, "passphrase"), "--bucket", "local:" + x.Name, "--s3-access-key", "key-" + x.Name,
		"--s3-secret-file", n.dir.NodePath(x.Name, "s3.secret"), "--dir", n.dir.NodePath(x.Name, "data"), "--threads", "1",
		"--data-cache", strconv.Itoa(nodeCache >> 20),
		"--p2p-listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)}
	if x.Role == "miner" { // validators have a deadline to meet: they neither queue for a core nor yield it
		args = append(args, "--gap", n.set.Gap, "--compute-lock", n.dir.Path("compute"))
	}
	if n.noP2P {
		args = append(args, "--no-p2p")
	}
	if n.out.json != nil {
		args = append(args, "--log-format", "json")
	}
	return &member{Node: x, spec: netdir.Spec{Name: x.Name, Bin: bin, Args: args, Log: n.dir.NodePath(x.Name, "log"),
		Nice: x.Role == "miner", Env: []string{"GOMAXPROCS=2"}, Hold: n.lock}}, nil
}

// stop ends everything that runs: miners, then validators, which publish a last checkpoint, then chain and S3.
func (n *network) stop() {
	for _, role := range []string{"miner", "validator"} {
		var wg sync.WaitGroup
		for _, m := range n.nodes {
			if m.Role == role && m.kept != nil {
				wg.Go(func() { m.kept.Stop(10 * time.Second) })
			}
		}
		wg.Wait()
	}
	if n.servers != nil {
		_ = n.servers.Close() // Stop has no error to tell
	}
	n.rt.PID, n.rt.PIDs = 0, nil
	_ = n.dir.SaveRuntime(n.rt) // the folder may be on a full disk; nothing depends on it
}
