package scoring

import (
	"fmt"
	"math"

	"sn3/chain"
	"sn3/internal/replica"
)

// originals drops payloads that were sent before: in an earlier window, or by a record of this window that the chain holds
// from an earlier block. Records of one block stay for authors to tell apart.
func (v *Validator) originals(w chain.Window, trials []*trial) (kept []*trial, copies []Verdict) {
	first := map[chain.Hash]*trial{}
	for _, t := range trials {
		if f := first[t.Manifest.Payload]; f == nil || t.At < f.At {
			first[t.Manifest.Payload] = t
		}
	}
	for _, t := range trials {
		f := first[t.Manifest.Payload]
		switch before, ok := v.cfg.Book.Sent(t.Manifest.Payload, w); {
		case ok:
			copies = append(copies, v.copied(w, t, "the same payload was sent in window %d", before))
		case t.At > f.At:
			copies = append(copies, v.copied(w, t, "%s sent the same payload first: its record is of block %d, this one of %d", f.Hotkey.Short(), f.At, t.At))
		default:
			kept = append(kept, t)
		}
	}
	for h := range first {
		v.cfg.Book.Remember(h, w, chain.Window(v.run.Keep))
	}
	return kept, copies
}

// fitsClearly is by how much one z must exceed another before a payload fits one assignment better than the other.
const fitsClearly = 2.0

// authors leaves one of those that sent the same payload in the same block: the one to whose assigned data it fits clearly
// better, for it was made from one assignment only and who copies it cannot choose another; where that is not clear, the one
// with the better rating, which a copier does not earn by copying; then the lower uid, which is the older seat. Keeping none
// would let any copier remove an honest miner.
func (v *Validator) authors(w chain.Window, trials []*trial) (kept []*trial, copies []Verdict) {
	same := map[chain.Hash][]*trial{}
	for _, t := range trials {
		same[t.Manifest.Payload] = append(same[t.Manifest.Payload], t)
	}
	for _, t := range trials {
		if a := v.author(same[t.Manifest.Payload]); a != t {
			copies = append(copies, v.copied(w, t, "%s sent the same payload in the same block, and is taken for its author by the data it fits or by rating", a.Hotkey.Short()))
			continue
		}
		kept = append(kept, t)
	}
	return kept, copies
}

// author picks one of trials, which ascend by uid. What was not measured fits nothing.
func (v *Validator) author(trials []*trial) *trial {
	fit := func(t *trial) float64 {
		if t.verdict.Status != "" {
			return math.Inf(-1)
		}
		return t.verdict.Z
	}
	best := math.Inf(-1)
	for _, t := range trials {
		best = math.Max(best, fit(t))
	}
	var author *trial
	for _, t := range trials {
		if fit(t) >= best-fitsClearly && (author == nil || v.cfg.Book.Entries[t.Hotkey].Rating > v.cfg.Book.Entries[author.Hotkey].Rating) {
			author = t
		}
	}
	return author
}

func (v *Validator) copied(w chain.Window, t *trial, format string, args ...any) Verdict {
	d := v.rejected(w, &replica.Rejection{Candidate: t.Candidate, Reason: replica.Duplicate, Detail: fmt.Sprintf(format, args...)})
	d.Steps, d.Bytes = t.verdict.Steps, t.verdict.Bytes
	return d
}
