package node

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/quorum"
	"sn3/gradients"
	"sn3/internal/compute"
	"sn3/internal/events"
	"sn3/internal/gossip"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/kern"
	"sn3/storage"
)

// Node is a wired miner or validator without its loop.
type Node struct {
	Hotkey  chain.Hotkey
	Run     *chain.Run
	Replica *replica.Replica
	Data    *data.Dataset
	Client  *local.Client
	Log     *slog.Logger
	Events  events.Sink
	Compute func(ctx context.Context, f func() error) error
	Dir     string
	Options model.Options // of the engine: the flags', with what a card chose where they leave it open
	// Failpoint kills the process at a named point when --failpoint says so.
	Failpoint func(string)

	open  atomic.Pointer[replica.Replica] // Replica once it is there: gossip runs before
	close []func() error
}

// Close gives everything back, newest first.
func (n *Node) Close() error {
	var errs []error
	for i := len(n.close) - 1; i >= 0; i-- {
		errs = append(errs, n.close[i]())
	}
	return errors.Join(errs...)
}

// Open wires a node from its flags. Each line can fail with its own message; what was opened is closed again. A run that engine
// cannot train here is refused before the first byte of it is downloaded.
func Open(ctx context.Context, c *cli.Context, validator bool, engine model.Engine) (n *Node, err error) {
	n = &Node{Dir: c.String("dir")}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.Log, err = proc.Logger(c.String("log-format"), c.Bool("verbose")); err != nil {
		return n, err
	}
	n.Failpoint = killAt(c.String("failpoint"))
	locator, credential, err := ownBucket(c) // before anybody types a passphrase
	if err != nil {
		return n, err
	}
	key, err := Key(c.String("keystore"), Passphrase(c, c.String("keystore")))
	if err != nil {
		return n, err
	}
	n.Hotkey = local.AccountOf(&key.PublicKey)
	if n.Dir == "" {
		n.Dir = defaultDir(c.App.Name, n.Hotkey)
	}
	if err := n.folder(); err != nil {
		return n, err
	}
	status, err := n.dial(ctx, c.String("chain"), key)
	if err != nil {
		return n, err
	}
	if err := n.check(c, validator, engine); err != nil {
		return n, err
	}
	policy := storage.DialPolicy{Loopback: n.Run.Loopback, LocalPort: status.Info.S3Port}
	opener := storage.NewOpener(policy)
	bucket, err := opener.Open(locator, credential)
	if err != nil {
		return n, fmt.Errorf("open own bucket %s: %w", locator, err)
	}
	open := func(l storage.Locator) (*storage.Bucket, error) { return opener.Open(l, nil) }
	if n.Data, err = n.dataset(ctx, open, c.Int64("data-cache")<<20); err != nil {
		return n, err
	}
	if err := n.slots(c.String("compute-lock"), c.Int("threads")); err != nil {
		return n, err
	}
	tok, err := Tokenizer(ctx, n.Run, n.Data)
	if err != nil {
		return n, err
	}
	k, err := kern.Select(c.String("kernels"))
	if err != nil {
		return n, proc.Usage(fmt.Errorf("--kernels: %w", err))
	}
	cfg := replica.Config{Dir: filepath.Join(n.Dir, "replica"), Run: n.Run, Chain: n.Client, Writer: n.Client, Signer: local.Signer{Key: key},
		Verifier: local.Verifier{}, Self: n.Hotkey, Validator: validator, Bucket: bucket, Locator: locator, Open: open, Data: n.Data,
		Events: n.Events, Log: n.Log, Files: tok.Files, Special: tok.Special, Failpoint: n.Failpoint,
		Compute: gradients.Compute{Threads: c.Int("threads"), Kernels: k}}
	var peers *gossip.Node
	if !c.Bool("no-p2p") {
		if peers, err = n.gossip(ctx, c, key, status); err != nil {
			return n, err
		}
		cfg.Announce = n.announce(peers, locator)
	}
	if n.Replica, err = replica.New(cfg); errors.Is(err, replica.ErrOtherRun) {
		err = proc.Refused(err)
	}
	if err != nil {
		return n, err
	}
	n.open.Store(n.Replica)
	if peers != nil && validator {
		go n.prefetch(ctx, peers)
	}
	return n, nil
}

// discard is the diary of who keeps none.
func discard(events.Event) {}

