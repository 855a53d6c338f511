package local

import (
	"context"
	"encoding/json"
	"time"

	"sn3/chain"
)

// NodeInfo are hints that a node of a loopback network gives, outside of consensus.
type NodeInfo struct {
	S3Port int      `json:"s3_port"`
	Peers  []string `json:"peers"` // peer-to-peer addresses
}

// Status is a node's own view.
type Status struct {
	Network     string       `json:"network"`
	Height      chain.Block  `json:"height"`
	Time        time.Time    `json:"time"`
	AppHash     chain.Hash   `json:"app_hash"` // of the state at Height
	BlockTimeMS int64        `json:"block_time_ms"`
	RunHash     chain.Hash   `json:"run_hash"`
	GenesisHash chain.Hash   `json:"genesis_hash"`         // of what the network started from
	Rules       uint64       `json:"rules"`                // version that the newest block was executed by
	NextRules   uint64       `json:"next_rules,omitempty"` // announced
	UpgradeAt   chain.Block  `json:"upgrade_at,omitempty"` // the block from which on NextRules count
	Info        NodeInfo     `json:"info"`
	Version     string       `json:"version"`
	Beacon      BeaconStatus `json:"beacon"`
}

// Names of queries; the argument is in brackets.
const (
	QueryStatus     = "status"     // []
	QueryAccount    = "account"    // [account in hex] -> AccountInfo
	QueryBalance    = "balance"    // [account in hex@block] -> chain.Amount
	QueryTx         = "tx"         // [hash, or hash@block: chain.ErrPruned instead of ErrNotFound if not all blocks above block are known] -> TxInfo
	QuerySnapshot   = "snapshot"   // [block] -> chain.Snapshot
	QuerySelection  = "selection"  // [window] -> chain.Selection
	QueryBeacon     = "beacon"     // [round] -> bytes
	QueryRun        = "run"        // [] -> canonical bytes of chain.Run
	QueryGenesis    = "genesis"    // [] -> state.Genesis
	QueryParams     = "params"     // [] -> Params
	QueryPeers      = "peers"      // [] -> []string
	QueryNode       = "node"       // [] -> NodeStatus
	QueryLight      = "lightblock" // [height, or nothing for the oldest] -> LightBlock
	QueryValidators = "validators" // [] -> []ValidatorInfo
	QueryHead       = "head"       // [block] -> HeadInfo, of the newest thousands
	QuerySignature  = "signature"  // [round] -> the signature behind the beacon, which the key verifies
	QueryHotkey     = "hotkey"     // [hotkey in hex] -> HotkeyInfo
	QueryBlock      = "block"      // [block] -> BlockInfo, of the newest thousands
	QueryHistory    = "history"    // [hotkey in hex@block] -> HistoryPage of what happened before block; 0: the newest; without hotkey: to the network
	QueryWeights    = "weights"    // [] -> every seat's row of chain.Weight, by uid
	QueryKey        = "key"        // [round] -> the beacon's public key for that round
	QuerySupply     = "supply"     // [block, or nothing for the newest] -> Supply, of the newest thousands
	QueryPrice      = "price"      // [] -> chain.Amount, what a registration costs now
	QueryStakes     = "stakes"     // [account in hex] -> Stakes
)

// Params are the chain's constants as far as a client cares; local/state has them all.
type Params struct {
	MaxSeats        int          `json:"max_seats"`
	BlockEmission   chain.Amount `json:"block_emission"`     // until it is halved, in rao
	Fee             chain.Amount `json:"fee"`                // of a transaction, in rao
	WeightsInterval chain.Block  `json:"weights_rate_limit"` // blocks between two weight rows of a hotkey
	CommitReveal    bool         `json:"commit_reveal_weights_enabled"`
	RevealPeriod    uint64       `json:"commit_reveal_period"` // epochs from a commitment to its reveal
	KeepWindows     int          `json:"keep_windows"`         // for how many windows history can be asked for
}

