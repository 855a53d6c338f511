package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	db "github.com/cometbft/cometbft-db"
	comet "github.com/cometbft/cometbft/proto/tendermint/consensus"
	cometproto "github.com/cometbft/cometbft/proto/tendermint/types"
	blockstore "github.com/cometbft/cometbft/store"
	comettypes "github.com/cometbft/cometbft/types"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"sn3/chain"
)

// Trace is what a folder holds of a chain's blocks, and of who signed what. It is evidence: two folders of one network have the
// same block at every height, and nobody signed two things at one height, round and step.
type Trace struct {
	Base, Height chain.Block // of the blocks that the folder holds
	Blocks       []BlockTrace
	Signed       []Signed
	Evidence     int  // double signatures that the engine itself found
	Torn         bool // the end of the consensus log cannot be read, as after a crash
}

// BlockTrace is a block and the state that it was built on.
type BlockTrace struct {
	Block   chain.Block
	Hash    chain.Hash
	AppHash chain.Hash // after the block before
}

// Steps of a block that are signed.
const (
	StepPropose   byte = 1
	StepPrevote   byte = 2
	StepPrecommit byte = 3
)

// Signed is one signature of consensus. Proposals do not name who made them: of a height and round there is one.
type Signed struct {
	By        string // address of the validator; "" of a proposal
	Height    chain.Block
	Round     int32
	Step      byte
	Hash      chain.Hash // of the block; zero: for none
	Signature string
}

// Inspect reads the folder of a node that does not run, and changes nothing in it; blocks above one height, the whole log of
// consensus.
func Inspect(home string, above chain.Block) (t *Trace, err error) {
	defer func() { // the block store panics on what it cannot read
		if r := recover(); r != nil {
			t, err = nil, caught("inspect "+home, r)
		}
	}()
	t = &Trace{}
	if err := t.blocks(home, above); err != nil {
		return nil, fmt.Errorf("inspect blocks: %w", err)
	}
	if err := t.evidence(home); err != nil {
		return nil, fmt.Errorf("inspect evidence: %w", err)
	}
	if err := t.logs(filepath.Join(home, walDir)); err != nil {
		return nil, fmt.Errorf("inspect consensus log: %w", err)
	}
	return t, nil
}

func readOnly(home, name string) (db.DB, error) {
	return db.NewGoLevelDBWithOpts(name, filepath.Join(home, "data"), &opt.Options{ReadOnly: true})
}

func (t *Trace) blocks(home string, above chain.Block) error {
	d, err := readOnly(home, "blockstore")
	if err != nil {
		return err
	}
	bs := blockstore.NewBlockStore(d)
	t.Base, t.Height = chain.Block(bs.Base()), chain.Block(bs.Height())
	for h := max(bs.Base(), int64(above)+1); h <= bs.Height(); h++ {
		b := bs.LoadBlock(h)
		if b == nil {
			return errors.Join(fmt.Errorf("block %d is missing between %d and %d", h, t.Base, t.Height), d.Close())
		}
		t.Blocks = append(t.Blocks, BlockTrace{chain.Block(h), hash(b.Hash()), hash(b.AppHash)})
		t.Evidence += len(b.Evidence.Evidence)
		t.commit(b.LastCommit)
		t.commit(bs.LoadSeenCommit(h))
	}
	return d.Close()
}

func hash(b []byte) (h chain.Hash) {
	copy(h[:], b)
	return h
}

func (t *Trace) commit(c *comettypes.Commit) {
	if c == nil {
		return
	}
	for _, s := range c.Signatures {
		if s.BlockIDFlag == comettypes.BlockIDFlagAbsent {
			continue
		}
		x := Signed{s.ValidatorAddress.String(), chain.Block(c.Height), c.Round, StepPrecommit, chain.Hash{}, string(s.Signature)}
		if s.BlockIDFlag == comettypes.BlockIDFlagCommit {
			x.Hash = hash(c.BlockID.Hash)
		}
		t.Signed = append(t.Signed, x)
	}
}

func (t *Trace) evidence(home string) error {
	if missing(filepath.Join(home, "data", "evidence.db")) {
		return nil
	}
	d, err := readOnly(home, "evidence")
	if err != nil {
		return err
	}
	it, err := d.Iterator(nil, nil)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	for ; it.Valid(); it.Next() {
		t.Evidence++
	}
	return errors.Join(it.Error(), it.Close(), d.Close())
}

// logs reads the files of the consensus log, oldest first.
func (t *Trace) logs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "wal" && !strings.HasPrefix(e.Name(), "wal.") || strings.HasSuffix(e.Name(), ".CORRUPTED") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		t.log(raw)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// log reads one file: of each message checksum u32, length u32 and bytes. It ends at what cannot be read.
func (t *Trace) log(raw []byte) {
	for len(raw) > 0 {
		if len(raw) < 8 {
			t.Torn = true
			return
		}
		n := binary.BigEndian.Uint32(raw[4:])
		if uint64(n) > uint64(len(raw)-8) || crc32.Checksum(raw[8:8+n], castagnoli) != binary.BigEndian.Uint32(raw) {
			t.Torn = true
			return
		}
		var m comet.TimedWALMessage
		if err := m.Unmarshal(raw[8 : 8+n]); err != nil {
			t.Torn = true
			return
		}
		t.message(m.Msg)
		raw = raw[8+n:]
	}
}

func (t *Trace) message(m *comet.WALMessage) {
	info := m.GetMsgInfo()
	if info == nil {
		return
	}
	if v := info.Msg.GetVote(); v != nil && v.Vote != nil {
		step := StepPrevote
		if v.Vote.Type == cometproto.PrecommitType {
			step = StepPrecommit
		}
		x := v.Vote
		t.Signed = append(t.Signed, Signed{strings.ToUpper(fmt.Sprintf("%x", x.ValidatorAddress)), chain.Block(x.Height), x.Round, step, hash(x.BlockID.Hash), string(x.Signature)})
	}
	if p := info.Msg.GetProposal(); p != nil {
		x := p.Proposal
		t.Signed = append(t.Signed, Signed{"", chain.Block(x.Height), x.Round, StepPropose, hash(x.BlockID.Hash), string(x.Signature)})
	}
}

// Twice gives those of a list that differ from another signature of the same validator for the same height, round and step, each
// behind that one. seen remembers from call to call.
func Twice(seen map[Signed]Signed, list []Signed) (out []Signed) {
	for _, s := range list {
		key := Signed{By: s.By, Height: s.Height, Round: s.Round, Step: s.Step}
		if old, ok := seen[key]; ok && old != s {
			out = append(out, old, s)
		}
		seen[key] = s
	}
	return slices.Compact(out)
}
