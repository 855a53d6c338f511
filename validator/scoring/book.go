package scoring

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"sort"

	"sn3/chain"
	"sn3/internal/replica"
)

// Constants of the rating. They are this validator's opinion, not protocol: validators agree through stake, not constants.
const (
	proofWindows = 3   // windows before the proof of work is judged
	proofClear   = 4.0 // median accumulated z from which own data can be told from other data at all
	proofShare   = 0.4 // of the median, below which a miner did not train on its own data
	proofMemory  = 8   // windows that the accumulated z looks back
	maxRelative  = 2.0 // a window's gain counts at most this many times the median
)

// Entry is what a validator remembers of one hotkey.
type Entry struct {
	Rating float64      `json:"rating"` // moving average of gain relative to the window's median, 1 = typical
	Z      []float64    `json:"z"`      // own-minus-unseen z of the newest windows, at most proofMemory
	Last   chain.Window `json:"last"`   // newest window that counted
}

// Proof is the accumulated z: Σz/√n over the windows remembered (Stouffer's method).
func (e Entry) Proof() float64 {
	var sum float64
	for _, z := range e.Z {
		sum += z
	}
	return sum / math.Sqrt(math.Max(1, float64(len(e.Z))))
}

// Book is a validator's memory of miners, by hotkey. It is saved before a vote leaves, so a restart loses nothing.
type Book struct {
	Entries map[chain.Hotkey]Entry      `json:"entries"`
	Window  chain.Window                `json:"window"` // newest window recorded
	Weighed chain.Block                 `json:"weighed"`
	Seen    map[chain.Hash]chain.Window `json:"seen"` // payloads of the newest windows, with the first window that sent them
	path    string
	damaged error
}

// OpenBook reads the book at path; a missing file is an empty book, a damaged one is set aside (Damaged).
func OpenBook(path string) (*Book, error) {
	empty := &Book{Entries: map[chain.Hotkey]Entry{}, Window: chain.NoWindow, Seen: map[chain.Hash]chain.Window{}, path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ratings: %w", err)
	}
	book := &Book{path: path}
	if err = json.Unmarshal(b, book); err == nil && book.Entries == nil {
		err = errors.New("no entries in it")
	}
	if err != nil {
		empty.damaged = fmt.Errorf("read ratings: %w; kept as %s.damaged", err, path)
		return empty, os.Rename(path, path+".damaged")
	}
	if book.Seen == nil {
		book.Seen = map[chain.Hash]chain.Window{}
	}
	return book, nil
}

// Damaged is why this book does not go on with the one on disk; nil if it does.
func (b *Book) Damaged() error { return b.damaged }

// Mark is what one window says about one miner.
type Mark struct {
	Gain     float64 // held-out gain of the trial step, nats per token
	Z        float64 // own-minus-unseen z
	Rejected bool    // by its own fault: counts as nothing
}

// Record enters the marks of window w, once. A hotkey that is remembered and gave nothing in w (absent) sinks; one that is
// in neither was not scored by this validator's own fault and keeps its rating.
func (b *Book) Record(w chain.Window, marks map[chain.Hotkey]Mark, absent []chain.Hotkey, ema float64) {
	if b.Window != chain.NoWindow && w <= b.Window {
		return
	}
	b.Window = w
	scale := medianGain(marks)
	for h, m := range marks {
		e := b.Entries[h]
		x := 0.0
		if !m.Rejected && scale > 0 {
			x = math.Max(0, math.Min(maxRelative, m.Gain/scale))
		}
		e.Rating += ema * (x - e.Rating)
		if !m.Rejected {
			e.Z = append(e.Z, m.Z)
			e.Z = e.Z[max(0, len(e.Z)-proofMemory):]
		}
		e.Last = w
		b.Entries[h] = e
	}
	for _, h := range absent {
		if e, ok := b.Entries[h]; ok {
			e.Rating -= ema * e.Rating
			b.Entries[h] = e
		}
	}
}

// Sent tells in which window before w a payload was sent first.
func (b *Book) Sent(payload chain.Hash, w chain.Window) (before chain.Window, ok bool) {
	before, ok = b.Seen[payload]
	return before, ok && before < w
}

// Remember notes that a payload was sent in window w, and forgets what is more than keep windows old.
func (b *Book) Remember(payload chain.Hash, w, keep chain.Window) {
	if _, ok := b.Seen[payload]; !ok {
		b.Seen[payload] = w
	}
	for h, at := range b.Seen {
		if at+keep < w {
			delete(b.Seen, h)
		}
	}
}

// medianGain is the median of the positive gains: what a typical useful submission gives.
func medianGain(marks map[chain.Hotkey]Mark) float64 {
	var g []float64
	for _, m := range marks {
		if !m.Rejected && m.Gain > 0 {
			g = append(g, m.Gain)
		}
	}
	if len(g) == 0 {
		return 0
	}
	sort.Float64s(g)
	return g[(len(g)-1)/2]
}

// Cheats tells who shows no proof of work: the own-minus-unseen gain is judged against what the others show, because how
// large it is depends on model and text. While the median is not clear, nobody is accused.
func (b *Book) Cheats() map[chain.Hotkey]bool {
	var proofs []float64
	for _, e := range b.Entries {
		if len(e.Z) >= proofWindows {
			proofs = append(proofs, e.Proof())
		}
	}
	if len(proofs) < 3 {
		return nil
	}
	sort.Float64s(proofs)
	median := proofs[len(proofs)/2]
	if median < proofClear {
		return nil
	}
	out := map[chain.Hotkey]bool{}
	for h, e := range b.Entries {
		if len(e.Z) >= proofWindows && e.Proof() < proofShare*median {
			out[h] = true
		}
	}
	return out
}

// Weights turns ratings into a weight row over the seats of now, the best one at 65535. A hotkey without proof of work gets nothing. Empty if nobody has a rating.
func (b *Book) Weights(now *chain.Snapshot) []chain.Weight {
	best, cheats := 0.0, b.Cheats()
	value := func(n chain.Neuron) float64 {
		e, ok := b.Entries[n.Hotkey]
		if !ok || n.Permit || cheats[n.Hotkey] {
			return 0
		}
		return e.Rating
	}
	for _, n := range now.Neurons {
		best = math.Max(best, value(n))
	}
	if best < 1e-6 {
		return nil
	}
	var out []chain.Weight
	for _, n := range now.Neurons {
		if v := uint16(math.Round(value(n) / best * math.MaxUint16)); v > 0 {
			out = append(out, chain.Weight{UID: n.UID, Value: v})
		}
	}
	return out
}

// Forget drops hotkeys that have no seat any more and were not seen for a while.
func (b *Book) Forget(now *chain.Snapshot, before chain.Window) {
	for h, e := range b.Entries {
		if _, ok := now.ByHotkey(h); !ok && e.Last < before {
			delete(b.Entries, h)
		}
	}
}

// Save writes the book so that a crash leaves the old or the new one.
func (b *Book) Save() error {
	raw, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("save ratings: %w", err)
	}
	return replica.WriteFile(b.path, raw)
}
