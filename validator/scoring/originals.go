package scoring

import (
	"fmt"

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

// authors leaves one of those that sent the same payload in the same block: the one to whose assigned data it fits best. The
// payload was made from one assignment only, and who copies it cannot choose another; keeping none, the lower hotkey or the
// older seat would let a copier remove an honest miner.
func (v *Validator) authors(w chain.Window, trials []*trial) (kept []*trial, copies []Verdict) {
	author := map[chain.Hash]*trial{}
	for _, t := range trials {
		if a := author[t.Manifest.Payload]; a == nil || fits(t, a) {
			author[t.Manifest.Payload] = t
		}
	}
	for _, t := range trials {
		if a := author[t.Manifest.Payload]; a != t {
			copies = append(copies, v.copied(w, t, "%s sent the same payload in the same block, and it fits the data assigned to that one better", a.Hotkey.Short()))
			continue
		}
		kept = append(kept, t)
	}
	return kept, copies
}

// fits says whether a payload shows more of t's assigned data than of o's. What was not measured shows nothing; equals go
// by uid, which trials ascend in.
func fits(t, o *trial) bool {
	if t.verdict.Status != "" || o.verdict.Status != "" {
		return t.verdict.Status == "" && o.verdict.Status != ""
	}
	return t.verdict.Z > o.verdict.Z
}

func (v *Validator) copied(w chain.Window, t *trial, format string, args ...any) Verdict {
	d := v.rejected(w, &replica.Rejection{Candidate: t.Candidate, Reason: replica.Duplicate, Detail: fmt.Sprintf(format, args...)})
	d.Steps, d.Bytes = t.verdict.Steps, t.verdict.Bytes
	return d
}
