package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
	"sn3/model/data"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
)

// restarts is how often a dead child is started again.
const restarts = 3

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
	servers *netdir.Servers
	nodes   []*member
	noP2P   bool
	from    chain.Window                  // first window of this run
	until   chain.Window                  // windows of the network when this run is over; 0 = no end
	add     int                           // windows of this run; 0 = no end
	old     bool                          // the network existed before this run
	earned  map[chain.Hotkey]chain.Amount // when this run began

	serversLeft  int // restarts left of chain and S3 together
	serversSince time.Time
}

// member is a node with its process.
type member struct {
	netdir.Node
	spec  netdir.Spec
	child *netdir.Child
	left  int       // restarts left
	since time.Time // of the last start; a process that dies at once is not started again at once
}

func up(c *cli.Context) error {
	cfg := config{windows: c.Int("windows"), miners: c.Int("miners"), validators: c.Int("validators"), model: c.String("model"),
		text: c.String("text"), gap: c.String("gap"), seed: c.Uint64("seed"), noP2P: c.Bool("no-p2p"), set: map[string]bool{}}
	for _, n := range []string{"windows", "miners", "validators", "model", "text", "gap", "seed"} {
		cfg.set[n] = c.IsSet(n)
	}
	if c.NArg() > 0 {
		return proc.Usage(fmt.Errorf("unexpected argument %q", c.Args().First()))
	}
	if cfg.miners < 1 || cfg.validators < 1 || cfg.miners > 200 || cfg.validators > 32 || cfg.gap != "train" && cfg.gap != "wait" || cfg.windows < -1 {
		return proc.Usage(fmt.Errorf("want 1..200 miners, 1..32 validators, gap train or wait, windows from 0; got %d, %d, %q, %d",
			cfg.miners, cfg.validators, cfg.gap, cfg.windows))
	}
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil {
		return err
	}
	cfg.dir = netdir.Dir(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make network folder: %w", err)
	}
	unlock, err := cfg.dir.Lock()
	if errors.Is(err, netdir.ErrRunning) {
		rt, _ := cfg.dir.Runtime() // only for the message
		return proc.Refused(fmt.Errorf("%w in %s (launcher process %d): make status shows it, make down stops it", err, c.String("dir"), rt.PID))
	}
	if err != nil {
		return err
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	err = runNetwork(ctx, cfg)
	return errors.Join(proc.Ended(ctx, err), unlock())
}

// runNetwork starts or continues a network, watches it to its end and sums it up.
func runNetwork(ctx context.Context, cfg config) error {
	fmt.Println("SN3 local network")
	n, packed, err := prepare(cfg)
	if err != nil {
		return err
	}
	defer n.stop()
	if err := n.start(ctx, packed); err != nil {
		return err
	}
	werr := newWatch(n).run(ctx)
	n.flush()
	n.stop()
	fmt.Println()
	verdict, serr := n.summarise(context.Background(), werr)
	if werr != nil || serr != nil {
		return errors.Join(werr, serr)
	}
	return verdict
}

// prepare makes a new network or reads an old one; what cannot change on an old one is refused by name.
func prepare(cfg config) (*network, *data.Packed, error) {
	n := &network{dir: cfg.dir, noP2P: cfg.noP2P, serversLeft: 2 * restarts, add: cfg.windows}
	if cfg.dir.Unfinished() {
		say("note      ", "an earlier start ended before its network was complete; starting over")
		if err := cfg.dir.Discard(); err != nil {
			return nil, nil, err
		}
	}
	set, err := cfg.dir.Settings()
	var packed *data.Packed
	switch {
	case errors.Is(err, netdir.ErrNotOurs):
		if set, packed, err = create(cfg); err != nil {
			return nil, nil, err
		}
		if err := chainInit(cfg.dir); err != nil {
			return nil, nil, err
		}
	case err != nil:
		return nil, nil, proc.Refused(err)
	default:
		if err := sameSettings(cfg, set); err != nil {
			return nil, nil, proc.Refused(err)
		}
		say("continuing ", "%s", set.Network)
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
	return n, packed, cfg.dir.SaveSettings(set)
}

func sameSettings(cfg config, s netdir.Settings) error {
	var bad []string
	check := func(name, got, have string) {
		if cfg.set[name] && got != have {
			bad = append(bad, fmt.Sprintf("%s=%s (it has %s)", strings.ToUpper(name), got, have))
		}
	}
	check("miners", strconv.Itoa(cfg.miners), strconv.Itoa(s.Miners))
	check("validators", strconv.Itoa(cfg.validators), strconv.Itoa(s.Validators))
	check("model", cfg.model, s.Model)
	check("seed", strconv.FormatUint(cfg.seed, 10), strconv.FormatUint(s.Seed, 10))
	check("text", cfg.text, s.Text)
	check("gap", cfg.gap, s.Gap)
	if len(bad) > 0 {
		return fmt.Errorf("%s holds a network that cannot change %s; use another DIR, or make clean-localnet", cfg.dir, strings.Join(bad, ", "))
	}
	return nil
}

func chainInit(d netdir.Dir) error {
	bin, err := netdir.Bin("chaind")
	if err != nil {
		return err
	}
	out, err := command(bin, "init", "--home", d.Path("chain"), "--genesis", d.Path("genesis.json"))
	if err != nil {
		return fmt.Errorf("make chain: %s: %w", out, err)
	}
	return nil
}

// start brings up S3, the dataset, the chain and all nodes.
func (n *network) start(ctx context.Context, packed *data.Packed) error {
	n.rt.PID, n.rt.Version, n.rt.PIDs, n.rt.Chain = os.Getpid(), proc.Version, map[string]int{}, ""
	err := n.dir.SaveRuntime(n.rt) // who asks from now on learns that it is starting
	if err != nil {
		return err
	}
	if n.servers, err = netdir.StartServers(ctx, n.dir, n.rt, n.set.Nodes); err != nil {
		return err
	}
	n.rt.Chain, n.rt.ChainPort, n.rt.S3Port = n.servers.Chain, n.servers.ChainPort, n.servers.S3Port
	for _, c := range n.servers.Children() {
		n.rt.PIDs[c.Name] = c.PID()
	}
	if packed != nil {
		if err := errors.Join(n.upload(ctx, packed), n.dir.Complete()); err != nil {
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
	if err := n.span(ctx); err != nil {
		return err
	}
	for _, node := range n.set.Nodes {
		if node.Role == "idle" {
			continue
		}
		m, err := n.member(node)
		if err != nil {
			return err
		}
		n.nodes = append(n.nodes, m)
		if m.child, err = netdir.Start(m.spec); err != nil {
			return err
		}
		n.rt.PIDs[m.Name] = m.child.PID()
	}
	return n.dir.SaveRuntime(n.rt)
}

// span decides which windows this run covers and says how long it will take.
func (n *network) span(ctx context.Context) error {
	st, err := n.client.Status(ctx)
	if err != nil {
		return err
	}
	if w, ok := n.sched.Training(st.Height); ok {
		n.from = w
	}
	meta, err := n.client.Snapshot(ctx, st.Height)
	if err != nil {
		return err
	}
	n.earned = map[chain.Hotkey]chain.Amount{}
	for _, x := range meta.Neurons {
		n.earned[x.Hotkey] = x.Earned
	}
	per := time.Duration(n.run.Schedule.Length) * blockTime
	say("window    ", "%d blocks of %s: %s", n.run.Schedule.Length, blockTime, per)
	if n.add == 0 {
		say("duration  ", "until Ctrl-C")
		return nil
	}
	n.until = n.from + chain.Window(n.add)
	n.set.Windows = int(n.until)
	if err := n.dir.SaveSettings(n.set); err != nil {
		return err
	}
	left := time.Duration(n.sched.At(n.until-1, chain.PhaseApply)-st.Height) * blockTime
	say("duration  ", "%d windows, about %s", n.until-n.from, left.Round(10*time.Second))
	return nil
}

func (n *network) upload(ctx context.Context, packed *data.Packed) error {
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
	for _, o := range packed.Objects {
		if err := b.Put(ctx, o.Key, o.Data); err != nil {
			return fmt.Errorf("upload dataset: %w", err)
		}
	}
	return nil
}

// member says how a node's process is started. Its peer-to-peer port moves if something else took it.
func (n *network) member(node netdir.Node) (*member, error) {
	bin, err := netdir.Bin(node.Role)
	if err != nil {
		return nil, err
	}
	port, err := netdir.FreePort(node.P2P)
	if err != nil {
		return nil, err
	}
	args := []string{"--chain", n.rt.Chain, "--keystore", n.dir.NodePath(node.Name, "key.json"),
		"--passphrase-file", n.dir.NodePath(node.Name, "passphrase"), "--bucket", "local:" + node.Name, "--s3-access-key", "key-" + node.Name,
		"--s3-secret-file", n.dir.NodePath(node.Name, "s3.secret"), "--dir", n.dir.NodePath(node.Name, "data"), "--threads", "1",
		"--p2p-listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)}
	if node.Role == "miner" { // validators have a deadline to meet: they neither queue for a core nor yield it
		args = append(args, "--gap", n.set.Gap, "--compute-lock", n.dir.Path("compute"))
	}
	if n.noP2P {
		args = append(args, "--no-p2p")
	}
	return &member{Node: node, left: restarts, spec: netdir.Spec{Name: node.Name, Bin: bin, Args: args, Log: n.dir.NodePath(node.Name, "log"),
		Nice: node.Role == "miner", Env: []string{"GOMAXPROCS=2"}}}, nil
}

// flush asks validators to stop first while chain and S3 still run, so that their last checkpoint is published.
func (n *network) flush() {
	for _, role := range []string{"miner", "validator"} {
		done := make(chan struct{})
		count := 0
		for _, m := range n.nodes {
			if m.Role == role && m.child != nil {
				count++
				go func() { m.child.Stop(10 * time.Second); done <- struct{}{} }()
			}
		}
		for range count {
			<-done
		}
	}
}

// stop ends everything that still runs: miners, validators, chain, S3.
func (n *network) stop() {
	n.flush()
	if n.servers != nil {
		_ = n.servers.Close() // Stop has no error to tell
	}
	n.rt.PID, n.rt.PIDs = 0, nil
	_ = n.dir.SaveRuntime(n.rt) // the folder may be on a full disk; nothing depends on it
}