// defaultDir is the folder of who names none: below the working directory, one for each key and program.
func defaultDir(program string, h chain.Hotkey) string { return "sn3-" + program + "-" + h.Short() }

// folder makes the node's folder and its diary, and refuses a folder that another process uses.
func (n *Node) folder() error {
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return fmt.Errorf("make node folder: %w", err)
	}
	free, err := lockFolder(n.Dir)
	if err != nil {
		return err
	}
	n.close = append(n.close, free)
	log, err := events.OpenLog(n.Dir)
	if err != nil {
		return err
	}
	n.close = append(n.close, log.Close)
	var once sync.Once
	n.Events = func(e events.Event) {
		if err := log.Add(e); err != nil {
			once.Do(func() { n.Log.Warn("cannot write the event log; going on without it", "reason", err) })
		}
	}
	return nil
}

func ownBucket(c *cli.Context) (storage.Locator, *storage.Credential, error) {
	l, err := storage.ParseLocatorString(c.String("bucket"))
	if err != nil {
		return l, nil, proc.Usage(fmt.Errorf("--bucket: %w", err))
	}
	if !l.Public() {
		return l, nil, proc.Usage(fmt.Errorf("--bucket %s: nobody else could read it; add ?public=ID of its r2.dev address, or ?token=ACCESS:SECRET of a read-only token", l))
	}
	secret := os.Getenv("SN3_S3_SECRET")
	if f := c.String("s3-secret-file"); f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return l, nil, proc.Usage(fmt.Errorf("read S3 secret: %w", err))
		}
		secret = strings.TrimSpace(string(b))
	}
	if secret == "" {
		return l, nil, proc.Usage(errors.New("the S3 secret is missing: give --s3-secret-file or set SN3_S3_SECRET"))
	}
	cred, err := storage.NewCredential(c.String("s3-access-key"), secret)
	if err != nil {
		return l, nil, proc.Usage(err)
	}
	return l, cred, nil
}

// dial waits for the chain node for a bounded time, saying so, and reads the run descriptor.
func (n *Node) dial(ctx context.Context, addr string, key *ecdsa.PrivateKey) (local.Status, error) {
	back, err := quorum.Dial(addr, n.notice)
	if err != nil {
		return local.Status{}, proc.Usage(fmt.Errorf("--chain %s: %w", addr, err))
	}
	n.Client = local.NewClient(back, local.Signer{Key: key})
	const patience = 60 * time.Second
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for told := false; ; told = true {
		status, err := n.Client.Status(wait)
		if err == nil {
			if n.Run, err = n.Client.Describe(wait); err == nil {
				return status, nil
			}
		}
		if ctx.Err() != nil {
			return local.Status{}, ctx.Err()
		}
		if !errors.Is(err, chain.ErrUnavailable) && wait.Err() == nil {
			return local.Status{}, proc.Refused(fmt.Errorf("read run descriptor from %s: %w", addr, err))
		}
		if wait.Err() != nil {
			return local.Status{}, fmt.Errorf("no chain node answered at %s within %s: start one (make up, chaind run) or correct --chain: %w", addr, patience, err)
		}
		if !told {
			n.Log.Warn("waiting for the chain node", "addr", addr, "at_most", patience, "reason", err)
			n.Events(events.Event{Kind: events.Waiting, Reason: "chain node at " + addr})
		}
		sleep(wait, 500*time.Millisecond)
	}
}

