package state

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
)

// Bounds of the set of validators, the nodes that make blocks.
const (
	maxValidators = 64

	// validatorGap is how many blocks lie between two changes of the set. The consensus engine uses a change two blocks later;
	// with this distance every change is decided by more than two thirds of a set that the change before is part of, so nobody
	// can replace a set faster than its members can see, and a node that follows block by block never skips one.
	validatorGap = 10
)

// validator is a node that makes blocks. All have the same say.
type validator struct {
	since  chain.Block // when it was added, or last changed its beacon member
	beacon []byte      // its public form in the making of beacon keys; may be empty
}

// ValidatorUpdate is a change for the consensus engine: Power 1 adds a node, 0 removes it.
type ValidatorUpdate struct {
	Key   [32]byte
	Power int64
}

// found enters the validators of genesis.
func (s *State) found(list []Validator) {
	for _, v := range list {
		s.validators[v.Key] = validator{beacon: append([]byte{}, v.Beacon...)}
		s.touch(validatorKey(v.Key))
	}
	s.touch(validatorsKey)
}

func checkValidators(list []Validator) error {
	if len(list) > maxValidators {
		return fmt.Errorf("genesis: %d validators, at most %d", len(list), maxValidators)
	}
	seen := map[chain.Hash]bool{}
	for _, v := range list {
		switch {
		case seen[v.Key] || v.Key == chain.Hash{}:
			return fmt.Errorf("genesis: validator %s is empty or there twice", v.Key.Short())
		case len(v.Beacon) > local.MaxMember:
			return fmt.Errorf("genesis: beacon member of validator %s has %d bytes, at most %d", v.Key.Short(), len(v.Beacon), local.MaxMember)
		}
		seen[v.Key] = true
	}
	return nil
}

// checkValidator: one change per validatorGap blocks, never an empty set, nobody whose key has not signed, and no beacon member
// that could take no part in making keys.
func (s *State) checkValidator(o local.SetValidator, from chain.Hotkey) local.Code {
	old, present := s.validators[o.Key]
	add := o.Power == 1
	switch {
	case !s.owns(from):
		return local.CodeNotSubnetOwner
	case o.Power > 1,
		!add && (!present || len(s.validators) == 1),
		add && present && bytes.Equal(old.beacon, o.Beacon),
		add && !present && len(s.validators) >= maxValidators,
		add && !o.Proven(s.gen.Network):
		return local.CodeValidator
	case add && s.meta.Rules >= 2 && !s.goodCard(o):
		return local.CodeMember
	case s.validatorsAt > 0 && s.meta.Height-s.validatorsAt < validatorGap:
		return local.CodeRateLimited
	}
	return local.CodeOK
}

// goodCard says whether a beacon member is none, or a card of the validator's own whose member key no other validator has.
func (s *State) goodCard(o local.SetValidator) bool {
	if len(o.Beacon) == 0 {
		return true
	}
	key, err := dkg.ParseCard(o.Beacon, MemberContext(s.gen.Network, o.Key))
	for id, v := range s.validators { // any order: it is a yes or no
		if other, ok := dkg.CardKey(v.beacon); ok && other == key && id != o.Key {
			return false
		}
	}
	return err == nil
}

func (s *State) setValidator(o local.SetValidator) {
	_, present := s.validators[o.Key]
	e := local.Event{Kind: local.EventValidator, Other: o.Key, Reason: "added"}
	switch {
	case o.Power == 0:
		delete(s.validators, o.Key)
		e.Reason = "removed"
	default:
		s.validators[o.Key] = validator{s.meta.Height, append([]byte{}, o.Beacon...)}
		if present {
			e.Reason = "changed"
		}
	}
	if present == (o.Power == 0) { // a new beacon member is nothing to the engine
		s.updates = append(s.updates, ValidatorUpdate{o.Key, int64(o.Power)})
	}
	s.validatorsAt = s.meta.Height
	s.touch(validatorKey(o.Key))
	s.touch(validatorsKey)
	s.emit(e)
}

// has says whether a validator has a part of a key. One that is not shared the first validator of the genesis has.
func (s *State) has(id [32]byte, k *beacon.Key) bool {
	if k.From == 0 && len(s.gen.Beacon) == 0 {
		return len(s.gen.Validators) > 0 && s.gen.Validators[0].Key == id
	}
	key, ok := dkg.CardKey(s.validators[id].beacon)
	if ok {
		_, ok = k.Index(key)
	}
	return ok
}

// Validators are the nodes that make blocks, by key.
func (s *State) Validators() []local.ValidatorInfo {
	keys := slices.SortedFunc(maps.Keys(s.validators), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	out := make([]local.ValidatorInfo, len(keys))
	now, next := s.keyAt(chain.Round(s.meta.Height)), s.keys[len(s.keys)-1]
	for i, k := range keys {
		v := s.validators[k]
		out[i] = local.ValidatorInfo{Key: k, Beacon: v.beacon, Since: v.since, Signs: s.has(k, now), Next: next != now && s.has(k, next)}
	}
	return out
}

func encodeValidator(v validator) []byte {
	return appendBytes([]byte(number(uint64(v.since))), v.beacon)
}

func decodeValidator(b []byte) (validator, error) {
	d := decoder{b: b}
	v := validator{since: chain.Block(d.u64()), beacon: d.bytes()}
	if len(v.beacon) > local.MaxMember {
		return v, errForm
	}
	return v, d.end()
}
