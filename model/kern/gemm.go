package kern

import "unsafe"

// Mul computes matrix products for one owner, one at a time, with its own packed memory. Set K and Threads before use.
//
// B is packed into panels; then every worker takes rows of C, packs the panels of A that they need into its own L2 cache, unless
// they can be read as they lie, and runs a micro-kernel over them (Goto & van de Geijn, ACM TOMS 34(3), 2008). Where C is wide
// it is the other way round: A is packed for all, and a worker takes columns and packs their panels of B. Every element of C
// sums its steps in the same order, kc at a time in registers, so that the result does not depend on threads or on how C is cut.
type Mul struct {
	K       *Kernels
	Threads int

	team Team
	all  []float32 // packed for all workers, by slices of kc steps: B of the current region, or A
	own  []own     // by worker
	lent []float32 // rows of C for each, where that is not one region
	give give

	shape
	a, b       operand
	values     int // of a line of op(A): k, of which a step takes one or two
	c          []float32
	ldc, m, n  int // ldc and the size of C
	acc        bool
	each       Rows // who takes C, row by row; c may then be nil
	n0, k0, kk int  // region: first column of C, first step and steps
	mp, np     int  // panels of A, and those of B in the region
	unpacked   int  // panels of A that are read as they lie
	most       int  // panels of A at once, or of B
	byCols     bool // A is packed for all, workers take panels of B
	packing    bool
}

// own is the memory of one worker.
type own struct {
	part []float32 // packed A of a block, or B: panels and one slice of steps
	tile []float32 // a whole tile, for those that reach beyond C
	c    []float32 // a block of C for each
}

// operand is one factor: f or h. Along says that the lines of a step lie side by side in memory, else the steps of a line do.
// Lines are rows of op(A) and columns of op(B).
type operand struct {
	f     []float32
	h     []BF16
	ld    int
	along bool
}

// shape of a micro-kernel: mr×nr of C, kc steps at a time; more steps touch C more seldom, and a panel of B may stream from the L2
// cache (256 to 768 measured, LOG.md). A step is per values of k, and comes in blocks of unit.
type shape struct {
	mr, nr, kc int
	per, unit  int
	kernel     func(k int, a, b, c *float32, ldcBytes int, acc int)
	rows, cols func(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int) // A as it lies, across or along; nil: there is none
}

// shape is the micro-kernel for float32, or for bfloat16 operands.
func (k *Kernels) shape(bf16 bool) shape {
	switch {
	case bf16 && k.half == amx:
		return shape{32, 32, 512, 2, 16, kernAMX, nil, nil}
	case bf16:
		return shape{14, 32, 512, 2, 1, kernBF14x32, kernBF14x32Rows, nil}
	case k.level == avx512:
		return shape{14, 32, 512, 1, 1, kern14x32, kern14x32Rows, kern14x32Cols}
	}
	return shape{6, 16, 256, 1, 1, kern6x16, nil, nil}
}

const (
	region    = 4 << 20 // most values of packed B
	group     = 8       // panels of B that one goroutine packs together: of lines along memory,
	wideGroup = 16      // of lines side by side,
	subRows   = 8       // so many rows of them at a time
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
	x.forget()
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
	x.forget()
}

// forget drops the caller's memory.
func (x *Mul) forget() { x.a, x.b, x.c, x.each = operand{}, operand{}, nil, nil }

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

// run cuts the product into regions whose packed B is bounded, and computes them one after the other.
func (x *Mul) run(m, n, k int, c []float32, ldc int, acc bool) {
	x.c, x.ldc, x.m, x.n, x.values = c, ldc, m, n, k
	x.mp, x.unpacked = ceil(m, x.mr), 0
	if x.readable() {
		x.unpacked = m / x.mr // all but a last one that is not whole
	}
	steps := x.steps(k)
	kk, nn := x.cut(k)
	if x.byCols = x.each == nil && x.wide(m, n, kk, x.unpacked > 0, x.Threads); x.byCols {
		nn = n
	}
	for x.k0 = 0; x.k0 < steps; x.k0 += kk {
		x.kk, x.acc = min(kk, steps-x.k0), acc || x.k0 > 0
		for x.n0 = 0; x.n0 < n; x.n0 += nn {
			x.np = ceil(min(nn, n-x.n0), x.nr)
			x.region()
		}
	}
}

