package state

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"sn3/chain"
)

// RecentBlocks is how many of the newest blocks can be asked for although they are no phase boundary: a reader is always a little
// behind.
const RecentBlocks = 20

// Shown is what of an entry a snapshot shows: of a seat the neuron, a record whole; of others nothing, but for balances, whose
// former values the state keeps. It shares value's memory.
func Shown(key, value []byte) (part []byte, ok bool) {
	switch {
	case len(key) == 0 || key[0] != 's' && key[0] != 'r':
		return nil, false
	case key[0] == 's':
		return value[:min(len(value), neuronLen)], true
	}
	return value, true
}

// Recall makes a restored machine answer for the newest blocks like one that ran on. It is given by block, the newest first and
// without a gap, what was Shown, before the block, of the entries that it changed; a nil Value: there was none. Errors wrap
// ErrDamaged.
func (s *State) Recall(blocks [][]KV) error {
	neurons := map[int]chain.Neuron{}
	for i, x := range s.seats {
		neurons[i] = x.Neuron
	}
	records := maps.Clone(s.records)
	recent := []*chain.Snapshot{s.now()}
	for i, list := range blocks {
		back := chain.Block(i) + 1
		if back >= min(s.meta.Height, s.span()) || len(recent) == RecentBlocks {
			break
		}
		for _, e := range list {
			if err := undo(e, neurons, records); err != nil {
				return err
			}
		}
		snap, err := s.recalled(s.meta.Height-back, neurons, records)
		if err != nil {
			return err
		}
		recent = append(recent, snap)
	}
	slices.Reverse(recent)
	s.recent = recent
	return nil
}

// undo puts back what an entry was.
func undo(e KV, neurons map[int]chain.Neuron, records map[chain.Hotkey]chain.Published) error {
	n, numbered := numberIn(string(e.Key))
	d := decoder{b: e.Value}
	switch {
	case numbered && e.Key[0] == 's' && n < maxSeats && e.Value == nil:
		delete(neurons, int(n))
	case numbered && e.Key[0] == 's' && n < maxSeats:
		neurons[int(n)] = d.neuron(chain.UID(n))
	case len(e.Key) == 33 && e.Key[0] == 'r' && e.Value == nil:
		delete(records, chain.Hotkey(e.Key[1:]))
	case len(e.Key) == 33 && e.Key[0] == 'r':
		id := chain.Hotkey(e.Key[1:])
		p, err := decodePublished(id, e.Value)
		if err != nil {
			return fmt.Errorf("%w: former record of %s: %w", ErrDamaged, id.Short(), err)
		}
		records[id] = p
	default:
		return fmt.Errorf("%w: what was before an entry %x", ErrDamaged, e.Key)
	}
	if e.Value != nil && e.Key[0] == 's' && d.end() != nil {
		return fmt.Errorf("%w: former seat %d", ErrDamaged, n)
	}
	return nil
}

// recalled is the snapshot of an earlier block; balances of then are in the state.
func (s *State) recalled(at chain.Block, neurons map[int]chain.Neuron, records map[chain.Hotkey]chain.Published) (*chain.Snapshot, error) {
	out := &chain.Snapshot{Block: at}
	for i := range len(neurons) {
		n, ok := neurons[i]
		if !ok {
			return nil, fmt.Errorf("%w: former seats of block %d", ErrDamaged, at)
		}
		var err error
		if n.Balance, err = s.BalanceAt(n.Coldkey, at); err != nil {
			return nil, fmt.Errorf("%w: former seats: %w", ErrDamaged, err)
		}
		out.Neurons = append(out.Neurons, n)
	}
	for _, p := range records { // any order: sorted below
		out.Records = append(out.Records, p)
	}
	slices.SortFunc(out.Records, func(a, b chain.Published) int { return bytes.Compare(a.Hotkey[:], b.Hotkey[:]) })
	return out, nil
}
