package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	db "github.com/cometbft/cometbft-db"
	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/light/provider"
	lightdb "github.com/cometbft/cometbft/light/store/db"
	cmtstate "github.com/cometbft/cometbft/proto/tendermint/state"
	sm "github.com/cometbft/cometbft/state"
	comettypes "github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/state"
)

// syncFile tells a node to begin with a snapshot of its peers instead of the first block. It is there from chaind join until
// the first block after the snapshot is final.
const syncFile = "sync.json"

// trustPeriod is how old a trusted block may be. Whoever held the keys of two thirds of that block's validators could make a
// joining node believe in another chain: the period bounds for how long such keys have to be kept.
const trustPeriod = 365 * 24 * time.Hour

const lightTimeout = 20 * time.Second // to reach the nodes that light blocks come from

// ErrTrust: what nodes say does not follow from the block that is trusted.
var ErrTrust = errors.New("node: the network does not follow from the trusted block")

// Trust is a block that a joining node takes for true.
type Trust struct {
	Height chain.Block `json:"height"`
	Hash   chain.Hash  `json:"hash"` // of its header
}

// String is HEIGHT:HASH.
func (t Trust) String() string { return fmt.Sprintf("%d:%s", t.Height, t.Hash) }

// ParseTrust reads HEIGHT:HASH.
func ParseTrust(s string) (t Trust, err error) {
	height, hash, ok := strings.Cut(s, ":")
	h, err := strconv.ParseUint(height, 10, 62)
	if !ok || err != nil || h == 0 || t.Hash.UnmarshalText([]byte(hash)) != nil {
		return Trust{}, fmt.Errorf("trusted block %q: want HEIGHT:HASH, the hash in 64 hex digits", s)
	}
	t.Height = chain.Block(h)
	return t, nil
}

// syncPlan is what syncFile holds.
type syncPlan struct {
	Trust
	Nodes []string `json:"nodes"` // where light blocks come from
}

// PlanSync makes a folder that joined a network, and has not been started yet, begin with a snapshot. Headers come from the
// nodes, addresses as local.Dial takes them; the more of them, the fewer have to be honest: one is enough. A zero trust takes
// the oldest block that the first of them keeps, in which all must agree.
func PlanSync(ctx context.Context, home string, nodes []string, trust Trust) (Trust, error) {
	g, err := readGenesis(home)
	if err != nil {
		return trust, err
	}
	if !missing(filepath.Join(home, stateFile)) {
		return trust, fmt.Errorf("%w: %s; a snapshot is for a node that was never started", ErrExists, home)
	}
	id, err := chainID(g)
	if err != nil {
		return trust, err
	}
	lamps, err := dialLamps(nodes, id)
	if err != nil {
		return trust, err
	}
	if trust == (Trust{}) {
		if trust, err = lamps[0].oldest(ctx); err != nil {
			return trust, err
		}
	}
	if _, err := newVerifier(ctx, id, lamps, trust, log.NewNopLogger()); err != nil {
		return trust, err
	}
	raw, err := json.MarshalIndent(syncPlan{trust, nodes}, "", "  ")
	if err != nil {
		return trust, err
	}
	return trust, writeFile(filepath.Join(home, syncFile), append(raw, '\n'))
}

// OldestBlock is the oldest block that a node keeps.
func OldestBlock(ctx context.Context, from local.Backend) (Trust, error) {
	raw, err := from.Query(ctx, local.QueryGenesis, "")
	if err != nil {
		return Trust{}, fmt.Errorf("fetch genesis: %w", err)
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return Trust{}, err
	}
	id, err := chainID(g)
	if err != nil {
		return Trust{}, err
	}
	return (&lamp{"the node", from, id}).oldest(ctx)
}

func (l *lamp) oldest(ctx context.Context) (Trust, error) {
	_, b, err := l.fetch(ctx, "")
	if err != nil {
		return Trust{}, fmt.Errorf("fetch the oldest block of %s: %w", l, err)
	}
	return Trust{chain.Block(b.Height), chain.Hash(b.Hash())}, nil
}

func dialLamps(nodes []string, chainID string) (out []*lamp, err error) {
	for _, addr := range nodes {
		b, err := local.Dial(addr)
		if err != nil {
			return nil, err
		}
		out = append(out, &lamp{addr, b, chainID})
	}
	if len(out) == 0 {
		return nil, errors.New("no node is named from which headers could come; give --rpc HOST:PORT")
	}
	return out, nil
}