func ceil(n, unit int) int { return (n + unit - 1) / unit }

// readable says whether the micro-kernel reads A as it lies: whole steps, and rows not so far apart that they meet in the same
// sets of the L1 cache, or of the L2 cache where all steps of a slice do.
func (x *Mul) readable() bool {
	bytes := x.a.ld * 4 / x.per
	if x.a.along {
		return x.cols != nil && bytes%4096 != 0
	}
	return x.rows != nil && x.values%x.per == 0 && bytes%2048 != 0
}

// lies is the micro-kernel for it.
func (x *Mul) lies() func(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int) {
	if x.a.along {
		return x.cols
	}
	return x.rows
}

// region computes C[.., n0..] over steps [k0, k0+kk).
func (x *Mul) region() {
	units, width := x.mp, x.mr
	x.most = x.rowPanels(x.mp, x.np, x.each != nil && x.c == nil)
	if x.byCols {
		units, width, x.most = x.np, x.nr, min(x.np, blockCols/x.nr)
	}
	x.all = grow(x.all, x.shared().panels*x.shared().width*x.kk)
	x.packing = true
	x.team.Do(x.Threads, x.pieces(), 1, x)
	x.packing = false
	workers := max(1, min(x.Threads, units))
	for len(x.own) < workers {
		x.own = append(x.own, own{})
	}
	for w := range x.own[:workers] {
		x.own[w].part = grow(x.own[w].part, x.most*width*min(x.kc, x.kk))
		x.own[w].tile = grow(x.own[w].tile, x.mr*x.nr)
		if x.each != nil && x.c == nil {
			x.own[w].c = grow(x.own[w].c, x.most*x.mr*x.np*x.nr)
		}
	}
	x.team.Do(x.Threads, units, x.most, x)
}

// wide says whether workers take columns of C, m×n of k steps: if it has too few rows for them, or A is the smaller factor and need
// not be packed, or little of it.
func (s shape) wide(m, n, k int, readable bool, threads int) bool {
	return ceil(m, s.mr) < 2*threads || n >= 2*m && (readable || m*k <= region)
}

// rowPanels is how many of mp panels of A one worker multiplies at once: they and one of B stay in its L2 cache. Where it also
// keeps their rows of C, which has np panels, these are few.
func (s shape) rowPanels(mp, np int, keeps bool) int {
	rows := blockRows
	if keeps {
		rows = min(rows, eachValues/(np*s.nr))
	}
	return min(mp, max(2, rows/s.mr))
}

// A block's panels of one factor, and one of the other, fit the L2 cache.
const blockRows, blockCols = 168, 256

func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return Alloc[float32](n)
	}
	return s[:n]
}

// Run implements Task.
func (x *Mul) Run(w, from, to int) {
	switch {
	case x.packing:
		for i := from; i < to; i++ {
			x.packShared(i)
		}
	case x.byCols:
		x.columns(w, from, to)
	default:
		x.block(w, from, to)
	}
}

// side is a factor as panels: of width lines, from line first on, up to end.
type side struct {
	o                         *operand
	width, first, end, panels int
}

// shared is the factor that is packed for all workers.
func (x *Mul) shared() side {
	if x.byCols {
		return side{&x.a, x.mr, x.unpacked * x.mr, x.m, x.mp - x.unpacked}
	}
	return side{&x.b, x.nr, x.n0, x.n, x.np}
}

// pieces is how many tasks the packing of it is: lines along memory, some panels at a time; lines side by side, more panels and one
// slice of steps at a time, so that long parts of few rows are read.
func (x *Mul) pieces() int {
	f := x.shared()
	if f.o.along {
		return ceil(f.panels, wideGroup) * ceil(x.kk, x.kc)
	}
	return ceil(f.panels, group)
}

func (x *Mul) packShared(i int) {
	f := x.shared()
	from, to, p0, p1 := 0, x.kk, i*group, (i+1)*group
	if f.o.along {
		groups := ceil(f.panels, wideGroup)
		from = i / groups * x.kc
		to, p0, p1 = min(from+x.kc, x.kk), i%groups*wideGroup, (i%groups+1)*wideGroup
	}
	for s := from; s < to; s += x.kc {
		n := min(x.kc, x.kk-s)
		x.pack(f, p0, min(p1, f.panels), x.k0+s, n, x.all[s*f.panels*f.width+p0*f.width*n:])
	}
}

