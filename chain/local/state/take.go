package state

import (
	"sn3/chain"
	"sn3/chain/local"
)

// checkSetTake: the owner lowers the take at any time and raises it long after any change only, so that nobody is lured by a
// low one.
func (s *State) checkSetTake(o local.SetTake, from chain.Coldkey) local.Code {
	x, known := s.hotkeys[o.Hotkey]
	switch {
	case s.meta.Rules < 2:
		return local.CodeKind
	case !known:
		return local.CodeNoHotkey
	case x.Owner != from:
		return local.CodeNotOwner
	case o.Take > s.params.MaxTake:
		return local.CodeTake
	case o.Take > x.Take && x.TakeAt != 0 && s.meta.Height-x.TakeAt < s.params.TakeInterval:
		return local.CodeRateLimited
	}
	return local.CodeOK
}

func (s *State) setTake(o local.SetTake) {
	x := s.hotkeys[o.Hotkey]
	if o.Take == x.Take {
		return
	}
	x.Take, x.TakeAt = o.Take, s.meta.Height
	s.setHotkey(o.Hotkey, x)
}
