package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cometjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"

	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/state"
)

// keys are those of one node: of consensus, of peer-to-peer, of a member of the beacon, and where a network begins with this
// node's beacon key, that.
type keys struct {
	pv     *privval.FilePV
	node   *p2p.NodeKey
	member *dkg.Member
	secret []byte // of the beacon, or nil

	fresh map[string]any // files to be written, relative to the folder
}

// loadOrMake reads the keys of a folder that has no chain yet, and makes in memory what is missing.
func loadOrMake(home string) (*keys, error) {
	c := config(home, 0, DefaultNet())
	k := &keys{fresh: map[string]any{}}
	switch pv, err := loadKey(c); {
	case err == nil:
		k.pv = pv
		if h := pv.LastSignState.Height; h > 0 {
			return nil, fmt.Errorf("the consensus key in %s has signed block %d of a chain, and would refuse the first blocks of another; use a new folder", home, h)
		}
	case missing(c.PrivValidatorKeyFile()):
		k.pv = privval.GenFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
		k.fresh[c.PrivValidatorStateFile()] = k.pv.LastSignState
		k.fresh[c.PrivValidatorKeyFile()] = k.pv.Key
	default:
		return nil, err
	}
	if missing(c.NodeKeyFile()) {
		k.node = &p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}
		k.fresh[c.NodeKeyFile()] = k.node
	} else {
		var err error
		if k.node, err = p2p.LoadNodeKey(c.NodeKeyFile()); err != nil {
			return nil, fmt.Errorf("load node key: %w; delete %s for a new one", err, c.NodeKeyFile())
		}
	}
	return k, k.withMember(home)
}

// withMember reads the member key or makes one.
func (k *keys) withMember(home string) (err error) {
	if k.member, err = readMember(home); err != nil || k.member != nil {
		return err
	}
	if k.member, err = dkg.Generate(rand.Reader); err != nil {
		return err
	}
	k.fresh[filepath.Join(home, memberFile)] = k.member.Encode()
	return nil
}

// withBeacon reads the beacon's secret or makes one.
func (k *keys) withBeacon(home string) (err error) {
	file := filepath.Join(home, beaconFile)
	if !missing(file) {
		if k.secret, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("read beacon key: %w", err)
		}
		return nil
	}
	if k.secret, err = beacon.Generate(); err != nil {
		return err
	}
	k.fresh[file] = k.secret
	return nil
}

// write makes the folder and puts the new keys into it, each whole or not at all.
func (k *keys) write(home string) error {
	for _, d := range []string{home, filepath.Join(home, "config"), filepath.Join(home, "data")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make the node's folder: %w; give a --home that this user may write", err)
		}
	}
	// the state before the key: whoever finds a key without its state takes the folder for a damaged one
	c := config(home, 0, DefaultNet())
	for _, file := range []string{c.PrivValidatorStateFile(), c.PrivValidatorKeyFile(), c.NodeKeyFile(), filepath.Join(home, memberFile), filepath.Join(home, beaconFile)} {
		v, ok := k.fresh[file]
		raw, bare := v.([]byte)
		if !ok {
			continue
		}
		if !bare {
			var err error
			if raw, err = cometjson.MarshalIndent(v, "", "  "); err != nil {
				return fmt.Errorf("init node: %w", err)
			}
		}
		if err := writeFile(file, raw); err != nil {
			return fmt.Errorf("init node: %w", err)
		}
	}
	clear(k.fresh)
	return nil
}

func missing(file string) bool {
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// publicKey is the key of consensus in the chain's form.
func publicKey(pv *privval.FilePV) [32]byte { return [32]byte(pv.Key.PubKey.Bytes()) }

// candidate is the node's line, with a proof for one network; without a member key it will make no beacon.
func candidate(pv *privval.FilePV, id p2p.ID, network string, member *dkg.Member) (local.Candidate, error) {
	c := local.Candidate{Node: string(id), Key: publicKey(pv)}
	if member != nil {
		c.Beacon = member.Card(state.MemberContext(network, c.Key))
	}
	sig, err := pv.Key.PrivKey.Sign(local.ValidatorClaim(network, c.Key, c.Beacon))
	if err != nil {
		return c, fmt.Errorf("prove consensus key: %w", err)
	}
	if len(sig) != len(c.Proof) {
		return c, fmt.Errorf("prove consensus key: a signature of %d bytes", len(sig))
	}
	copy(c.Proof[:], sig)
	return c, nil
}

// Keys makes the keys of a node before it has a chain, and gives its line for a network. Keys that are there stay.
func Keys(home, network string) (local.Candidate, error) {
	k, err := loadOrMake(home)
	if err != nil {
		return local.Candidate{}, err
	}
	if err := k.write(home); err != nil {
		return local.Candidate{}, err
	}
	return candidate(k.pv, k.node.ID(), network, k.member)
}

// stale is what to do about the file of the last signature, which no copy replaces.
const stale = "a copy may be older, and with it the node could sign a block twice: have its key taken out of the validators and let it join with a new one, in another folder (where it is the network's only node, a copy will do)"

// loadKey reads the consensus key. CometBFT's own reader would make a new key, or end the process.
func loadKey(c *cfg.Config) (*privval.FilePV, error) {
	var key privval.FilePVKey
	for _, f := range []struct {
		path, then string
		v          any
	}{{c.PrivValidatorKeyFile(), "restore it from a copy of this folder", &key}, {c.PrivValidatorStateFile(), stale, new(privval.FilePVLastSignState)}} {
		raw, err := os.ReadFile(f.path)
		if err != nil {
			return nil, fmt.Errorf("read consensus key: %w; %s", err, f.then)
		}
		if err := cometjson.Unmarshal(raw, f.v); err != nil {
			return nil, fmt.Errorf("read consensus key: %s is damaged (%v); %s", f.path, err, f.then)
		}
	}
	if k, ok := key.PrivKey.(ed25519.PrivKey); !ok || len(k) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("read consensus key: %s is damaged; restore it from a copy of this folder", c.PrivValidatorKeyFile())
	}
	pv := privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	if err := checkSigned(pv); err != nil {
		return nil, fmt.Errorf("read consensus key: %s is damaged (%w); %s", c.PrivValidatorStateFile(), err, stale)
	}
	return pv, nil
}
