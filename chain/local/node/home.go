package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	comettypes "github.com/cometbft/cometbft/types"

	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/state"
)

// Files of a node's folder. The genesis is written last: a folder without it is unfinished and may be initialised again.
const (
	genesisFile = "genesis.sn3.json"
	beaconFile  = "beacon.key"
	formatFile  = "format"
	stateFile   = "sn3.db"
	walDir      = "data/cs.wal" // CometBFT's name for it
	format      = "2"
)

// Errors about a node's folder.
var (
	// ErrFormat: the folder was made by another version of this program.
	ErrFormat = errors.New("node: folder of another version")
	// ErrNoChain: the folder holds no chain.
	ErrNoChain = errors.New("node: no chain in this folder")
	// ErrExists: the folder holds a chain already.
	ErrExists = errors.New("node: there is a chain in this folder")
	// ErrInUse: another process uses the folder.
	ErrInUse = errors.New("node: another process uses this folder")
)

// Limits of what strangers can make the chain carry: transactions are free.
const (
	maxPending = 2000    // transactions that wait for a block; half of the room is for hotkeys with a seat
	maxBlock   = 4 << 20 // bytes
)

// Init makes a node's folder from a genesis, with keys that are not there yet. What a genesis leaves open is this node's: it
// gets its time, its beacon key, and this node as the only validator. A complete one stays as it is: the node joins its
// network, as a validator if the genesis names its key.
func Init(home string, g *state.Genesis, n Net) error {
	if _, err := os.Stat(filepath.Join(home, genesisFile)); err == nil {
		return fmt.Errorf("%w: %s; nothing was changed", ErrExists, home)
	}
	if err := n.Check(); err != nil {
		return err
	}
	k, err := complete(home, g, nil)
	if err != nil {
		return err
	}
	if err := k.write(home); err != nil {
		return err
	}
	if err := WriteNet(home, n); err != nil {
		return fmt.Errorf("init node: %w", err)
	}
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return fmt.Errorf("init node: %w", err)
	}
	for _, f := range []struct {
		name string
		b    []byte
	}{{formatFile, []byte(format)}, {genesisFile, raw}} {
		if err := writeFile(filepath.Join(home, f.name), f.b); err != nil {
			return fmt.Errorf("init node: %w", err)
		}
	}
	return nil
}

// complete fills in what a genesis leaves open: its time, the beacon key of the node in home, and as validators that node and
// the others. It writes nothing.
func complete(home string, g *state.Genesis, others []local.Candidate) (*keys, error) {
	if len(g.Validators) > 0 && (len(g.BeaconKey) == 0 || g.Time.IsZero()) {
		return nil, fmt.Errorf("%w: it names its validators and lacks the beacon's key or the time, which would be another one on every node; where it is the draft of a ceremony, take the genesis that chaind ceremony makes of it", ErrGenesis)
	}
	k, err := loadOrMake(home)
	if err != nil {
		return nil, err
	}
	if len(g.BeaconKey) == 0 {
		if err := k.withBeacon(home); err != nil {
			return nil, err
		}
		if g.BeaconKey, err = beacon.Public(k.secret); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(home, beaconFile), err)
		}
	}
	k.begin(g, others)
	if _, err := g.Validate(); err != nil {
		return nil, err
	}
	return k, nil
}

// begin fills in the time, and these keys' node and the others as validators.
func (k *keys) begin(g *state.Genesis, others []local.Candidate) {
	if g.Time.IsZero() {
		g.Time = time.Now().UTC().Truncate(time.Millisecond)
	}
	if len(g.Validators) == 0 {
		own := publicKey(k.pv)
		g.Validators = []state.Validator{{Key: own, Beacon: k.member.Card(state.MemberContext(g.Network, own))}}
		for _, c := range others {
			g.Validators = append(g.Validators, state.Validator{Key: c.Key, Beacon: c.Beacon})
		}
	}
}

// Found makes the keys of the first of several validators and completes the genesis that all of them begin with: the beacon
// key is the first one's.
func Found(home string, g *state.Genesis, others []local.Candidate) error {
	if len(g.Validators) > 0 {
		return fmt.Errorf("the genesis names %d validators already", len(g.Validators))
	}
	k, err := complete(home, g, others)
	if err != nil {
		return err
	}
	return k.write(home)
}

