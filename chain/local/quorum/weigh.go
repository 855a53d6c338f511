package quorum

import (
	"fmt"
	"slices"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// kind is what came back of a question.
type kind uint8

const (
	silent kind = iota // no answer, or one that is none
	said               // a value
	late               // not there yet: the node is behind
	gone               // the node no longer has it
)

// word is what one node said on a subject.
type word struct {
	from   int
	kind   kind
	value  string
	height chain.Block // of a node that is late with a head
	old    bool        // its newest block was made long ago
}

// outcome is the verdict on a subject.
type outcome uint8

const (
	nothing  outcome = iota // nobody knows
	accepted                // no contradiction, or a majority decided
	disputed                // contradiction without a majority
	ahead                   // as many nodes are not there yet as have it
	waiting                 // most nodes are not there yet
)

// dispute is a contradiction that is not decided. Words are the last ones of each party.
type dispute struct {
	s     subject
	words map[int]string
}

// weigh judges one subject by what nodes said of it, and returns the accepted value. Steps:
func (b *book) weigh(s subject, words []word, now time.Time) (outcome, string) {
	block, head := s.head()
	if head { // 1. learn who has which block
		for _, w := range words {
			switch w.kind {
			case said:
				b.has(w.from, block, block, now)
			case late:
				b.has(w.from, w.height, block, now)
			}
		}
		b.stand(block, words, now)
	}
	votes, behind := b.count(words) // 2. count the voices of who is not set aside
	top := first(votes)
	switch { // 3. decide
	case top == "":
		return nothing, ""
	case votes[top] >= b.majority():
	case len(votes) > 1:
		b.argue(s, words)
		return disputed, ""
	case behind >= b.majority():
		if head {
			b.overhaul(block, words, now)
		}
		return waiting, ""
	case !head && behind >= votes[top]:
		return ahead, ""
	case b.contradicted(s, words):
		return disputed, ""
	}
	b.settle(s, top, words, now) // 4. set aside who said something else, listen again to who agrees
	if head {
		b.checked, b.compared = block, now
		if b.accepted != nil {
			b.accepted(block, top)
		}
	}
	return accepted, top
}

// first is the value with most voices; "" if there is none.
func first(votes map[string]int) (top string) {
	for v, n := range votes {
		if n > votes[top] || n == votes[top] && v < top {
			top = v
		}
	}
	return top
}

// decided says whether nobody who has not spoken yet can change the verdict.
func (b *book) decided(words []word) bool {
	votes, behind := b.count(words)
	return max(votes[first(votes)], behind) >= b.majority()
}

// common is the verdict on what belongs to whatever block a node is at: a majority's value, or that of all who speak and are
// not stale. Nobody is accused, since nodes may be a block apart.
func (b *book) common(words []word) (outcome, string) {
	votes, _ := b.count(slices.DeleteFunc(slices.Clone(words), func(w word) bool { return b.peers[w.from].stale }))
	switch top := first(votes); {
	case top == "":
		return nothing, ""
	case votes[top] >= b.majority(), len(votes) == 1:
		return accepted, top
	}
	return disputed, ""
}

// count is the number of voices for each value, and of nodes that are not there yet without being stale.
func (b *book) count(words []word) (votes map[string]int, behind int) {
	votes = map[string]int{}
	for _, w := range words {
		p := &b.peers[w.from]
		switch {
		case p.aside:
		case w.kind == said:
			votes[w.value]++
		case w.kind == late && !p.stale:
			behind++
		}
	}
	return votes, behind
}

// overhaul sets aside who claims a block that most nodes, which are on their way, will reach much later.
func (b *book) overhaul(block chain.Block, words []word, now time.Time) {
	moving := 0
	for _, w := range words {
		if p := &b.peers[w.from]; w.kind == late && !p.aside && !p.stale && p.rises > 0 && p.height+lag < block {
			moving++
		}
	}
	if moving < b.majority() {
		return
	}
	for _, w := range words {
		if w.kind == said && !b.peers[w.from].aside {
			b.setAside(w.from, now, fmt.Sprintf("it claims block %d, most nodes are %d or more blocks before it", block, lag))
		}
	}
}

// settle ends what was open on a subject.
func (b *book) settle(s subject, value string, words []word, now time.Time) {
	told := map[int]bool{}
	for _, w := range words {
		if w.kind != said {
			continue
		}
		p := &b.peers[w.from]
		told[w.from] = true
		why := fmt.Sprintf("it says %s of %s, the majority %s", short(w.value), s, short(value))
		switch {
		case w.value != value && p.aside: // again
			p.trials++
			p.trial = now.Add(min(firstAside<<min(p.trials-1, 10), lastAside))
		case w.value != value:
			b.setAside(w.from, now, why)
		case p.aside && !now.Before(p.trial):
			p.aside = false
			b.note(Back, p.name, fmt.Sprintf("it agrees on %s", s))
		}
	}
	d := b.find(s)
	if d < 0 {
		return
	}
	b.absent(b.disputes[d], value, words, told, now)
	b.disputes = append(b.disputes[:d], b.disputes[d+1:]...)
	if len(b.disputes) == 0 {
		b.note(Settled, "", fmt.Sprintf("chain nodes agree again, on %s; signing goes on", s))
	}
}

// absent judges the parties of a decided dispute that are silent now: who contradicted one of the winners lost.
func (b *book) absent(d dispute, value string, words []word, told map[int]bool, now time.Time) {
	right := map[string]bool{}
	for _, w := range words {
		if old, party := d.words[w.from]; party && w.kind == said && w.value == value {
			right[old] = true
		}
	}
	if len(right) == 0 {
		return
	}
	for i := range b.peers {
		if old, party := d.words[i]; party && !told[i] && !right[old] && !b.peers[i].aside {
			b.setAside(i, now, fmt.Sprintf("it said %s of %s, the majority something else", short(old), d.s))
		}
	}
}

// contradicted says whether a party of an open dispute on this subject has not taken back its word.
func (b *book) contradicted(s subject, words []word) bool {
	d := b.find(s)
	if d < 0 {
		return false
	}
	for i := range b.disputes[d].words {
		back := b.peers[i].aside
		for _, w := range words {
			back = back || w.from == i && w.kind == said // all voices are equal here
		}
		if !back {
			return true
		}
	}
	return false
}

// argue opens a dispute, or notes what its parties say now.
func (b *book) argue(s subject, words []word) {
	at := b.find(s)
	first := len(b.disputes) == 0
	if at < 0 {
		if len(b.disputes) >= maxDisputes {
			return // signing is paused already
		}
		at = len(b.disputes)
		b.disputes = append(b.disputes, dispute{words: map[int]string{}})
	}
	d := &b.disputes[at]
	d.s = s
	for _, w := range words {
		if w.kind == said && !b.peers[w.from].aside {
			d.words[w.from] = w.value
		}
	}
	if first {
		b.note(Disputed, "", b.err().Error())
	}
}

// maxDisputes bounds the open disputes: one is enough to pause.
const maxDisputes = 8

// find is the index of the dispute on a subject; all heads are one subject, since a later block settles an earlier one.
func (b *book) find(s subject) int {
	for i, d := range b.disputes {
		if d.s == s || d.s.name == local.QueryHead && s.name == local.QueryHead {
			return i
		}
	}
	return -1
}

// outlived is called for a subject that no node has any more: heads decide whether its parties agree now.
func (b *book) outlived(s subject) {
	at := b.find(s)
	if at < 0 || s.name == local.QueryHead {
		return
	}
	d := b.disputes[at]
	d.s = headOf(0)
	if b.find(d.s) >= 0 {
		b.disputes = append(b.disputes[:at], b.disputes[at+1:]...)
		return
	}
	b.disputes[at] = d
}

// open are the subjects in dispute.
func (b *book) open() []subject {
	var out []subject
	for _, d := range b.disputes {
		out = append(out, d.s)
	}
	return out
}

// err is the oldest dispute as an error; nil if there is none.
func (b *book) err() error {
	if len(b.disputes) == 0 {
		return nil
	}
	d := b.disputes[0]
	return &DisputedError{Subject: d.s.String(), Sides: sides(func(i int) string { return b.peers[i].name }, d.words)}
}

func short(v string) string { return v[:min(len(v), 8)] }