// readPlan reads syncFile; nil if the node goes on from what it has.
func readPlan(home string) (*syncPlan, error) {
	raw, err := os.ReadFile(filepath.Join(home, syncFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read node folder: %w", err)
	}
	p := new(syncPlan)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil || p.Height == 0 || len(p.Nodes) == 0 {
		return nil, fmt.Errorf("%s is damaged (%v); make a new folder with chaind join", filepath.Join(home, syncFile), err)
	}
	return p, nil
}

// clearHalf deletes what an earlier start left of a state that was being fetched: the engine's databases and the machine's go
// only together. Keys, and what the key has signed, stay.
func clearHalf(home string) error {
	for _, name := range []string{stateFile, stateFile + syncSuffix, snapshotDir, walDir, "data/blockstore.db", "data/state.db", "data/evidence.db"} {
		if err := os.RemoveAll(filepath.Join(home, name)); err != nil {
			return fmt.Errorf("begin the state sync again: %w; %s", err, advice(err))
		}
	}
	return nil
}

// verifier is a light client: it gives the engine what it must know to go on from a snapshot, having followed signatures from
// the trusted block.
type verifier struct {
	mu     sync.Mutex // the client is not safe for concurrent use
	client *light.Client
	params comettypes.ConsensusParams
	first  int64                     // block of the network
	times  map[chain.Block]time.Time // of blocks whose state was asked for
	rules  map[chain.Block]uint64    // versions of the rules of the blocks after these
}

func newVerifier(ctx context.Context, chainID string, lamps []*lamp, t Trust, l log.Logger) (*light.Client, error) {
	var witnesses []provider.Provider
	for _, x := range lamps[1:] {
		witnesses = append(witnesses, x)
	}
	if len(witnesses) == 0 {
		witnesses = append(witnesses, lamps[0]) // one node only: nobody else is there to contradict it
	}
	ctx, cancel := context.WithTimeout(ctx, lightTimeout)
	defer cancel()
	c, err := light.NewClient(ctx, chainID, light.TrustOptions{Period: trustPeriod, Height: int64(t.Height), Hash: t.Hash[:]}, lamps[0], witnesses,
		lightdb.New(db.NewMemDB(), ""), light.Logger(l))
	if err != nil {
		return nil, fmt.Errorf("%w: block %s: %v", ErrTrust, t, err)
	}
	return c, nil
}

// startVerifier reaches the nodes of a plan.
func startVerifier(p *syncPlan, doc *comettypes.GenesisDoc, l log.Logger) (*verifier, error) {
	lamps, err := dialLamps(p.Nodes, doc.ChainID)
	if err != nil {
		return nil, err
	}
	c, err := newVerifier(context.Background(), doc.ChainID, lamps, p.Trust, l)
	if err != nil {
		return nil, fmt.Errorf("%w; if the nodes %s cannot be reached, start this one again when they can, or make a new folder with chaind join", err, strings.Join(p.Nodes, ", "))
	}
	return &verifier{client: c, params: *doc.ConsensusParams, first: doc.InitialHeight, times: map[chain.Block]time.Time{}, rules: map[chain.Block]uint64{}}, nil
}

func (v *verifier) at(ctx context.Context, height uint64) (*comettypes.LightBlock, error) {
	return v.client.VerifyLightBlockAtHeight(ctx, int64(height), time.Now())
}

// AppHash implements statesync.StateProvider: the hash of the state after a block is in the header of the next one. The one
// after that must be there, too, for State.
func (v *verifier) AppHash(ctx context.Context, height uint64) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next, err := v.at(ctx, height+1)
	if err != nil {
		return nil, err
	}
	if _, err := v.at(ctx, height+2); err != nil {
		return nil, err
	}
	v.rules[chain.Block(height)] = next.Version.App
	return next.AppHash, nil
}

// rulesAfter is the version of the rules of the block after one whose hash of the state was asked for, by its header.
func (v *verifier) rulesAfter(b chain.Block) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.rules[b]
}

// Commit implements statesync.StateProvider.
func (v *verifier) Commit(ctx context.Context, height uint64) (*comettypes.Commit, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	b, err := v.at(ctx, height)
	if err != nil {
		return nil, err
	}
	return b.Commit, nil
}

// State implements statesync.StateProvider. The consensus parameters are those of genesis: the chain changes none of them but
// the version of its rules, which headers name.
func (v *verifier) State(ctx context.Context, height uint64) (sm.State, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b [3]*comettypes.LightBlock
	for i := range b {
		var err error
		if b[i], err = v.at(ctx, height+uint64(i)); err != nil {
			return sm.State{}, err
		}
	}
	last, now, next := b[0], b[1], b[2]
	if !bytes.Equal(now.ConsensusHash, v.params.Hash()) {
		return sm.State{}, fmt.Errorf("block %d has other consensus parameters than this release: %s", now.Height, hex.EncodeToString(now.ConsensusHash))
	}
	v.times[chain.Block(height)] = last.Time
	params := v.params
	params.Version.App = now.Version.App
	return sm.State{
		Version:         cmtstate.Version{Consensus: now.Version, Software: version.TMCoreSemVer},
		ChainID:         v.client.ChainID(),
		InitialHeight:   v.first,
		LastBlockHeight: last.Height, LastBlockTime: last.Time, LastBlockID: last.Commit.BlockID,
		AppHash: now.AppHash, LastResultsHash: now.LastResultsHash,
		LastValidators: last.ValidatorSet, Validators: now.ValidatorSet, NextValidators: next.ValidatorSet,
		LastHeightValidatorsChanged: next.Height,
		ConsensusParams:             params, LastHeightConsensusParamsChanged: now.Height,
	}, nil
}

// timeOf is the time of a block whose state the engine asked for.
func (v *verifier) timeOf(b chain.Block) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.times[b]
}

// syncing turns state sync on.
func syncing(c *cfg.Config) {
	c.StateSync.Enable = true
	c.StateSync.DiscoveryTime = 5 * time.Second // the least that the engine takes
	c.StateSync.MaxSnapshotChunks = maxChunks
}

// syncLog ends the node when the engine gives up a state sync, which it only logs.
type syncLog struct {
	log.Logger
	failed func(error)
}

// Error logs; an error about state sync's end ends the node.
func (l syncLog) Error(m string, kv ...any) {
	switch m {
	case "State sync failed", "Failed to bootstrap node with new state", "Failed to store last seen commit", "Failed to switch to block sync":
		l.failed(fmt.Errorf("fetch the state from peers: %s: %v; start the node again, it begins anew", m, kv))
		return
	}
	l.Logger.Error(m, kv...)
}

// With adds fields.
func (l syncLog) With(kv ...any) log.Logger { return syncLog{l.Logger.With(kv...), l.failed} }
