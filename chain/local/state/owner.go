package state

import (
	"sn3/chain"
	"sn3/chain/local"
)

// NewestRules is the newest version of the rules that this program knows. A chain begins with the version in its genesis and
// changes to a later one at a block that its owner announced.
const NewestRules uint64 = 2

// upgradeNotice is how many blocks ahead an upgrade must be announced: operators have to install a release.
const upgradeNotice = 10

func (s *State) owns(from chain.Hotkey) bool {
	return s.gen.Owner != chain.Coldkey{} && chain.Coldkey(from) == s.gen.Owner
}

func (s *State) checkParam(o local.SetParam, from chain.Hotkey) local.Code {
	if !s.owns(from) {
		return local.CodeNotSubnetOwner
	}
	if p, ok := s.params.changed(o.Name, o.Value, s.meta.Rules); !ok || p.MaxSeats < len(s.seats) {
		return local.CodeParam
	}
	return local.CodeOK
}

func (s *State) setParam(o local.SetParam) {
	s.params, _ = s.params.changed(o.Name, o.Value, s.meta.Rules)
	s.touch(paramsKey)
	s.emit(local.Event{Kind: local.EventParam, Reason: o.Name, Amount: chain.Amount(o.Value)})
}

// checkUpgrade: an announced upgrade may be replaced, or called off with the present version, until its block.
func (s *State) checkUpgrade(o local.Upgrade, from chain.Hotkey) local.Code {
	switch {
	case !s.owns(from):
		return local.CodeNotSubnetOwner
	case o.Version < s.meta.Rules || o.Version > s.meta.Rules+1 || o.At < s.meta.Height+upgradeNotice:
		return local.CodeUpgrade
	}
	return local.CodeOK
}

func (s *State) announceUpgrade(o local.Upgrade) {
	s.meta.Next = upgrade{o.Version, o.At}
	if o.Version == s.meta.Rules {
		s.meta.Next = upgrade{}
	}
}

// upgrade changes the rules at the announced block. Who runs the machine asks Upgrade before: it must not execute a block by
// rules that it does not know.
func (s *State) upgrade() {
	if s.meta.Next.At != s.meta.Height || s.meta.Next.Rules == 0 {
		return
	}
	s.meta.Rules, s.meta.Next = s.meta.Next.Rules, upgrade{}
	s.touch(paramsKey)
	s.emit(local.Event{Kind: local.EventRules, Amount: chain.Amount(s.meta.Rules)})
}

// Rules is the version of the rules that the newest block was executed by, and the announced next one, if any.
func (s *State) Rules() (now, next uint64, at chain.Block) {
	return s.meta.Rules, s.meta.Next.Rules, s.meta.Next.At
}
