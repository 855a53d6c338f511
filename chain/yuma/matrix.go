package yuma

import (
	"cmp"
	"slices"
)

// cell is one entry of a sparse row.
type cell struct {
	at int32
	v  fixed
}

// matrix is n sparse rows, one after the other. A row keeps the order in which it was stored; uids need not ascend.
type matrix struct {
	cells []cell
	ends  []int // of each finished row
}

func newMatrix(n, cells int) matrix { return matrix{make([]cell, 0, cells), make([]int, 0, n)} }

func (m *matrix) put(at int32, v fixed) { m.cells = append(m.cells, cell{at, v}) }
func (m *matrix) endRow()               { m.ends = append(m.ends, len(m.cells)) }

// start is where row i begins.
func (m *matrix) start(i int) int {
	if i == 0 {
		return 0
	}
	return m.ends[i-1]
}

func (m *matrix) row(i int) []cell { return m.cells[m.start(i):m.ends[i]] }

func (m *matrix) clone() matrix { return matrix{slices.Clone(m.cells), m.ends} }

// times is Σ_i by_i · m_ij for every column j.
func (m *matrix) times(by []fixed) []fixed {
	out := make([]fixed, len(by))
	for i, a := range by {
		if a == 0 {
			continue
		}
		for _, c := range m.row(i) {
			out[c.at] = out[c.at].add(a.mul(c.v))
		}
	}
	return out
}

// scaleRows multiplies row i by by_i.
func (m *matrix) scaleRows(by []fixed) {
	for i, a := range by {
		row := m.row(i)
		for k, c := range row {
			row[k].v = c.v.mul(a)
		}
	}
}

// normaliseColumns divides every column by its sum, if it has one.
func (m *matrix) normaliseColumns() {
	total := make([]fixed, len(m.ends))
	for _, c := range m.cells {
		total[c.at] = total[c.at].add(c.v)
	}
	m.divideColumns(total)
}

// upscaleColumns divides every column by its maximum.
func (m *matrix) upscaleColumns() {
	top := make([]fixed, len(m.ends))
	for _, c := range m.cells {
		top[c.at] = max(top[c.at], c.v)
	}
	m.divideColumns(top)
}

func (m *matrix) divideColumns(by []fixed) {
	for k, c := range m.cells {
		if by[c.at] != 0 {
			m.cells[k].v = c.v.div(by[c.at])
		}
	}
}

func strictlyAscending(row []cell) bool {
	for k := 1; k < len(row); k++ {
		if row[k-1].at >= row[k].at {
			return false
		}
	}
	return true
}

// ascending is the row by ascending uids, the row itself if it is so; entries of one uid keep their order.
func ascending(row []cell) []cell {
	if strictlyAscending(row) {
		return row
	}
	row = slices.Clone(row)
	slices.SortStableFunc(row, func(a, b cell) int { return cmp.Compare(a.at, b.at) })
	return row
}

// blend is a·x + (1−a)·y: entries above 0, by ascending uids.
func blend(a fixed, x, y matrix) matrix {
	rest := one.sub(a)
	n := len(x.ends)
	out := newMatrix(n, max(len(x.cells), len(y.cells)))
	for i := range n {
		p, q := ascending(x.row(i)), ascending(y.row(i))
		for len(p) > 0 || len(q) > 0 {
			at := firstUID(p, q)
			var v fixed
			for ; len(p) > 0 && p[0].at == at; p = p[1:] {
				v = v.add(a.mul(p[0].v))
			}
			for ; len(q) > 0 && q[0].at == at; q = q[1:] {
				v = v.add(rest.mul(q[0].v))
			}
			if v > 0 {
				out.put(at, v)
			}
		}
		out.endRow()
	}
	return out
}

// firstUID is the smaller uid of two rows of which one has an entry.
func firstUID(p, q []cell) int32 {
	switch {
	case len(p) == 0:
		return q[0].at
	case len(q) == 0:
		return p[0].at
	}
	return min(p[0].at, q[0].at)
}
