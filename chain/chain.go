// Package chain names the protocol: identifiers, the window schedule, records, votes, the selection rule and the run
// descriptor. It is pure: standard library only, no I/O, no clock, no randomness, and nothing of ours imported.
//
// Drivers live below it (chain/local, later chain/subtensor) and satisfy Reader, Writer and Registrar.
package chain

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"
)

type (
	// Block is a height of the chain, the protocol's only clock.
	Block uint64
	// Window is the number of one outer round.
	Window uint64
	// Round is a round of the randomness beacon; on the local chain it equals the height.
	Round uint64
	// UID is a seat in the metagraph. Seats are recycled: state that outlives a window is keyed by Hotkey.
	UID uint16
	// Shard is a contiguous range of chunks that is selected on its own; always 0 while the run has S = 1.
	Shard uint16
	// Hotkey is the 32-byte account id of who sits in a seat.
	Hotkey [32]byte
	// Coldkey is the 32-byte account id of who owns a hotkey and receives its emission.
	Coldkey [32]byte
	// Hash is a SHA-256 digest.
	Hash [32]byte
	// Amount is a sum of money in rao: 1e-9 of a coin.
	Amount uint64
)

// RaoPerCoin is the number of rao in one coin.
const RaoPerCoin Amount = 1_000_000_000

// String prints the amount in coins with nine decimals.
func (a Amount) String() string { return fmt.Sprintf("%d.%09d", a/RaoPerCoin, a%RaoPerCoin) }

// Short prints the first four bytes in hex, for one-line logs.
func (h Hash) Short() string { return hex.EncodeToString(h[:4]) }

// String prints the digest in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the digest in hex.
func (h Hash) MarshalText() ([]byte, error) { return marshalHex(h[:]) }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(b []byte) error { return unmarshalHex(h[:], b) }

// Short prints the first four bytes in hex, for one-line logs.
func (h Hotkey) Short() string { return hex.EncodeToString(h[:4]) }

// String prints the account id in hex.
func (h Hotkey) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the account id in hex.
func (h Hotkey) MarshalText() ([]byte, error) { return marshalHex(h[:]) }

// UnmarshalText reads 64 hex digits.
func (h *Hotkey) UnmarshalText(b []byte) error { return unmarshalHex(h[:], b) }

// String prints the account id in hex.
func (c Coldkey) String() string { return hex.EncodeToString(c[:]) }

// MarshalText writes the account id in hex.
func (c Coldkey) MarshalText() ([]byte, error) { return marshalHex(c[:]) }

// UnmarshalText reads 64 hex digits.
func (c *Coldkey) UnmarshalText(b []byte) error { return unmarshalHex(c[:], b) }

func marshalHex(b []byte) ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func unmarshalHex(dst, src []byte) error {
	if len(src) != 2*len(dst) {
		return fmt.Errorf("want %d hex digits, got %d", 2*len(dst), len(src))
	}
	_, err := hex.Decode(dst, src)
	return err
}

// NoWindow marks "before the first window": the replica then holds the initial model θ_{-1}.
const NoWindow = Window(math.MaxUint64)

// Errors that callers of a Reader or Writer decide on; drivers wrap them.
var (
	// ErrPruned: the chain no longer keeps the state of that block.
	ErrPruned = errors.New("chain: state of that block is pruned")
	// ErrNotYet: the block or phase is still to come.
	ErrNotYet = errors.New("chain: not reached yet")
	// ErrNotFound: no such account, neuron or record.
	ErrNotFound = errors.New("chain: not found")
	// ErrUnavailable: the node cannot be reached; the caller may wait and retry.
	ErrUnavailable = errors.New("chain: node not reachable")
	// ErrDisputed: the nodes that were asked contradict each other; nothing is signed until they agree.
	ErrDisputed = errors.New("chain: nodes disagree")
	// ErrTooLate: the record's phase has passed; publishing it would change nothing.
	ErrTooLate = errors.New("chain: phase has passed")
	// ErrNotRegistered: the hotkey has no seat.
	ErrNotRegistered = errors.New("chain: hotkey is not registered")
	// ErrRateLimited: the chain accepts this operation again after some blocks.
	ErrRateLimited = errors.New("chain: rate limited")
	// ErrFunds: the balance does not cover the operation.
	ErrFunds = errors.New("chain: balance too low")
)

// Head is a final block.
type Head struct {
	Block Block
	Time  time.Time
}

// Neuron is one seat of the metagraph as of a block. Proportions are u16 with 65535 = 1.
type Neuron struct {
	UID          UID     `json:"uid"`
	Hotkey       Hotkey  `json:"hotkey"`
	Coldkey      Coldkey `json:"coldkey"`
	Stake        Amount  `json:"stake"`
	Permit       bool    `json:"validator_permit"`
	RegisteredAt Block   `json:"registered_at"`
	LastUpdate   Block   `json:"last_update"`
	Consensus    uint16  `json:"consensus"`
	Incentive    uint16  `json:"incentive"`
	Dividends    uint16  `json:"dividends"`
	Trust        uint16  `json:"validator_trust"`
	Emission     Amount  `json:"emission"` // of the last epoch
	Earned       Amount  `json:"earned"`   // sum of all epochs in this seat
	Balance      Amount  `json:"balance"`  // of the coldkey
}

// Published is a record as the chain holds it, with the block it was included in.
type Published struct {
	Hotkey Hotkey `json:"hotkey"`
	Record Record `json:"record"`
	At     Block  `json:"at"`
}

// Snapshot is what the chain knew AS OF a block: after executing it.
type Snapshot struct {
	Block   Block
	Neurons []Neuron    // ascending uid
	Records []Published // ascending hotkey; at most one per hotkey
}

// ByHotkey finds the seat of h.
func (s *Snapshot) ByHotkey(h Hotkey) (Neuron, bool) {
	for _, n := range s.Neurons {
		if n.Hotkey == h {
			return n, true
		}
	}
	return Neuron{}, false
}

// Record finds the record of h.
func (s *Snapshot) Record(h Hotkey) (Published, bool) {
	for _, p := range s.Records {
		if p.Hotkey == h {
			return p, true
		}
	}
	return Published{}, false
}

// Weight is one entry of a weight vector; 65535 is the largest.
type Weight struct {
	UID   UID    `json:"uid"`
	Value uint16 `json:"value"`
}

// Receipt proves that an operation is in a final block.
type Receipt struct {
	Block Block
	Tx    Hash
}
