package kern

import "unsafe"

// Mul computes matrix products for one owner, one at a time, with its own packed memory. Set K and Threads before use.
//
// Both operands are packed into panels and a micro-kernel runs over blocks of C that stay in the L2 cache (Goto & van de
// Geijn, ACM TOMS 34(3), 2008). Every element of C sums its steps in the same order, kc at a time in registers, so that the
// result does not depend on threads or on how C is cut.
type Mul struct {
	K       *Kernels
	Threads int

	team Team
	pa   []float32 // packed A of the current region: panels of mr lines, by slices of kc steps
	pb   []float32

	edges []float32 // a whole tile for every block of C, for those that reach beyond it

	shape
	a, b           operand
	values         int // of a line of op(A): k, of which a step takes one or two
	c              []float32
	ldc, m, n      int // ldc and the size of C
	acc            bool
	m0, n0, k0, kk int // region: first row and column of C, first step and steps
	mp, np         int // panels in the region
	bi, bj         int // blocks of C in the region
	unpacked       int // panels of A that are read as they lie
	packing        int // 0: blocks; else: pieces of B that are packed before those of A, plus one
}

// operand is one factor: f or h. Along says that the lines of a step lie side by side in memory, else the steps of a line do.
// Lines are rows of op(A) and columns of op(B).
type operand struct {
	f     []float32
	h     []BF16
	ld    int
	along bool
}

// shape of a micro-kernel: mr×nr of C, kc steps at a time, so that a panel of B fills two thirds of the L1 cache. A step is per
// values of k, and comes in blocks of unit.
type shape struct {
	mr, nr, kc int
	per, unit  int
	kernel     func(k int, a, b, c *float32, ldcBytes int, acc int)
	rows       func(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int) // A as it lies in memory; nil: there is none
}

// shape is the micro-kernel for float32, or for bfloat16 operands.
func (k *Kernels) shape(bf16 bool) shape {
	switch {
	case bf16 && k.half == amx:
		return shape{32, 32, 512, 2, 16, kernAMX, nil}
	case bf16:
		return shape{14, 32, 256, 2, 1, kernBF14x32, kernBF14x32Rows}
	case k.level == avx512:
		return shape{14, 32, 256, 1, 1, kern14x32, kern14x32Rows}
	}
	return shape{6, 16, 256, 1, 1, kern6x16, nil}
}

const (
	region    = 4 << 20 // most values of a packed operand
	group     = 8       // panels that one goroutine packs together: of lines along memory,
	wideGroup = 16      // of lines side by side,
	subRows   = 16      // so many rows of them at a time
)

// F32 computes C = op(A)·op(B), or adds to C with acc; row-major with leading dimensions. op(A) is m×k, op(B) k×n. Slices
// that are too short are an index out of range.
func (x *Mul) F32(tA, tB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	if !begin(m, n, k, c, ldc, acc) {
		return
	}
	reach(len(a), lda, m, k, tA)
	reach(len(b), ldb, k, n, tB)
	if x.K.level == portable {
		gemmPortable(x.Threads, tA, tB, m, n, k, a, lda, b, ldb, c, ldc, acc)
		return
	}
	x.shape = x.K.shape(false)
	x.a, x.b = operand{f: a, ld: lda, along: tA}, operand{f: b, ld: ldb, along: !tB}
	x.run(m, n, k, c, ldc, acc)
	x.a, x.b, x.c = operand{}, operand{}, nil
}

// BF16 is F32 with operands in bfloat16; sums are float32. Only for kernels that have it: see Kernels.Half.
func (x *Mul) BF16(tA, tB bool, m, n, k int, a []BF16, lda int, b []BF16, ldb int, c []float32, ldc int, acc bool) {
	x.bf16(x.K.shape(true), tA, tB, m, n, k, a, lda, b, ldb, c, ldc, acc)
}

func (x *Mul) bf16(s shape, tA, tB bool, m, n, k int, a []BF16, lda int, b []BF16, ldb int, c []float32, ldc int, acc bool) {
	if !begin(m, n, k, c, ldc, acc) {
		return
	}
	reach(len(a), lda, m, k, tA)
	reach(len(b), ldb, k, n, tB)
	x.shape = s
	x.a, x.b = operand{h: a, ld: lda, along: tA}, operand{h: b, ld: ldb, along: !tB}
	x.run(m, n, k, c, ldc, acc)
	x.a, x.b, x.c = operand{}, operand{}, nil
}