// writeFile writes a file whole or not at all, for its owner only.
func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".tmp"))
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path)) // without this the name may be lost with the power
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// document is the engine's own genesis. It follows from ours, so that every node of a network has the same one.
func document(g *state.Genesis) (*comettypes.GenesisDoc, error) {
	id, err := chainID(g)
	if err != nil {
		return nil, err
	}
	doc := comettypes.GenesisDoc{ChainID: id, GenesisTime: g.Time.UTC(), ConsensusParams: comettypes.DefaultConsensusParams()}
	if g.From != nil {
		doc.InitialHeight = int64(g.From.Height) + 1
	}
	for _, v := range g.Validators {
		key := ed25519.PubKey(v.Key[:])
		doc.Validators = append(doc.Validators, comettypes.GenesisValidator{Address: key.Address(), PubKey: key, Power: 1})
	}
	// headers young enough to prove a double signature survive pruning for good: let them age before keepBlocks
	doc.ConsensusParams.Evidence.MaxAgeNumBlocks = keepBlocks / 2
	doc.ConsensusParams.Evidence.MaxAgeDuration = keepBlocks / 2 * time.Duration(g.BlockTimeMS) * time.Millisecond
	doc.ConsensusParams.Block.MaxBytes = maxBlock
	doc.ConsensusParams.ABCI.VoteExtensionsEnableHeight = 1 // partial signatures of the beacon
	return &doc, doc.ValidateAndComplete()
}

// chainID is what the engine calls the network: its name, shortened where it must be, and the beginning of the genesis' hash.
// Nodes of another genesis thereby refuse each other's connections, and nothing signed for one network is of use in another.
func chainID(g *state.Genesis) (string, error) {
	h, err := g.Hash()
	if err != nil {
		return "", err
	}
	suffix := "-" + h.String()[:16]
	name := g.Network[:min(len(g.Network), comettypes.MaxChainIDLen-len(suffix))]
	return strings.ToValidUTF8(name, "") + suffix, nil
}

// folder is what a node finds in its folder and does not change.
type folder struct {
	genesis *state.Genesis
	secret  []byte      // the whole key that the chain begins with, where this node made it
	member  *dkg.Member // of the beacon, or nil
	pv      *privval.FilePV
	id      *p2p.NodeKey
	net     Net
	raw     []byte    // of the genesis
	plan    *syncPlan // nil: it goes on from what it has
}

func openHome(home string) (f folder, err error) {
	v, err := os.ReadFile(filepath.Join(home, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%w: %s; make one with chaind init or chaind join", ErrNoChain, home)
	}
	if err != nil {
		return f, fmt.Errorf("read node folder: %w", err)
	}
	if string(v) != format {
		return f, fmt.Errorf("%w: %s has format %q, this program writes %q; start a new network in another folder, or use the release that made it",
			ErrFormat, home, v, format)
	}
	if f.genesis, err = readGenesis(home); err != nil {
		return f, err
	}
	if f.net, err = ReadNet(home); err != nil {
		return f, err
	}
	c := config(home, 0, f.net)
	if f.pv, err = loadKey(c); err != nil {
		return f, err
	}
	if f.id, err = p2p.LoadOrGenNodeKey(c.NodeKeyFile()); err != nil {
		return f, fmt.Errorf("load node key: %w; delete %s for a new one", err, c.NodeKeyFile())
	}
	if f.member, err = readMember(home); err != nil {
		return f, err
	}
	if f.plan, err = readPlan(home); err != nil {
		return f, err
	}
	if f.raw, err = json.Marshal(f.genesis); err != nil {
		return f, fmt.Errorf("encode genesis: %w", err)
	}
	f.secret, err = readBeacon(home, f.genesis, publicKey(f.pv))
	return f, err
}

func readGenesis(home string) (*state.Genesis, error) {
	raw, err := os.ReadFile(filepath.Join(home, genesisFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s; chaind init did not finish, run it again", ErrNoChain, home)
	}
	if err != nil {
		return nil, fmt.Errorf("read genesis: %w", err)
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return nil, err
	}
	switch early := time.Until(g.Time); {
	case len(g.Validators) == 0 || g.Time.IsZero():
		return nil, fmt.Errorf("the genesis in %s names no validators or no time: restore it from a copy of this folder", home)
	case early > time.Minute: // the engine would sleep, and not be woken
		return nil, fmt.Errorf("the network begins at %s, in %s; start the node then, or set this machine's clock", g.Time.Format(time.RFC3339), early.Round(time.Second))
	}
	return g, nil
}

// readBeacon reads the secret of the key that the chain begins with, where that is one node's; nil in the folder of another
// one. The genesis' first validator has it.
func readBeacon(home string, g *state.Genesis, self [32]byte) ([]byte, error) {
	file := filepath.Join(home, beaconFile)
	secret, err := os.ReadFile(file)
	if len(g.Beacon) > 0 || errors.Is(err, fs.ErrNotExist) && g.Validators[0].Key != self {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read beacon key: %w; restore it from a copy of this folder", err)
	}
	if pub, err := beacon.Public(secret); err != nil || string(pub) != string(g.BeaconKey) {
		return nil, fmt.Errorf("the key in %s is not the one that the genesis names: restore it from a copy of this folder", file)
	}
	return secret, nil
}