// pack writes the panels [p0, p1) of f for n steps from k on.
func (x *Mul) pack(f side, p0, p1, k, n int, dst []float32) {
	sub := n
	if f.o.along { // few rows at a time: their lines in the cache serve all panels
		sub = max(subRows, x.unit)
	}
	for s := 0; s < n; s += sub {
		for p := p0; p < p1; p++ {
			at := f.first + p*f.width
			x.slice(f.o, f.width, at, min(f.width, f.end-at), k+s, min(sub, n-s), dst[(p-p0)*f.width*n+s*f.width:])
		}
	}
}

// block computes panels [i0, i1) of A times the region's of B, as worker id.
func (x *Mul) block(id, i0, i1 int) {
	w := &x.own[id]
	for s := 0; s < x.kk; s += x.kc {
		n := min(x.kc, x.kk-s)
		packed := max(i0, x.unpacked)
		if packed < i1 {
			x.pack(side{&x.a, x.mr, 0, x.m, x.mp}, packed, i1, x.k0+s, n, w.part)
		}
		for q := range x.np {
			pb := &x.all[s*x.np*x.nr+q*x.nr*n]
			for p := i0; p < i1; p++ {
				var pa *float32
				if p >= x.unpacked {
					pa = &w.part[(p-packed)*x.mr*n]
				}
				x.multiply(w, p, q, p-i0, s, n, pa, pb)
			}
		}
	}
	switch {
	case x.each != nil && x.c == nil:
		x.each.Rows(id, i0*x.mr, min(i1*x.mr, x.m), w.c, x.np*x.nr)
	case x.each != nil:
		x.each.Rows(id, i0*x.mr, min(i1*x.mr, x.m), x.c[i0*x.mr*x.ldc:], x.ldc)
	}
}

// columns computes A times panels [j0, j1) of the region's B, as worker id.
func (x *Mul) columns(id, j0, j1 int) {
	w := &x.own[id]
	for s := 0; s < x.kk; s += x.kc {
		n := min(x.kc, x.kk-s)
		x.pack(side{&x.b, x.nr, x.n0, x.n, x.np}, j0, j1, x.k0+s, n, w.part)
		for p := range x.mp {
			var pa *float32
			if p >= x.unpacked {
				pa = &x.all[s*(x.mp-x.unpacked)*x.mr+(p-x.unpacked)*x.mr*n]
			}
			for q := j0; q < j1; q++ {
				x.multiply(w, p, q, 0, s, n, pa, &w.part[(q-j0)*x.nr*n])
			}
		}
	}
}

// multiply computes tile (p,q) of the region over n steps from s on; it is tile (at,q) of the worker's rows of C if it has its own.
// Without pa the panel of A is read as it lies.
func (x *Mul) multiply(w *own, p, q, at, s, n int, pa, pb *float32) {
	acc := 0
	if x.acc || s > 0 {
		acc = 1
	}
	row, col := p*x.mr, x.n0+q*x.nr
	var c []float32
	to, ldc, whole := &w.tile[0], x.nr*4, true
	if x.c == nil { // whole tiles of its own memory
		to, ldc = &w.c[at*x.mr*x.np*x.nr+q*x.nr], x.np*x.nr*4
	} else if c, whole = x.c[row*x.ldc+col:], row+x.mr <= x.m && col+x.nr <= x.n; whole {
		to, ldc = &c[0], x.ldc*4
	}
	rows, cols := min(x.mr, x.m-row), min(x.nr, x.n-col)
	for r := 0; !whole && acc > 0 && r < rows; r++ { // what is there goes in first: a tile of AMX begins with it
		copy(w.tile[r*x.nr:], c[r*x.ldc:][:cols])
	}
	if pa == nil {
		x.lies()(n, x.a.at(row, (x.k0+s)*x.per), pb, to, ldc, acc, x.a.ld*4/x.per)
	} else {
		x.kernel(n, pa, pb, to, ldc, acc)
	}
	for r := 0; !whole && r < rows; r++ {
		copy(c[r*x.ldc:][:cols], w.tile[r*x.nr:])
	}
}

// at is value k of a line.
func (o *operand) at(line, k int) *float32 {
	if o.along {
		line, k = k, line
	}
	if o.h != nil {
		return (*float32)(unsafe.Pointer(&o.h[line*o.ld+k]))
	}
	return &o.f[line*o.ld+k]
}
