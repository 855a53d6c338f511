package data

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"iter"
	"path"
	"slices"
)

// blockSize is the least size of a block when files are too few to be split by.
const blockSize = 16 << 10

// unit is what is either trained on or held out as a whole.
type unit struct {
	name  string
	files []file
	block int // -1: whole files; else the number of the block in the one file
}

// splitter is a way to make units.
type splitter struct {
	name string
	of   func(file) []unit // the units that a file is in
}

func byFolder() splitter {
	return splitter{"folder", func(f file) []unit { return []unit{{path.Dir(f.name), []file{f}, -1}} }}
}

func byFile() splitter {
	return splitter{"file", func(f file) []unit { return []unit{{f.name, []file{f}, -1}} }}
}

func byBlock() splitter {
	return splitter{"block", func(f file) (out []unit) {
		for i := range f.blocks() {
			out = append(out, unit{blockName(f, i), []file{f}, i})
		}
		return out
	}}
}

// blocks is the number of parts a file is cut into when it is split.
func (f file) blocks() int { return int(max(1, f.size/blockSize)) }

func blockName(f file, i int) string { return fmt.Sprintf("%s#%08d", f.name, i) }

// units groups files, in ascending order of SHA-256 of the unit's name.
func (s splitter) units(files []file) []unit {
	var out []unit
	at := map[string]int{}
	for _, f := range files {
		for _, u := range s.of(f) {
			if i, ok := at[u.name]; ok {
				out[i].files = append(out[i].files, f)
				continue
			}
			at[u.name] = len(out)
			out = append(out, u)
		}
	}
	type keyed struct {
		key [32]byte
		unit
	}
	order := make([]keyed, len(out))
	for i, u := range out {
		order[i] = keyed{sha256.Sum256([]byte(u.name)), u}
	}
	slices.SortFunc(order, func(a, b keyed) int { return bytes.Compare(a.key[:], b.key[:]) })
	for i, k := range order {
		out[i] = k.unit
	}
	return out
}

// block is the i-th of n parts of a text, cut at lines where there are any.
func block(text []byte, i, n int) []byte {
	cut := func(i int) int {
		if i == n {
			return len(text)
		}
		at := i * len(text) / n
		if nl := bytes.IndexByte(text[at:], '\n'); at > 0 && nl >= 0 && nl < blockSize/2 {
			return at + nl + 1
		}
		for at < len(text) && text[at]&0xC0 == 0x80 { // not inside a character
			at++
		}
		return at
	}
	from, to := cut(i), cut(i+1)
	return text[min(from, to):to]
}

// tellingLine is the least length of a line that says something about copying: braces and returns are in every file.
const tellingLine = 24

// original drops the held-out documents of which more than half of the telling lines are also in the training text.
func original(held, train []document) (kept []document, dropped int) {
	known := map[uint64]bool{} // telling lines of held: is it in train?
	for _, d := range held {
		for h := range lines(d.text) {
			known[h] = false
		}
	}
	for _, d := range train {
		for h := range lines(d.text) {
			if _, ok := known[h]; ok {
				known[h] = true
			}
		}
	}
	for _, d := range held {
		var all, shared int
		for h := range lines(d.text) {
			all++
			if known[h] {
				shared++
			}
		}
		if 2*shared > all {
			dropped++
			continue
		}
		kept = append(kept, d)
	}
	return kept, dropped
}

// lines yields the 64-bit FNV-1a hash of every telling line.
func lines(text []byte) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for line := range bytes.Lines(text) {
			line = bytes.TrimSpace(line)
			if len(line) < tellingLine {
				continue
			}
			h := uint64(14695981039346656037)
			for _, b := range line {
				h = (h ^ uint64(b)) * 1099511628211
			}
			if !yield(h) {
				return
			}
		}
	}
}