// begin checks C, which the assembly does not, and settles products without steps; false: nothing is left to do.
func begin(m, n, k int, c []float32, ldc int, acc bool) bool {
	if m == 0 || n == 0 {
		return false
	}
	_ = c[(m-1)*ldc+n-1]
	for i := 0; k == 0 && !acc && i < m; i++ {
		clear(c[i*ldc : i*ldc+n])
	}
	return k > 0
}

// reach panics if a matrix of rows×cols, or its transpose, does not fit.
func reach(have, ld, rows, cols int, transposed bool) {
	if transposed {
		rows, cols = cols, rows
	}
	_ = make([]struct{}, have)[(rows-1)*ld+cols-1]
}

// run cuts the product into regions whose packed operands are bounded, and computes them one after the other.
func (x *Mul) run(m, n, k int, c []float32, ldc int, acc bool) {
	x.c, x.ldc, x.m, x.n, x.values = c, ldc, m, n, k
	steps := ceil(ceil(k, x.per), x.unit) * x.unit
	kk, mm, nn := x.cut(k)
	for x.k0 = 0; x.k0 < steps; x.k0 += kk {
		x.kk, x.acc = min(kk, steps-x.k0), acc || x.k0 > 0
		for x.n0 = 0; x.n0 < n; x.n0 += nn {
			x.np = ceil(min(nn, n-x.n0), x.nr)
			for x.m0 = 0; x.m0 < m; x.m0 += mm {
				x.mp = ceil(min(mm, m-x.m0), x.mr)
				x.region()
			}
		}
	}
}

func ceil(n, unit int) int { return (n + unit - 1) / unit }

// region packs and computes C[m0.., n0..] over steps [k0, k0+kk).
func (x *Mul) region() {
	x.pa, x.pb = grow(x.pa, x.mp*x.mr*x.kk), grow(x.pb, x.np*x.nr*x.kk)
	x.unpacked = 0
	if x.readable() {
		x.unpacked = min(x.m-x.m0, x.mp*x.mr) / x.mr // all but a last one that is not whole
	}
	x.packing = 1
	if x.m0 == 0 {
		x.packing += x.pieces(&x.b, x.np)
	}
	x.team.Do(x.Threads, x.packing-1+x.pieces(&x.a, x.mp-x.unpacked), x)
	x.packing = 0
	x.bi, x.bj = blocks(x.mp, blockRows/x.mr, x.Threads), ceil(x.np, blockCols/x.nr)
	x.edges = grow(x.edges, x.bi*x.bj*x.mr*x.nr)
	x.team.Do(x.Threads, x.bi*x.bj, x)
}

// readable says whether the micro-kernel reads A as it lies: its lines along memory, whole steps, and lines not so far apart
// that they meet in the same sets of the L1 cache.
func (x *Mul) readable() bool {
	bytes := x.a.ld * 4 / x.per
	return x.rows != nil && !x.a.along && x.values%x.per == 0 && bytes%2048 != 0
}

// pieces is how many tasks the packing of panels is: lines along memory, some panels at a time; lines side by side, more panels
// and one slice of steps at a time, so that long parts of few rows are read.
func (x *Mul) pieces(o *operand, panels int) int {
	if o.along {
		return ceil(panels, wideGroup) * ceil(x.kk, x.kc)
	}
	return ceil(panels, group)
}

// A block of C and the panels it needs fit the L2 cache.
const blockRows, blockCols = 168, 256

// blocks is how many parts panels are cut into: at most size each, and as many as keep all threads busy.
func blocks(panels, size, threads int) int {
	n := ceil(panels, size)
	if threads > 1 {
		n = ceil(max(n, 4*threads), threads) * threads
	}
	return min(n, panels)
}

func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return Alloc[float32](n)
	}
	return s[:n]
}

// Run implements Task.
func (x *Mul) Run(i int) {
	switch nb := x.packing - 1; {
	case nb < 0:
		x.block(i%x.bi, i/x.bi)
	case i < nb:
		x.pack(&x.b, x.nr, x.n0, x.n, x.pb, i, 0, x.np)
	default:
		x.pack(&x.a, x.mr, x.m0, x.m, x.pa, i-nb, x.unpacked, x.mp)
	}
}

