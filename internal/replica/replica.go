// Package replica is a node's copy of the shared model and the one place where it changes. Follow is the only writer of θ:
// it selects, fetches by hash, aggregates, makes the outer step and compares roots. Miners and validators read θ through
// At, an immutable counted snapshot, and publish through Publish and Vote.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/hf"
	"sn3/storage"
)

// Errors that a loop decides on.
var (
	// ErrDiverged: this node's state is not the majority's and resynchronising did not help.
	ErrDiverged = errors.New("replica: state differs from the majority's")
	// ErrSelection: the chain selected other winners than chain.Select does here; the node must stop.
	ErrSelection = errors.New("replica: the chain's selection is not what chain.Select gives")
	// ErrOtherRun: the node's folder holds the state of another run.
	ErrOtherRun = errors.New("replica: this folder belongs to another run")
	// ErrGone: At was asked for a window that is no longer kept.
	ErrGone = errors.New("replica: window no longer kept")
)

// kept is the number of newest states that At can still serve: a miner in --gap train needs θ_{w-2} while θ_{w-1} arrives.
const kept = 3

// Config is what a replica works with. Writer, Signer, Bucket and Data are nil for a read-only follower.
type Config struct {
	Dir       string // private folder of this node
	Run       *chain.Run
	Chain     chain.Reader // may implement chain.Selector
	Writer    chain.Writer
	Signer    chain.Signer
	Verifier  chain.Verifier
	Self      chain.Hotkey
	Validator bool            // mirrors payloads, publishes window files and checkpoints
	Bucket    *storage.Bucket // own bucket, writable
	Locator   storage.Locator // of the own bucket
	// Open opens another node's bucket for anonymous reading under this network's dial policy.
	Open   func(storage.Locator) (*storage.Bucket, error)
	Data   *data.Dataset
	Clock  *Clock // nil: driven by Chain.Heads inside Follow
	Events events.Sink
	Log    *slog.Logger
	// Announce tells peers of a published record; nil without peer-to-peer.
	Announce func(ctx context.Context, w chain.Window, digest chain.Hash)
	// Files are added to every checkpoint folder (tokenizer files).
	Files map[string][]byte
	// Special are the marks that checkpoints name in config.json: the tokens that begin and end the dataset's documents.
	Special hf.Special
	// Compute is what the outer step and state roots may use.
	Compute gradients.Compute
	// Failpoint is called at named points of the outer step and of publishing, for crash tests; nil in production.
	Failpoint func(name string)
}

