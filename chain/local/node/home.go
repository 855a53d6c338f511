package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cometjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	comettypes "github.com/cometbft/cometbft/types"

	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
)

// Files of a node's folder. The genesis is written last: a folder without it is unfinished and may be initialised again.
const (
	genesisFile = "genesis.sn3.json"
	beaconFile  = "beacon.key"
	formatFile  = "format"
	stateFile   = "sn3.db"
	walDir      = "data/cs.wal" // CometBFT's name for it
	format      = "1"
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

// Init makes a node's folder: keys of consensus and beacon, and the genesis. A genesis without beacon key gets this node's.
func Init(home string, g *state.Genesis) error {
	if _, err := os.Stat(filepath.Join(home, genesisFile)); err == nil {
		return fmt.Errorf("%w: %s; nothing was changed", ErrExists, home)
	}
	secret, err := beacon.Generate()
	if err != nil {
		return err
	}
	if len(g.BeaconKey) == 0 {
		if g.BeaconKey, err = beacon.Public(secret); err != nil {
			return err
		}
	}
	if _, err := g.Validate(); err != nil {
		return err
	}
	for _, d := range []string{home, filepath.Join(home, "config"), filepath.Join(home, "data")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make the node's folder: %w; give a --home that this user may write", err)
		}
	}
	if err := initComet(home, g); err != nil {
		return fmt.Errorf("init node: %w", err)
	}
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return fmt.Errorf("init node: %w", err)
	}
	for _, f := range []struct {
		name string
		b    []byte
	}{{beaconFile, secret}, {formatFile, []byte(format)}, {genesisFile, raw}} {
		if err := writeFile(filepath.Join(home, f.name), f.b); err != nil {
			return fmt.Errorf("init node: %w", err)
		}
	}
	return nil
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

// initComet makes the keys of consensus and peer-to-peer, and CometBFT's own genesis.
func initComet(home string, g *state.Genesis) error {
	c := config(home, time.Second)
	pv := privval.GenFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	// written here, because pv.Save panics on a full disk, and a node key is not written whole or not at all
	for file, v := range map[string]any{c.PrivValidatorKeyFile(): pv.Key, c.PrivValidatorStateFile(): pv.LastSignState,
		c.NodeKeyFile(): p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}} {
		raw, err := cometjson.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		if err := writeFile(file, raw); err != nil {
			return err
		}
	}
	pub := pv.Key.PubKey
	doc := comettypes.GenesisDoc{ChainID: chainID(g.Network), GenesisTime: time.Now().UTC(), ConsensusParams: comettypes.DefaultConsensusParams(),
		Validators: []comettypes.GenesisValidator{{Address: pub.Address(), PubKey: pub, Power: 10}}}
	// headers young enough to prove a double signature survive pruning for good: let them age before keepBlocks
	doc.ConsensusParams.Evidence.MaxAgeNumBlocks = keepBlocks / 2
	doc.ConsensusParams.Evidence.MaxAgeDuration = keepBlocks / 2 * time.Duration(g.BlockTimeMS) * time.Millisecond
	doc.ConsensusParams.Block.MaxBytes = maxBlock
	if err := doc.ValidateAndComplete(); err != nil {
		return err
	}
	return doc.SaveAs(c.GenesisFile())
}

// chainID is a network name that CometBFT accepts as a chain id (at most 50 bytes).
func chainID(network string) string { return network[:min(len(network), comettypes.MaxChainIDLen)] }

func readHome(home string) (*state.Genesis, []byte, error) {
	v, err := os.ReadFile(filepath.Join(home, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %s; make one with chaind init", ErrNoChain, home)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read node folder: %w", err)
	}
	if string(v) != format {
		return nil, nil, fmt.Errorf("%w: %s has format %q, this program writes %q; start a new network in another folder, or use the release that made it",
			ErrFormat, home, v, format)
	}
	raw, err := os.ReadFile(filepath.Join(home, genesisFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %s; chaind init did not finish, run it again", ErrNoChain, home)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read genesis: %w", err)
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return nil, nil, err
	}
	secret, err := os.ReadFile(filepath.Join(home, beaconFile))
	if err != nil {
		return nil, nil, fmt.Errorf("read beacon key: %w", err)
	}
	if pub, err := beacon.Public(secret); err != nil || string(pub) != string(g.BeaconKey) {
		return nil, nil, fmt.Errorf("the key in %s is not the one that the genesis names: restore it from a copy of this folder", filepath.Join(home, beaconFile))
	}
	return g, secret, nil
}

// loadKey reads the consensus key. CometBFT's own reader would make a new key, or end the process.
func loadKey(c *cfg.Config) (*privval.FilePV, error) {
	var key privval.FilePVKey
	for f, v := range map[string]any{c.PrivValidatorKeyFile(): &key, c.PrivValidatorStateFile(): new(privval.FilePVLastSignState)} {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read consensus key: %w; restore it from a copy of this folder", err)
		}
		if err := cometjson.Unmarshal(raw, v); err != nil {
			return nil, fmt.Errorf("read consensus key: %s is damaged (%v); restore it from a copy of this folder", f, err)
		}
	}
	if k, ok := key.PrivKey.(ed25519.PrivKey); !ok || len(k) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("read consensus key: %s is damaged; restore it from a copy of this folder", c.PrivValidatorKeyFile())
	}
	return privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile()), nil
}

func config(home string, blockTime time.Duration) *cfg.Config {
	c := cfg.DefaultConfig()
	c.SetRoot(home)
	c.RPC.ListenAddress = ""
	c.P2P.ListenAddress = "tcp://127.0.0.1:0"
	c.P2P.MaxNumInboundPeers = 0 // one validator: nobody has to come in beside the API
	c.P2P.PexReactor = false
	c.P2P.AddrBookStrict = false
	c.TxIndex.Indexer = "null"
	c.Storage.DiscardABCIResponses = true
	c.Mempool.Size = maxPending
	c.Mempool.MaxTxBytes = local.MaxTx
	c.Mempool.MaxTxsBytes = maxPending * local.MaxTx
	c.Consensus.TimeoutPropose = max(blockTime, time.Second)
	c.Consensus.TimeoutCommit = blockTime
	c.Consensus.SkipTimeoutCommit = false
	return c
}
