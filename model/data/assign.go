package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"sn3/chain"
)

// ErrTooSmall: the dataset cannot serve what was asked of it.
var ErrTooSmall = errors.New("data: the text is too small")

// Assignment is what one miner trains on in a window.
type Assignment struct {
	// Samples are numbers of train samples, in the order in which they are to be consumed.
	Samples []uint64
	// Digest is SHA-256 over "sn3/assignment/1", the dataset's root, SHA-256(beacon) and, each as u64 big-endian, w, rank,
	// ranks, the number of samples and the samples.
	Digest chain.Hash
}

// Assign deals the train samples of window w: one permutation keyed by the dataset, beacon and w, of which rank r of ranks
// owns the positions [r·samples, (r+1)·samples). Slices of one window are disjoint; all nodes get the same. More than the
// train split holds is refused, not dealt twice.
func (d *Dataset) Assign(beacon []byte, w chain.Window, ranks, rank, samples int) (Assignment, error) {
	if ranks < 1 || rank < 0 || rank >= ranks || samples < 1 {
		return Assignment{}, fmt.Errorf("assign data: rank %d of %d, %d samples", rank, ranks, samples)
	}
	if have := d.Samples(Train); uint64(ranks) > have/uint64(samples) {
		return Assignment{}, fmt.Errorf("assign data: %w: %d miners need %d samples of %d tokens each in a window and the train split has %d; "+
			"it serves %d miners, or %d samples for each of %d, or needs %d more tokens of text", ErrTooSmall, ranks, samples, d.seq, have,
			have/uint64(samples), have/uint64(ranks), ranks, d.missing(uint64(ranks)*uint64(samples)))
	}
	p := d.dealt(beacon, w)
	a := Assignment{Samples: make([]uint64, samples)}
	for i := range a.Samples {
		a.Samples[i] = p.at(uint64(rank)*uint64(samples) + uint64(i))
	}
	a.Digest = d.digest(a.Samples, beacon, w, rank, ranks)
	return a, nil
}

// missing is the number of tokens that the train split lacks to hold samples.
func (d *Dataset) missing(samples uint64) uint64 { return samples*uint64(d.seq) + 1 - d.Len(Train) }

// dealt is the permutation of the train samples in window w.
func (d *Dataset) dealt(beacon []byte, w chain.Window) permutation {
	key := derive("sn3/assign/1", d.spec.Root[:], beacon, binary.BigEndian.AppendUint64(nil, uint64(w)))
	return newPermutation(key, d.Samples(Train))
}

func (d *Dataset) digest(samples []uint64, beacon []byte, w chain.Window, rank, ranks int) chain.Hash {
	b := append([]byte("sn3/assignment/1"), d.spec.Root[:]...)
	seed := sha256.Sum256(beacon)
	b = append(b, seed[:]...)
	for _, x := range []uint64{uint64(w), uint64(rank), uint64(ranks), uint64(len(samples))} {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	for _, s := range samples {
		b = binary.BigEndian.AppendUint64(b, s)
	}
	return sha256.Sum256(b)
}

// Unassigned draws n train samples that no rank of window w was assigned, fewer when not as many are left. beacon, w, ranks
// and samples are those of Assign; draw is randomness that came after the deadline, so that nobody could train on them.
func (d *Dataset) Unassigned(draw, beacon []byte, w chain.Window, ranks, samples, n int) []uint64 {
	taken := uint64(max(ranks, 0)) * uint64(max(samples, 0))
	have := d.Samples(Train)
	if n < 1 || taken >= have {
		return nil
	}
	left := have - taken
	pick, p := newPermutation(derive("sn3/unassigned/1", d.spec.Root[:], draw), left), d.dealt(beacon, w)
	out := make([]uint64, min(uint64(n), left))
	for i := range out {
		out[i] = p.at(taken + pick.at(uint64(i)))
	}
	return out
}

// drawHeldOut picks n held-out samples.
func (d *Dataset) drawHeldOut(beacon []byte, n int) ([]uint64, error) {
	have := d.Samples(HeldOut)
	if n < 1 || uint64(n) > have {
		return nil, fmt.Errorf("draw held-out samples: %w: asked for %d, the held-out split has %d of %d tokens", ErrTooSmall, n, have, d.seq)
	}
	p := newPermutation(derive("sn3/heldout/1", d.spec.Root[:], beacon), have)
	out := make([]uint64, n)
	for i := range out {
		out[i] = p.at(uint64(i))
	}
	return out, nil
}

// Rank is the place of h among the hotkeys without validator permit, ascending (DESIGN §11), and their number; ok is false
// for a hotkey that has no seat or holds a permit.
func Rank(s *chain.Snapshot, h chain.Hotkey) (rank, ranks int, ok bool) {
	for _, n := range s.Neurons {
		if n.Permit {
			continue
		}
		ranks++
		switch c := bytes.Compare(n.Hotkey[:], h[:]); {
		case c == 0:
			ok = true
		case c < 0:
			rank++
		}
	}
	if !ok {
		rank = 0
	}
	return rank, ranks, ok
}