// pack does piece i of the panels [first, panels) of o, which has lines up to end and whose panel 0 starts at line.
func (x *Mul) pack(o *operand, width, line, end int, dst []float32, i, first, panels int) {
	from, to, p0, p1 := 0, x.kk, first+i*group, first+(i+1)*group
	if o.along {
		slices := ceil(x.kk, x.kc)
		from = i % slices * x.kc
		to, p0, p1 = min(from+x.kc, x.kk), first+i/slices*wideGroup, first+(i/slices+1)*wideGroup
	}
	for s := from; s < to; s += x.kc {
		n := min(x.kc, x.kk-s)
		sub := n
		if o.along {
			sub = subRows
		}
		for k := 0; k < n; k += sub {
			for p := p0; p < min(p1, panels); p++ {
				at := line + p*width
				x.slice(o, width, at, min(width, end-at), x.k0+s+k, min(sub, n-k), dst[s*panels*width+p*width*n+k*width:])
			}
		}
	}
}

// block computes block (i,j) of the region.
func (x *Mul) block(i, j int) {
	i0, i1 := i*x.mp/x.bi, (i+1)*x.mp/x.bi
	j0, j1 := j*x.np/x.bj, (j+1)*x.np/x.bj
	edge := x.edges[(j*x.bi+i)*x.mr*x.nr:]
	for s := 0; s < x.kk; s += x.kc {
		n := min(x.kc, x.kk-s)
		acc := 0
		if x.acc || s > 0 {
			acc = 1
		}
		for q := j0; q < j1; q++ {
			col := x.n0 + q*x.nr
			pb := &x.pb[s*x.np*x.nr+q*x.nr*n]
			for p := i0; p < i1; p++ {
				row := x.m0 + p*x.mr
				c := x.c[row*x.ldc+col:]
				whole := row+x.mr <= x.m && col+x.nr <= x.n
				to, ldc, add := &c[0], x.ldc*4, acc
				if !whole {
					to, ldc, add = &edge[0], x.nr*4, 0
				}
				if p < x.unpacked {
					x.rows(n, x.a.at(row, (x.k0+s)*x.per), pb, to, ldc, add, x.a.ld*4/x.per)
				} else {
					x.kernel(n, &x.pa[s*x.mp*x.mr+p*x.mr*n], pb, to, ldc, add)
				}
				if !whole {
					x.store(c, edge, min(x.mr, x.m-row), min(x.nr, x.n-col), acc)
				}
			}
		}
	}
}

// store copies or adds the part of a tile that exists.
func (x *Mul) store(c, tile []float32, rows, cols, acc int) {
	for r := range rows {
		row, from := c[r*x.ldc:r*x.ldc+cols], tile[r*x.nr:]
		if acc == 0 {
			copy(row, from)
			continue
		}
		for i := range row {
			row[i] += from[i]
		}
	}
}

// at is value k of a line that lies along memory.
func (o *operand) at(line, k int) *float32 {
	if o.h != nil {
		return (*float32)(unsafe.Pointer(&o.h[line*o.ld+k]))
	}
	return &o.f[line*o.ld+k]
}

// Sizes says how much packed memory a Mul takes for the products it is used for.
type Sizes struct{ a, b int }

// Add counts a product of m×k and k×n, with operands in bfloat16 or float32.
func (s *Sizes) Add(k *Kernels, bf16 bool, m, n, kk int) {
	if k.level == portable {
		return
	}
	x := k.shape(bf16)
	steps, mm, nn := x.cut(kk)
	s.a = max(s.a, ceil(min(m, mm), x.mr)*x.mr*steps)
	s.b = max(s.b, ceil(min(n, nn), x.nr)*x.nr*steps)
}

// Values is the number of float32 values.
func (s *Sizes) Values() int64 { return int64(s.a + s.b) }

// cut is the extent of a region of a product with k values a line: steps, rows and columns of C.
func (s shape) cut(k int) (steps, rows, cols int) {
	steps = min(ceil(ceil(k, s.per), s.unit)*s.unit, 16*s.kc)
	return steps, max(region/steps/s.mr, 1) * s.mr, max(region/steps/s.nr, 1) * s.nr
}