// AccountInfo is a balance and the next nonce.
type AccountInfo struct {
	Balance chain.Amount `json:"balance"`
	Nonce   uint64       `json:"nonce"`
}

// ValidatorInfo is a node that makes blocks.
type ValidatorInfo struct {
	Key    chain.Hash  `json:"key"`              // ed25519, of consensus
	Beacon []byte      `json:"beacon,omitempty"` // its public form in the making of beacon keys
	Since  chain.Block `json:"since"`            // 0: from the beginning
	Signs  bool        `json:"signs,omitempty"`  // it has the beacon key that signs now, or a part of it
	Next   bool        `json:"next,omitempty"`   // a part of the announced one
}

// NodeStatus is what a node says of itself and of its peers. Nothing in it is agreed upon.
type NodeStatus struct {
	ID         string      `json:"id"`               // peer-to-peer
	Listen     string      `json:"listen,omitempty"` // HOST:PORT of peer-to-peer; the host may be unspecified
	Key        chain.Hash  `json:"key"`              // ed25519, of consensus
	Line       string      `json:"line"`             // a Candidate
	Beacon     bool        `json:"beacon"`           // the beacon's key is in its folder
	CatchingUp bool        `json:"catching_up"`      // it fetches blocks that others have decided
	Paused     bool        `json:"paused"`
	Snapshot   chain.Block `json:"snapshot,omitempty"` // the newest one that it serves; 0: none
	KnownRules uint64      `json:"known_rules"`        // the newest version that the program knows
	Peers      []PeerInfo  `json:"peers"`
	Voters     []VoterInfo `json:"voters"` // validators, by key
}

// LightBlock is a block's header, the signatures under it and its validators, for who verifies without executing.
type LightBlock struct {
	Base   chain.Block `json:"base"`   // the oldest that the node keeps
	Height chain.Block `json:"height"` // the newest
	Block  []byte      `json:"block"`  // tendermint.types.LightBlock, protobuf
}

// PeerInfo is a connected peer.
type PeerInfo struct {
	ID       string      `json:"id"`
	Addr     string      `json:"addr,omitempty"` // HOST:PORT where it takes connections, if it says so
	Outbound bool        `json:"outbound"`       // the node dialled it
	Height   chain.Block `json:"height"`         // the block it works on; 0 while it catches up
}

// VoterInfo is a validator as a node sees it.
type VoterInfo struct {
	Key    chain.Hash  `json:"key"`
	Since  chain.Block `json:"since"`
	Signed chain.Block `json:"signed"` // the newest block that it is known to have signed; 0: none since this node started
}

// TxInfo says what became of a transaction; Block is 0 while it is not in a final block.
type TxInfo struct {
	Block chain.Block `json:"block"`
	Code  Code        `json:"code"`
}

// HeadInfo is a final block with the hash of the state after it: what two nodes of one network must agree on.
type HeadInfo struct {
	Block   chain.Block `json:"block"`
	Time    time.Time   `json:"time"`
	AppHash chain.Hash  `json:"app_hash"`
}

// Backend is what a Client talks to: a node over HTTP, or the state machine in the same process. Errors wrap
// chain.ErrUnavailable, ErrPruned, ErrNotYet or ErrNotFound where they apply. Safe for concurrent use.
type Backend interface {
	// Submit checks a transaction and puts it into the mempool. It is idempotent: one that waits or is in a block already
	// is CodeOK again, and TxInfo has its outcome.
	Submit(ctx context.Context, tx []byte) (Code, error)
	// Query answers one of the queries above as JSON.
	Query(ctx context.Context, name, arg string) (json.RawMessage, error)
	// Heads waits for final heads above after and returns them, ascending and contiguous from after+1 unless pruned. It may
	// give up waiting after HeadsWait and return none.
	Heads(ctx context.Context, after chain.Block) ([]chain.Head, error)
}

// Steady is a Backend of several nodes that says whether they agree: a client asks it before it signs. The error wraps
// chain.ErrDisputed while they do not, or chain.ErrUnavailable.
type Steady interface {
	Steady(ctx context.Context) error
}