// notice puts what the chain's nodes are found to do into log and diary.
func (n *Node) notice(x quorum.Notice) {
	kind := events.Endpoint
	switch x.Kind {
	case quorum.Disputed:
		kind = events.Waiting
	case quorum.Settled:
		kind = events.Resumed
	}
	if x.Bad() {
		n.Log.Warn(x.String())
	} else {
		n.Log.Info(x.String())
	}
	n.Events(events.Event{Kind: kind, Reason: x.String()})
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// dataset opens the dataset, waiting for its bucket for a bounded time.
func (n *Node) dataset(ctx context.Context, open func(storage.Locator) (*storage.Bucket, error), cache int64) (*data.Dataset, error) {
	from, err := mirrors(n.Run.Dataset, open)
	if err != nil {
		return nil, err
	}
	o := data.ReadOptions{Seq: n.Run.Model.Seq, Vocab: n.Run.Model.Vocab, Tokenizer: n.Run.Tokenizer, Cache: filepath.Join(n.Dir, "pages"), CacheBytes: cache}
	where := from[0].Name // and its mirrors
	const patience = 60 * time.Second
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for told := false; ; told = true {
		d, err := data.Open(wait, from, n.Run.Dataset, o)
		if err == nil {
			return d, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, storage.ErrUnavailable) && wait.Err() == nil { // a mirror that is away may yet have it
			if errors.Is(err, data.ErrVocab) || errors.Is(err, data.ErrVersion) || errors.Is(err, data.ErrTooSmall) {
				return nil, proc.Refused(err)
			}
			return nil, err
		}
		if wait.Err() != nil {
			return nil, fmt.Errorf("data bucket %s did not answer within %s; is the S3 server up?: %w", where, patience, err)
		}
		if !told {
			n.Log.Warn("waiting for the data bucket", "bucket", where, "at_most", patience, "reason", err)
			n.Events(events.Event{Kind: events.Waiting, Reason: "data bucket " + where})
		}
		sleep(wait, 500*time.Millisecond)
	}
}

// mirrors are the buckets with the dataset, the first one first.
func mirrors(d chain.DatasetSpec, open func(storage.Locator) (*storage.Bucket, error)) (out []data.Mirror, err error) {
	for _, raw := range append([][]byte{d.Locator}, d.Mirrors...) {
		l, err := storage.ParseLocator(raw)
		if err != nil {
			return nil, proc.Refused(fmt.Errorf("read dataset locator: %w", err))
		}
		b, err := open(l)
		if err != nil {
			return nil, fmt.Errorf("open data bucket %s: %w", l, err)
		}
		out = append(out, data.Mirror{Name: l.String(), Ranger: b})
	}
	return out, nil
}

func (n *Node) slots(dir string, threads int) error {
	n.Compute = func(_ context.Context, f func() error) error { return f() }
	if dir == "" {
		return nil
	}
	s, err := compute.Open(dir, coresPer(threads))
	if err != nil {
		return err
	}
	n.close = append(n.close, s.Close)
	n.Compute = s.Run
	return nil
}

func (n *Node) gossip(ctx context.Context, c *cli.Context, key *ecdsa.PrivateKey, status local.Status) (*gossip.Node, error) {
	peers := c.StringSlice("p2p-peer")
	if len(peers) == 0 {
		peers = status.Info.Peers
	}
	known := registered{client: n.Client}
	g, err := gossip.Start(ctx, gossip.Config{Network: n.Run.Network, Key: key, Listen: c.String("p2p-listen"), Peers: peers,
		Known: known.has, Window: n.expected, Log: n.Log})
	if err != nil {
		return nil, fmt.Errorf("start peer-to-peer (or use --no-p2p): %w", err)
	}
	n.close = append(n.close, func() error { g.Close(); return nil })
	return g, nil
}

// announce tells peers of a record in the own bucket.
func (n *Node) announce(peers *gossip.Node, own storage.Locator) func(context.Context, chain.Window, chain.Hash) {
	return func(ctx context.Context, w chain.Window, digest chain.Hash) {
		a := gossip.Announcement{Window: w, Hotkey: n.Hotkey, Digest: digest, Locator: own.Encode()}
		if err := peers.Announce(ctx, a); err != nil {
			n.Log.Debug("announcement not sent", "reason", err)
		}
	}
}

// expected says whether announcements for window w are of use now. Older ones that somebody repeats would use up their
// author's allowance.
func (n *Node) expected(w chain.Window) bool {
	r := n.open.Load()
	return r != nil && r.Expected(w)
}

// prefetch fetches what miners announce, so that the judge finds it on disk.
func (n *Node) prefetch(ctx context.Context, g *gossip.Node) {
	for {
		select {
		case <-ctx.Done():
			return
		case a, ok := <-g.Announcements():
			if !ok {
				return
			}
			if err := n.Replica.Prefetch(ctx, a.Window, a.Digest, a.Locator); err != nil {
				n.Log.Debug("announced submission not fetched", "hotkey", a.Hotkey.Short(), "reason", err)
			}
		}
	}
}

// Engine picks a model engine by its name.
func Engine(name string, engines ...model.Engine) (model.Engine, error) {
	var names []string
	for _, e := range engines {
		if e.Name() == name {
			return e, nil
		}
		names = append(names, e.Name())
	}
	return nil, proc.Usage(fmt.Errorf("unknown engine %q; this build has %s", name, strings.Join(names, ", ")))
}
