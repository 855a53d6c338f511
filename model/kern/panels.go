package kern

// Matrix is a factor in the caller's memory: float32 or bfloat16 values, rows LD apart; with T it is used transposed.
type Matrix struct {
	F  []float32
	H  []BF16
	LD int
	T  bool
}

// Panels is op(B) of a product, k×n, packed once for many products by one goroutine: columns in panels as wide as the
// micro-kernel, steps in slices of the same length.
type Panels struct {
	data        []float32
	k, n, slice int
	b           Matrix // for kernels without panels
}

// Part is what Times takes of Panels: the steps of a slice, and N columns from Col on, a multiple of BandUnit; N 0: all that
// follow. Of these, panels of rows need what Cols and Steps say, rounded outwards to multiples of BandUnit.
type Part struct {
	Slice, Col, N int
	Cols, Steps   Band
}

// Band is the columns, or the steps, [From, To) that a panel of rows [r, r+mr) needs where a diagonal cuts: Lower moves From by
// r, Upper moves To by r+mr. The zero Band is all; without Upper, To 0 is the end.
type Band struct {
	From, To     int
	Lower, Upper bool
}

// BandUnit is what bands are rounded to.
const BandUnit = 32

// of is the band of rows [r, r+mr), rounded, within [0, end).
func (b Band) of(r, mr, end int) (from, to int) {
	from, to = b.From, end
	if b.Lower {
		from += r
	}
	if b.Upper {
		to = max(0, b.To+r+mr)
	} else if b.To > 0 {
		to = b.To
	}
	return max(0, from) &^ (BandUnit - 1), min(end, ceil(to, BandUnit)*BandUnit)
}

// PanelRows is how many rows of A a micro-kernel takes together.
func (k *Kernels) PanelRows(bf16 bool) int {
	if k.level == portable {
		return portableRows
	}
	return k.shape(bf16).mr
}

const portableRows = 56

// PanelsSize is how much memory Pack takes, in float32 values.
func (k *Kernels) PanelsSize(bf16 bool, kk, n, slice int) int {
	if k.level == portable {
		return 0
	}
	s := k.shape(bf16)
	return ceil(n, s.nr) * s.nr * (kk/slice*s.steps(slice) + s.steps(kk%slice))
}

// steps is how many steps k values of a line are.
func (s shape) steps(k int) int { return ceil(ceil(k, s.per), s.unit) * s.unit }

// Pack makes p the factor b, k×n, in slices of slice steps, an even number. The memory of b must stay as it is while p is used.
func (x *Mul) Pack(p *Panels, b Matrix, k, n, slice int) {
	reach(max(len(b.F), len(b.H)), b.LD, k, n, b.T)
	p.k, p.n, p.slice, p.b = k, n, slice, b
	if x.K.level == portable {
		return
	}
	x.shape, x.b = x.K.shape(b.H != nil), operand{b.F, b.H, b.LD, !b.T}
	np := ceil(n, x.nr)
	p.data = grow(p.data, x.K.PanelsSize(b.H != nil, k, n, slice))
	for from, at := 0, 0; from < k; from += slice {
		x.values = min(k, from+slice)
		steps := x.steps(x.values - from)
		x.pack(side{&x.b, x.nr, 0, n, np}, 0, np, from/x.per, steps, p.data[at:])
		at += np * x.nr * steps
	}
	x.forget()
}

// Times computes C = op(A)·B, or adds to C, on the goroutine that calls it: A has m rows and the slice's steps, B is the part of
// p. Columns outside of their band are left as they are, steps outside of theirs do not count. C has room for whole tiles: m up
// to a multiple of PanelRows rows, and a multiple of BandUnit columns.
func (x *Mul) Times(a Matrix, m int, p *Panels, part Part, c []float32, ldc int, acc bool) {
	x.times(x.K.shape(a.H != nil), a, m, p, part, c, ldc, acc)
}

func (x *Mul) times(by shape, a Matrix, m int, p *Panels, part Part, c []float32, ldc int, acc bool) {
	s, col := part.Slice, part.Col
	k, cols := min(p.slice, p.k-s*p.slice), p.n-col
	if part.N > 0 {
		cols = min(cols, part.N)
	}
	if x.K.level == portable {
		x.timesPortable(a, m, p, part, k, cols, c, ldc, acc)
		return
	}
	reach(max(len(a.F), len(a.H)), a.LD, m, k, a.T)
	x.shape, x.a, x.values = by, operand{a.F, a.H, a.LD, a.T}, k
	x.m, x.mp, x.unpacked = m, ceil(m, x.mr), 0
	if x.readable() {
		x.unpacked = m / x.mr
	}
	n, np := x.steps(k), ceil(p.n, x.nr)
	_ = c[(x.mp*x.mr-1)*ldc]
	if len(x.own) == 0 {
		x.own = append(x.own, own{})
	}
	w := &x.own[0]
	w.part = grow(w.part, x.mr*n)
	b := p.data[s*x.steps(p.slice)*np*x.nr:][:n*np*x.nr]
	add := 0
	if acc {
		add = 1
	}
	for r := 0; r < m; r += x.mr {
		from, to := part.Steps.of(r, x.mr, k)
		f, count := from/x.per, x.steps(to-from)
		c0, c1 := part.Cols.of(r, x.mr, cols)
		if count <= 0 || c0 >= c1 {
			zero(c, r, min(r+x.mr, m), c0, c1, ldc, acc)
			continue
		}
		packed := r >= x.unpacked*x.mr
		if packed {
			x.pack(side{&x.a, x.mr, 0, x.m, x.mp}, r/x.mr, r/x.mr+1, f, count, w.part)
		}
		for j := c0; j < c1; j += x.nr {
			pb, to := &b[(col+j)*n+f*x.nr], &c[r*ldc+j:][:(x.mr-1)*ldc+x.nr][0]
			if packed {
				x.kernel(count, &w.part[0], pb, to, ldc*4, add)
			} else {
				x.lies()(count, x.a.at(r, from), pb, to, ldc*4, add, x.a.ld*4/x.per)
			}
		}
	}
	x.forget()
}

// timesPortable is Times by gonum, a few rows at a time.
func (x *Mul) timesPortable(a Matrix, m int, p *Panels, part Part, k, cols int, c []float32, ldc int, acc bool) {
	for r := 0; r < m; r += portableRows {
		from, to := part.Steps.of(r, portableRows, k)
		c0, c1 := part.Cols.of(r, portableRows, cols)
		if from < to && c0 < c1 {
			gemmPortable(1, a.T, p.b.T, min(portableRows, m-r), c1-c0, to-from, at(a.T, a.F, a.LD, r, from), a.LD,
				at(p.b.T, p.b.F, p.b.LD, part.Slice*p.slice+from, part.Col+c0), p.b.LD, c[r*ldc+c0:], ldc, acc)
			continue
		}
		zero(c, r, min(r+portableRows, m), c0, c1, ldc, acc)
	}
}

// zero settles rows [r, end) of C, columns [c0, c1), for which there are no steps.
func zero(c []float32, r, end, c0, c1, ldc int, acc bool) {
	for ; !acc && c0 < c1 && r < end; r++ {
		clear(c[r*ldc+c0 : r*ldc+c1])
	}
}