func (c *Config) validate() error {
	switch {
	case c.Dir == "" || c.Run == nil || c.Chain == nil || c.Open == nil:
		return fmt.Errorf("replica: folder, run descriptor, chain and bucket opener are required")
	case c.Validator && (c.Bucket == nil || c.Signer == nil):
		return fmt.Errorf("replica: a validator needs its own bucket and key")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Events == nil {
		c.Events = func(events.Event) {}
	}
	if c.Failpoint == nil {
		c.Failpoint = func(string) {}
	}
	return nil
}

// ModelConfig is the shape that a run descriptor describes.
func ModelConfig(r *chain.Run) model.Config { return spec.Config(r.Model) }

// Optimizer is the inner optimizer that a run descriptor describes.
func Optimizer(r *chain.Run) model.Optimizer { return spec.Optimizer(r.Train) }

// state is θ after a window. It is immutable once published in Replica.states.
type state struct {
	window     chain.Window // NoWindow: the initial model
	theta      *model.Flat
	root       chain.Hash
	transition chain.Hash
	readers    int // snapshots handed out; guarded by Replica.mu
}

// next is the number of windows applied: 0 for the initial model. It is also the level of the applied gate.
func (s *state) next() chain.Window { return s.window + 1 }

// Replica is one node's copy of the shared model. Create it with New, run Follow once.
type Replica struct {
	cfg     Config
	run     chain.Hash
	sched   chain.Schedule
	layout  *model.Layout
	clock   *Clock
	applied Gate // level = number of windows applied + 1; 0 = nothing loaded yet

	mu     sync.Mutex
	states []*state // oldest first, at most kept (more while read)
	spare  []*model.Flat

	objects *objects
	outbox  *outbox
}

// New checks the configuration and prepares the folder; nothing is loaded before Follow.
func New(cfg Config) (*Replica, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	layout, err := model.NewLayout(ModelConfig(cfg.Run))
	if err != nil {
		return nil, fmt.Errorf("read run descriptor: %w", err)
	}
	sched, err := chain.NewSchedule(cfg.Run.Schedule)
	if err != nil {
		return nil, fmt.Errorf("read run descriptor: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make node folder: %w", err)
	}
	r := &Replica{cfg: cfg, run: cfg.Run.Hash(), sched: sched, layout: layout, clock: cfg.Clock}
	if r.clock == nil {
		r.clock = NewClock(nil)
	}
	r.applied.load = r.clock.Load()
	if err := r.checkFolder(); err != nil {
		return nil, err
	}
	if r.objects, err = openObjects(r); err != nil {
		return nil, err
	}
	if cfg.Bucket != nil {
		if r.outbox, err = openOutbox(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Layout is the model's layout.
func (r *Replica) Layout() *model.Layout { return r.layout }

// Schedule is the run's schedule.
func (r *Replica) Schedule() chain.Schedule { return r.sched }

// Compute is what this node's protocol arithmetic may use.
func (r *Replica) Compute() gradients.Compute { return r.cfg.Compute }

// Run is the run descriptor.
func (r *Replica) Run() *chain.Run { return r.cfg.Run }

// Clock is the node's view of the chain's height.
func (r *Replica) Clock() *Clock { return r.clock }

// Snapshot is an immutable θ_w. Release it when done; its memory is then reused.
type Snapshot struct {
	r *Replica
	s *state
}

// Window is w; chain.NoWindow for the initial model.
func (s Snapshot) Window() chain.Window { return s.s.window }

// Weights is θ_w.
func (s Snapshot) Weights() *model.Flat { return s.s.theta }

// Root is root(θ_w).
func (s Snapshot) Root() chain.Hash { return s.s.root }

// Release gives the snapshot back.
func (s Snapshot) Release() {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.s.readers--
	s.r.reclaim()
}

// At waits until window w is applied and returns θ_w. Use chain.NoWindow for the initial model.
func (r *Replica) At(ctx context.Context, w chain.Window) (Snapshot, error) {
	if err := r.applied.Wait(ctx, uint64(w+1)+1); err != nil {
		return Snapshot{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states {
		if s.window == w {
			s.readers++
			return Snapshot{r, s}, nil
		}
	}
	return Snapshot{}, fmt.Errorf("read θ of window %d: %w", w, ErrGone)
}

// Applied is the number of windows applied; ok is false before a state is loaded.
func (r *Replica) Applied() (n chain.Window, ok bool) {
	level := r.applied.Level()
	return chain.Window(level - 1), level > 0
}

// current is the newest state; only Follow calls it.
func (r *Replica) current() *state {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[len(r.states)-1]
}

// publishState makes s the newest state and releases those who wait for it.
func (r *Replica) publishState(s *state) {
	r.mu.Lock()
	r.states = append(r.states, s)
	r.reclaim()
	r.mu.Unlock()
	r.applied.Raise(uint64(s.next()) + 1)
}

// reclaim drops states beyond the newest kept ones that nobody reads, keeping their memory for the next outer step.
func (r *Replica) reclaim() {
	var keep []*state
	for i, s := range r.states {
		if i >= len(r.states)-kept || s.readers > 0 {
			keep = append(keep, s)
			continue
		}
		if len(r.spare) < 2 {
			r.spare = append(r.spare, s.theta)
		}
	}
	r.states = keep
}

// copyOf returns a writable copy of θ in reused memory.
func (r *Replica) copyOf(s *state) *model.Flat {
	f := r.memory()
	copy(f.Data, s.theta.Data)
	return f
}

// memory returns weights of any content, reused where it can be.
func (r *Replica) memory() *model.Flat {
	r.mu.Lock()
	var f *model.Flat
	if n := len(r.spare); n > 0 {
		f, r.spare = r.spare[n-1], r.spare[:n-1]
	}
	r.mu.Unlock()
	if f == nil {
		f = model.NewFlat(r.layout)
	}
	return f
}

// Corrupt flips the lowest bit of one parameter of the newest state, as faulty memory would. It exists for tests of what the
// network does then.
func (r *Replica) Corrupt(parameter int) {
	s := r.current()
	s.theta.Data[parameter] = math.Float32frombits(math.Float32bits(s.theta.Data[parameter]) ^ 1)
}

func (r *Replica) emit(e events.Event) { r.cfg.Events(e) }
