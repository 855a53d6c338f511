package state

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"sn3/chain"
)

// Origin is the state of another network with which a network begins.
type Origin struct {
	Height  chain.Block `json:"height"`
	AppHash chain.Hash  `json:"app_hash"` // of the other network's state at Height
}

// ErrOrigin: a state is not the one that the genesis names, or a genesis cannot begin with it.
var ErrOrigin = errors.New("state: not the state that the genesis begins with")

// Heir is the genesis of a network that goes on with this state under a name. Time, beacon and validators are left open.
func (s *State) Heir(network string) (*Genesis, error) {
	run := *s.run
	run.Network = network
	if _, err := chain.ParseRun(run.Encode()); err != nil {
		return nil, fmt.Errorf("name the new network: %w", err)
	}
	g := *s.gen
	g.Network, g.Run, g.Rules, g.Params = network, run.Encode(), s.meta.Rules, s.params
	g.Accounts, g.Seats, g.Validators, g.BeaconKey, g.Beacon = nil, nil, nil, nil, nil
	g.Time = time.Time{}
	g.From = &Origin{s.meta.Height, s.meta.AppHash}
	return &g, nil
}

// Inherit turns a machine of another network into the one that a genesis begins with, and gives the entries that differ.
// Everything stays but the network's name, its validators and its beacon.
func (s *State) Inherit(g *Genesis) ([]KV, error) {
	fresh, err := empty(g)
	if err != nil {
		return nil, err
	}
	run := *fresh.run
	run.Network = s.run.Network
	switch {
	case g.From == nil || g.From.Height != s.meta.Height || g.From.AppHash != s.meta.AppHash:
		return nil, fmt.Errorf("%w: this one is of block %d with the hash %s", ErrOrigin, s.meta.Height, s.meta.AppHash)
	case !bytes.Equal(run.Encode(), s.run.Encode()):
		return nil, fmt.Errorf("%w: the run descriptors differ in more than the network's name", ErrOrigin)
	case g.Rules != s.meta.Rules || !bytes.Equal(encodeParams(g.Params, g.Rules), encodeParams(s.params, s.meta.Rules)) || g.Owner != s.gen.Owner:
		return nil, fmt.Errorf("%w: its rules, parameters or owner are others", ErrOrigin)
	}
	s.gen, s.genHash, s.run, s.sched = fresh.gen, fresh.genHash, fresh.run, fresh.sched
	for k := range s.validators { // any order: a set
		s.touch(validatorKey(k))
	}
	clear(s.validators)
	s.validatorsAt = 0
	s.found(g.Validators)
	for _, k := range s.keys[1:] {
		s.touch(keyKey(k.From))
	}
	for id := range s.dealings { // any order: a set
		s.touch(dealingKey(id))
	}
	clear(s.dealings)
	s.keys, s.making, s.tried = fresh.keys, nil, outcome{}
	s.touch(makingKey)
	s.touch(genesisKey)
	s.latest, s.recent = nil, nil
	return s.flush(), nil
}

// checkOrigin: what a state holds already, its genesis must not bring again.
func (g *Genesis) checkOrigin() error {
	if g.From == nil {
		return nil
	}
	if g.From.Height == 0 || g.From.Height > 1<<60 || len(g.Accounts) > 0 || len(g.Seats) > 0 {
		return fmt.Errorf("%w: a genesis that begins with a state names its block, and neither accounts nor seats", ErrOrigin)
	}
	return nil
}
