package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sn3/chain"
	"sn3/chain/local"
)

// History keeps events beyond a block.
type History interface {
	// Page is what happened to a hotkey, or with the zero one to the network, in blocks below before (0: in all), the newest
	// first, at most local.EventsAPage and never a part of a block.
	Page(h chain.Hotkey, before chain.Block) (local.HistoryPage, error)
}

// memory is the history of a ledger without a store.
type memory struct {
	from   chain.Block
	events map[chain.Hotkey][]local.Event // ascending
}

func (m *memory) add(e *Executed) {
	if m.from == 0 {
		m.from = e.Head.Block
	}
	for _, x := range e.State.Events {
		m.events[x.Hotkey] = forget(append(m.events[x.Hotkey], x))
	}
}

// forget drops the oldest event of the last one's class where there are too many.
func forget(list []local.Event) []local.Event {
	class := local.ClassOf(list[len(list)-1].Kind)
	n, oldest := 0, -1
	for i, x := range list {
		if local.ClassOf(x.Kind) == class {
			if n++; oldest < 0 {
				oldest = i
			}
		}
	}
	if n > class.Kept() {
		return slices.Delete(list, oldest, oldest+1)
	}
	return list
}

// Page implements History.
func (m *memory) Page(h chain.Hotkey, before chain.Block) (local.HistoryPage, error) {
	p := local.HistoryPage{From: m.from, Events: []local.Event{}}
	list := m.events[h]
	for i := len(list) - 1; i >= 0; i-- {
		if n := len(p.Events); n >= local.EventsAPage && list[i].Block != p.Events[n-1].Block {
			break
		}
		if before == 0 || list[i].Block < before {
			p.Events = append(p.Events, list[i])
		}
	}
	return p, nil
}

// page answers hotkey@block.
func (l *Ledger) page(arg string) (any, error) {
	hotkey, block, _ := strings.Cut(arg, "@")
	var h chain.Hotkey
	n, err := strconv.ParseUint(block, 10, 64)
	if hotkey != "" {
		err = errors.Join(err, h.UnmarshalText([]byte(hotkey)))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: history: %v", ErrQuery, err)
	}
	l.mu.Lock()
	past := l.past
	if l.own != nil {
		defer l.mu.Unlock()
	} else { // a store has a lock of its own
		l.mu.Unlock()
	}
	return past.Page(h, chain.Block(n))
}
