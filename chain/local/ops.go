package local

import (
	"encoding/binary"

	"sn3/chain"
)

// Kinds of operations; the byte after the nonce. They are part of the consensus rules: never renumber.
const (
	kindTransfer = 1 + iota
	kindRegister
	kindPublish
	kindSetWeights
	kindCommitWeights
	kindAddStake
	kindRemoveStake
	kindSetTake
	kindSetParam
	kindSetValidator
	kindMakeBeacon
	kindUpgrade
)

// TimelockVersion is the form of a timelocked commitment: Subtensor's commit_reveal_version 4, see chain/timelock.
const TimelockVersion = 4

// Limits of operations.
const (
	MaxCommit = 3500 // bytes of a timelocked commitment; Subtensor takes 5,000, a row of MaxWeights needs 2,400
	MaxParam  = 32   // letters of a parameter's name
	MaxMember = 512  // bytes of a beacon member's public form
)

// Op is what a transaction does.
type Op interface {
	kind() byte
	append(b []byte) []byte
}

// Transfer moves coins from the signer's account.
type Transfer struct {
	To     chain.Coldkey
	Amount chain.Amount
}

// Register burns the registration cost from the signer's account, at most Limit (0: whatever it is), and gives the signer's
// hotkey a seat. Coldkey becomes the hotkey's owner for good and receives its emission; zero means its owner, or for a new
// hotkey the signer's own account.
type Register struct {
	Coldkey chain.Coldkey
	Limit   chain.Amount
}

// Publish overwrites the signer's record.
type Publish struct{ Record chain.Record }

// SetWeights replaces the signer's weight row where weights are set in the open; uids ascending. VersionKey is the version of
// the validator's rules, refused if it is lower than the network's.
type SetWeights struct {
	VersionKey uint64
	Weights    []chain.Weight
}

// CommitWeights commits a weight row that nobody can read before the beacon of Round: chain/timelock's form of the row, with
// the hotkey in it. The chain reveals it by itself.
type CommitWeights struct {
	Round   chain.Round
	Version uint16
	Commit  []byte
}

// AddStake moves coins from the signer's account into a hotkey's stake.
type AddStake struct {
	Hotkey chain.Hotkey
	Amount chain.Amount
}

// RemoveStake takes coins out of a hotkey's stake, with WholeStake all that the signer has there; they are in the signer's account
// after the network's delay.
type RemoveStake struct {
	Hotkey chain.Hotkey
	Amount chain.Amount
}

// SetTake sets the share of dividends, of 65535, that a hotkey's owner takes before those who stake on it; signed by the owner.
type SetTake struct {
	Hotkey chain.Hotkey
	Take   uint16
}

// SetParam changes one of the chain's parameters; signed by the subnet's owner.
type SetParam struct {
	Name  string
	Value uint64
}

// SetValidator adds a node to those that make blocks, or with Power 0 removes it; signed by the subnet's owner. Proof is the
// node's own signature over ValidatorClaim: a mistyped key, which would stop the chain, has none. A removal needs no proof.
type SetValidator struct {
	Key    [32]byte // ed25519, of consensus
	Beacon []byte   // its member's form in the making of beacon keys, see beacon
	Power  byte     // 0 or 1
	Proof  [64]byte // ed25519
}

// MakeBeacon announces that the present validators make a new beacon key, which signs from round At on; signed by the
// subnet's owner.
type MakeBeacon struct{ At chain.Round }

// Upgrade announces that the chain's rules have another version from block At on; signed by the subnet's owner.
type Upgrade struct {
	Version uint64
	At      chain.Block
}

func (Transfer) kind() byte      { return kindTransfer }
func (Register) kind() byte      { return kindRegister }
func (Publish) kind() byte       { return kindPublish }
func (SetWeights) kind() byte    { return kindSetWeights }
func (CommitWeights) kind() byte { return kindCommitWeights }
func (AddStake) kind() byte      { return kindAddStake }
func (RemoveStake) kind() byte   { return kindRemoveStake }
func (SetTake) kind() byte       { return kindSetTake }
func (SetParam) kind() byte      { return kindSetParam }
func (SetValidator) kind() byte  { return kindSetValidator }
func (MakeBeacon) kind() byte    { return kindMakeBeacon }
func (Upgrade) kind() byte       { return kindUpgrade }

