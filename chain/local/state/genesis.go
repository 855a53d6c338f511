// Package state is the chain's state machine, without a consensus engine: transactions in, codes and a hash out. It is
// deterministic: integers only, no map order, no clock, no goroutine; no input may panic it.
package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"sn3/chain"
)

// Account is a balance at genesis.
type Account struct {
	Coldkey chain.Coldkey `json:"coldkey"`
	Balance chain.Amount  `json:"balance"`
}

// Seat is a registered hotkey at genesis.
type Seat struct {
	Hotkey  chain.Hotkey  `json:"hotkey"`
	Coldkey chain.Coldkey `json:"coldkey"` // zero: the hotkey's own account
	Stake   chain.Amount  `json:"stake"`
	Permit  bool          `json:"permit"`
}

// Validator is a node that makes blocks from the beginning.
type Validator struct {
	Key    chain.Hash `json:"key"`              // ed25519, of consensus
	Beacon []byte     `json:"beacon,omitempty"` // its member card (MemberContext) in the making of beacon keys
}

// Genesis is what a chain starts from. Its JSON is the file that every node is given.
type Genesis struct {
	Network     string          `json:"network"`
	Run         json.RawMessage `json:"run"` // chain.Run in canonical bytes
	BlockTimeMS int64           `json:"block_time_ms"`
	Rules       uint64          `json:"rules"` // version of the rules to begin with
	Owner       chain.Coldkey   `json:"owner"` // who may change parameters, block makers and rules; zero: nobody
	Params      Params          `json:"params"`
	BeaconKey   []byte          `json:"beacon_key"`       // public, on G2
	Beacon      []byte          `json:"beacon,omitempty"` // the shared key (beacon.Key) whose public key that is; none: one node's
	Time        time.Time       `json:"time"`             // of the beginning; chaind init sets it where it is zero
	Validators  []Validator     `json:"validators"`       // chaind init puts its own node where there is none
	Accounts    []Account       `json:"accounts"`
	Seats       []Seat          `json:"seats"`
	From        *Origin         `json:"from,omitempty"` // the state to begin with, of another network
}

// ParseGenesis reads a genesis file, indented or not: the run descriptor's bytes are made compact again, as they were hashed.
// Unknown fields are refused: a mistyped parameter must not become a default.
func ParseGenesis(raw []byte) (*Genesis, error) {
	g := new(Genesis)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(g); err != nil {
		return nil, fmt.Errorf("read genesis: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read genesis: trailing bytes")
	}
	var run bytes.Buffer
	if err := json.Compact(&run, g.Run); err != nil {
		return nil, fmt.Errorf("read genesis: run descriptor: %w", err)
	}
	g.Run = run.Bytes()
	return g, nil
}

// Hash identifies the network: it is the same on every node that was given this genesis. Parameters of later rules than its own
// are no part of it: a later program has more of them.
func (g *Genesis) Hash() (chain.Hash, error) {
	bare := *g
	bare.Params = Params{}
	raw, err := json.Marshal(struct {
		Genesis
		Params []byte `json:"params"`
	}{bare, encodeParams(g.Params, g.Rules)})
	if err != nil {
		return chain.Hash{}, fmt.Errorf("hash genesis: %w", err)
	}
	return sha256.Sum256(raw), nil
}

// Validate refuses what the machine could not run.
func (g *Genesis) Validate() (*chain.Run, error) {
	run, err := g.ValidateDraft()
	if err != nil {
		return nil, err
	}
	if _, err := g.key(); err != nil {
		return nil, err
	}
	return run, nil
}

// ValidateDraft is Validate for a genesis whose beacon key is still to be made.
func (g *Genesis) ValidateDraft() (*chain.Run, error) {
	run, err := chain.ParseRun(g.Run)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	p := g.Params
	switch {
	case run.Network != g.Network:
		return nil, fmt.Errorf("genesis: network %q, run descriptor of %q", g.Network, run.Network)
	case g.BlockTimeMS < 50 || g.BlockTimeMS > 60_000:
		return nil, fmt.Errorf("genesis: block time of %d ms", g.BlockTimeMS)
	case g.Rules < 1 || g.Rules > NewestRules:
		return nil, fmt.Errorf("genesis: rules of version %d, this program knows 1 to %d; install the release the network runs", g.Rules, NewestRules)
	case len(g.Seats) > p.MaxSeats:
		return nil, fmt.Errorf("genesis: %d seats, at most %d", len(g.Seats), p.MaxSeats)
	}
	if x := p.of(g.Rules).check(); x != nil {
		return nil, fmt.Errorf("genesis: %s is %d; give %d to %d", x.name, x.get(&p), x.least, x.top)
	}
	if err := errors.Join(checkValidators(g.Validators), g.checkCards(), g.checkOrigin()); err != nil {
		return nil, err
	}
	if err := g.validateMoney(); err != nil {
		return nil, err
	}
	return run, nil
}

// checkCards refuses member cards that the rules would not let in later.
func (g *Genesis) checkCards() error {
	members, _ := g.Members()
	for _, v := range g.Validators {
		if g.Rules >= 2 && len(v.Beacon) > 0 && !slices.Contains(members, v.Key) {
			return fmt.Errorf("genesis: the member card of validator %s is not one, not its own, or another validator's; take the whole line that chaind keys prints", v.Key)
		}
	}
	return nil
}

// validateMoney refuses two seats of one hotkey and more coins than can ever be.
func (g *Genesis) validateMoney() error {
	seen := map[chain.Hotkey]bool{}
	total, limit := chain.Amount(0), maxIssued
	if g.Rules >= 2 {
		limit = g.Params.MaxSupply
	}
	for _, s := range g.Seats {
		if seen[s.Hotkey] {
			return fmt.Errorf("genesis: hotkey %s has two seats", s.Hotkey.Short())
		}
		seen[s.Hotkey] = true
		if s.Stake > limit-total {
			return fmt.Errorf("genesis: stakes of more than %s coins", limit)
		}
		total += s.Stake
	}
	for _, a := range g.Accounts {
		if a.Balance > limit-total {
			return fmt.Errorf("genesis: stakes and balances of more than %s coins", limit)
		}
		total += a.Balance
	}
	return nil
}
