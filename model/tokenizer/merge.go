package tokenizer

import "math/rand/v2"

// noRank is the rank of two symbols that do not merge.
const noRank = 1<<32 - 1

// merges knows for each pair of symbols what it becomes and how early: the learned part of a BPE.
type merges struct {
	made  []int32           // by rank: the id of the result
	first [256 * 256]uint32 // rank of two bytes: what most look-ups of a new word ask for
	byID  [256]int32        // the id of each byte
	slots []pair            // open addressing, at most 2/3 full; the length is a power of two
	shift uint
	mul   uint64 // odd and random: a file cannot be made whose pairs all meet in one slot
}

type pair struct {
	left, right int32 // left -1: empty
	rank        uint32
}

// newMerges has room for n merges.
func newMerges(n int, byID [256]int32) *merges {
	m := &merges{byID: byID, mul: rand.Uint64() | 1, shift: 64 - 4}
	size := 16
	for size < n+n/2 {
		size, m.shift = size*2, m.shift-1
	}
	m.slots = make([]pair, size)
	for i := range m.slots {
		m.slots[i].left = -1
	}
	for i := range m.first {
		m.first[i] = noRank
	}
	return m
}

// add makes the next rank: left and right become made. A pair that comes twice has its last rank, as in the reference.
func (m *merges) add(left, right, made int32) {
	rank := uint32(len(m.made))
	m.made = append(m.made, made)
	i := m.slot(left, right)
	m.slots[i] = pair{left, right, rank}
}

// finish fills the table of byte pairs, after the last add.
func (m *merges) finish() {
	for a := range 256 {
		for b := range 256 {
			m.first[a<<8|b] = m.rank(m.byID[a], m.byID[b])
		}
	}
}

// slot is where the pair stands, or would.
func (m *merges) slot(left, right int32) int {
	i := int(((uint64(uint32(left))<<32 | uint64(uint32(right))) * m.mul) >> m.shift)
	for m.slots[i].left >= 0 && (m.slots[i].left != left || m.slots[i].right != right) {
		i = (i + 1) & (len(m.slots) - 1)
	}
	return i
}

// rank is the rank of a pair, noRank if it does not merge.
func (m *merges) rank(left, right int32) uint32 {
	if s := m.slots[m.slot(left, right)]; s.left >= 0 {
		return s.rank
	}
	return noRank
}

// short is the longest word that is merged by looking for the lowest rank in a row of them; longer ones take the heap.
const short = 64

// merge appends the ids of a word: again and again the two neighbours of the lowest rank become one, the leftmost first.
func (m *merges) merge(dst []int32, word []byte, s *scratch) []int32 {
	if len(word) > short {
		return m.mergeLong(dst, word, s)
	}
	var id [short]int32
	var rank [short]uint32
	n := len(word)
	for i, b := range word {
		id[i] = m.byID[b]
		if i > 0 {
			rank[i-1] = m.first[int(word[i-1])<<8|int(b)]
		}
	}
	for n > 1 {
		best, at := uint32(noRank), 0
		for i, r := range rank[:n-1] {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
			break
		}
		id[at] = m.made[best]
		copy(id[at+1:n-1], id[at+2:n])
		if at+2 < n {
			copy(rank[at+1:n-2], rank[at+2:n-1])
		}
		n--
		if at > 0 {
			rank[at-1] = m.rank(id[at-1], id[at])
		}
		if at+1 < n {
			rank[at] = m.rank(id[at], id[at+1])
		}
	}
	return append(dst, id[:n]...)
}

// scratch is the memory of mergeLong, kept from word to word.
type scratch struct {
	id   []int32  // by byte: of the symbol that begins there, -1: none does
	size []uint32 // at the first and at the last byte of each symbol: how many bytes it has
	heap []uint64 // rank << 32 | first byte of the left symbol; a binary heap, the least at 0
	work int      // steps in the heap, for the test of linear time
}

// mergeLong is merge for words of any length: a heap of candidates over symbols that know both their neighbours, n log n
// steps for n bytes. Candidates are not removed when a neighbour changes; the rank tells the stale ones.
func (m *merges) mergeLong(dst []int32, word []byte, s *scratch) []int32 {
	n := len(word)
	s.start(n)
	for i, b := range word {
		s.id[i], s.size[i] = m.byID[b], 1
		if i > 0 {
			if r := m.first[int(word[i-1])<<8|int(b)]; r != noRank {
				s.heap = append(s.heap, uint64(r)<<32|uint64(i-1))
			}
		}
	}
	for i := len(s.heap)/2 - 1; i >= 0; i-- {
		s.down(i)
	}
	for len(s.heap) > 0 {
		rank, left := uint32(s.heap[0]>>32), int(uint32(s.heap[0]))
		s.pop()
		if s.id[left] < 0 {
			continue
		}
		right := left + int(s.size[left])
		if right == n || m.rank(s.id[left], s.id[right]) != rank {
			continue
		}
		size := s.size[left] + s.size[right]
		s.id[left], s.id[right] = m.made[rank], -1
		s.size[left], s.size[left+int(size)-1] = size, size
		if left > 0 {
			s.push(m, left-int(s.size[left-1]), left)
		}
		if next := left + int(size); next < n {
			s.push(m, left, next)
		}
	}
	for i := 0; i < n; i += int(s.size[i]) {
		dst = append(dst, s.id[i])
	}
	return dst
}

// start makes room for n bytes.
func (s *scratch) start(n int) {
	if cap(s.id) < n {
		s.id, s.size = make([]int32, n), make([]uint32, n)
	}
	s.id, s.size, s.heap = s.id[:n], s.size[:n], s.heap[:0]
}

// trim gives back what a giant word needed.
func (s *scratch) trim() {
	if cap(s.id) > 1<<16 {
		s.id, s.size = nil, nil
	}
	if cap(s.heap) > 1<<16 {
		s.heap = nil
	}
}

// push adds the pair that begins at left if it merges.
func (s *scratch) push(m *merges, left, right int) {
	r := m.rank(s.id[left], s.id[right])
	if r == noRank {
		return
	}
	x := uint64(r)<<32 | uint64(left)
	s.heap = append(s.heap, x)
	i := len(s.heap) - 1
	for i > 0 && s.heap[(i-1)/2] > x {
		s.heap[i] = s.heap[(i-1)/2]
		i = (i - 1) / 2
		s.work++
	}
	s.heap[i] = x
	s.work++
}

// pop removes the least.
func (s *scratch) pop() {
	last := len(s.heap) - 1
	s.heap[0] = s.heap[last]
	s.heap = s.heap[:last]
	s.down(0)
	s.work++
}

// down restores the heap below i.
func (s *scratch) down(i int) {
	if i >= len(s.heap) {
		return
	}
	x := s.heap[i]
	for {
		c := 2*i + 1
		if c >= len(s.heap) {
			break
		}
		if c+1 < len(s.heap) && s.heap[c+1] < s.heap[c] {
			c++
		}
		if s.heap[c] >= x {
			break
		}
		s.heap[i] = s.heap[c]
		i = c
		s.work++
	}
	s.heap[i] = x
}