var be = binary.BigEndian

func appendList(b, s []byte) []byte { return append(be.AppendUint16(b, uint16(len(s))), s...) }

func (o Transfer) append(b []byte) []byte {
	return be.AppendUint64(append(b, o.To[:]...), uint64(o.Amount))
}

func (o Register) append(b []byte) []byte {
	return be.AppendUint64(append(b, o.Coldkey[:]...), uint64(o.Limit))
}

func (o Publish) append(b []byte) []byte {
	b = append(appendList(b, o.Record.Locator), o.Record.Digest[:]...)
	return appendList(b, o.Record.Body)
}

func (o SetWeights) append(b []byte) []byte {
	b = be.AppendUint16(be.AppendUint64(b, o.VersionKey), uint16(len(o.Weights)))
	for _, w := range o.Weights {
		b = be.AppendUint16(be.AppendUint16(b, uint16(w.UID)), w.Value)
	}
	return b
}

func (o CommitWeights) append(b []byte) []byte {
	return appendList(be.AppendUint16(be.AppendUint64(b, uint64(o.Round)), o.Version), o.Commit)
}

func (o AddStake) append(b []byte) []byte {
	return be.AppendUint64(append(b, o.Hotkey[:]...), uint64(o.Amount))
}

func (o RemoveStake) append(b []byte) []byte { return AddStake(o).append(b) }

func (o SetTake) append(b []byte) []byte { return be.AppendUint16(append(b, o.Hotkey[:]...), o.Take) }

func (o SetParam) append(b []byte) []byte {
	return be.AppendUint64(appendList(b, []byte(o.Name)), o.Value)
}

func (o SetValidator) append(b []byte) []byte {
	b = append(appendList(append(b, o.Key[:]...), o.Beacon), o.Power)
	return append(b, o.Proof[:]...)
}

func (o MakeBeacon) append(b []byte) []byte { return be.AppendUint64(b, uint64(o.At)) }

func (o Upgrade) append(b []byte) []byte {
	return be.AppendUint64(be.AppendUint64(b, o.Version), uint64(o.At))
}

// kinds read an operation of each kind.
var kinds = [...]func(*reader) Op{
	kindTransfer: func(r *reader) Op { return Transfer{chain.Coldkey(r.h32()), chain.Amount(r.u64())} },
	kindRegister: func(r *reader) Op { return Register{chain.Coldkey(r.h32()), chain.Amount(r.u64())} },
	kindPublish: func(r *reader) Op {
		return Publish{chain.Record{Locator: r.list(MaxTx), Digest: chain.Hash(r.h32()), Body: r.list(MaxTx)}}
	},
	kindSetWeights: func(r *reader) Op { return SetWeights{r.u64(), r.weights()} },
	kindCommitWeights: func(r *reader) Op {
		return CommitWeights{chain.Round(r.u64()), r.u16(), r.list(MaxCommit)}
	},
	kindAddStake:    func(r *reader) Op { return AddStake{r.h32(), chain.Amount(r.u64())} },
	kindRemoveStake: func(r *reader) Op { return RemoveStake{r.h32(), chain.Amount(r.u64())} },
	kindSetTake:     func(r *reader) Op { return SetTake{r.h32(), r.u16()} },
	kindSetParam:    func(r *reader) Op { return SetParam{string(r.list(MaxParam)), r.u64()} },
	kindSetValidator: func(r *reader) Op {
		o := SetValidator{Key: r.h32(), Beacon: r.list(MaxMember), Power: r.u8()}
		copy(o.Proof[:], r.take(len(o.Proof)))
		return o
	},
	kindMakeBeacon: func(r *reader) Op { return MakeBeacon{chain.Round(r.u64())} },
	kindUpgrade:    func(r *reader) Op { return Upgrade{r.u64(), chain.Block(r.u64())} },
}

// list reads bytes preceded by their count, at most most.
func (r *reader) list(most int) []byte {
	n := int(r.u16())
	if n > most {
		r.bad = true
		return nil
	}
	return r.take(n)
}

func (r *reader) weights() (row []chain.Weight) {
	n := int(r.u16())
	if n > MaxWeights || 4*n > len(r.b) {
		r.bad = true
		return nil
	}
	for range n {
		row = append(row, chain.Weight{UID: chain.UID(r.u16()), Value: r.u16()})
	}
	return row
}
