package kern

// Rows takes the rows of a product while they are in the cache: rows [from, to) of C are c, ldc apart, to be changed at will; where
// C has no place of its own, they are lent for the call only. It is called by worker w, from 0 to Threads−1, for different rows at once.
type Rows interface {
	Rows(w, from, to int, c []float32, ldc int)
}

const (
	eachValues = 1 << 19 // most values of C that a worker holds
	eachRows   = 512     // rows of C that exist at once where a product does not fit one region
)

// F32Rows is F32 that hands C to f; with c nil, C exists a few rows at a time only.
func (x *Mul) F32Rows(tA, tB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, f Rows) {
	if m == 0 || n == 0 {
		return
	}
	if c != nil {
		_ = c[(m-1)*ldc+n-1]
	}
	reach(len(a), lda, m, k, tA)
	reach(len(b), ldb, k, n, tB)
	x.shape = x.K.shape(false)
	if x.whole(n, k) {
		x.a, x.b, x.each = operand{f: a, ld: lda, along: tA}, operand{f: b, ld: ldb, along: !tB}, f
		x.run(m, n, k, c, ldc, false)
		x.forget()
		return
	}
	for r := 0; r < m; r += eachRows {
		rows, to, ld := x.part(r, m, n, c, ldc)
		x.F32(tA, tB, rows, n, k, at(tA, a, lda, r, 0), lda, b, ldb, to, ld, false)
		x.hand(f, r, rows, to, ld)
	}
}

// BF16Rows is BF16 that hands C, which exists a few rows at a time only, to f.
func (x *Mul) BF16Rows(tA, tB bool, m, n, k int, a []BF16, lda int, b []BF16, ldb int, f Rows) {
	x.bf16Rows(x.K.shape(true), tA, tB, m, n, k, a, lda, b, ldb, f)
}

func (x *Mul) bf16Rows(s shape, tA, tB bool, m, n, k int, a []BF16, lda int, b []BF16, ldb int, f Rows) {
	if m == 0 || n == 0 {
		return
	}
	reach(len(a), lda, m, k, tA)
	reach(len(b), ldb, k, n, tB)
	x.shape = s
	if x.whole(n, k) {
		x.a, x.b, x.each = operand{h: a, ld: lda, along: tA}, operand{h: b, ld: ldb, along: !tB}, f
		x.run(m, n, k, nil, 0, false)
		x.forget()
		return
	}
	for r := 0; r < m; r += eachRows {
		rows, to, ld := x.part(r, m, n, nil, 0)
		x.bf16(s, tA, tB, rows, n, k, at(tA, a, lda, r, 0), lda, b, ldb, to, ld, false)
		x.hand(f, r, rows, to, ld)
	}
}

// whole says whether the product is one region, so that a worker can complete rows.
func (x *Mul) whole(n, k int) bool {
	steps, cols := x.cut(k)
	return k > 0 && x.K.level != portable && steps >= ceil(k, x.per) && cols >= n
}

// part is where the next rows of a product that is not one region are computed.
func (x *Mul) part(r, m, n int, c []float32, ldc int) (rows int, to []float32, ld int) {
	rows = min(eachRows, m-r)
	if c != nil {
		return rows, c[r*ldc:], ldc
	}
	x.lent = grow(x.lent, rows*n)
	return rows, x.lent, n
}

// hand gives rows [from, from+rows), which are c, to f, a part to each worker.
func (x *Mul) hand(f Rows, from, rows int, c []float32, ldc int) {
	x.give = give{f, from, rows, max(1, min(x.Threads, rows)), c, ldc}
	x.team.Do(x.Threads, x.give.parts, 1, &x.give)
	x.give = give{}
}

// give is the loop of hand.
type give struct {
	f                 Rows
	from, rows, parts int
	c                 []float32
	ldc               int
}

// Run implements Task.
func (g *give) Run(w, from, to int) {
	if a, b := from*g.rows/g.parts, to*g.rows/g.parts; a < b {
		g.f.Rows(w, g.from+a, g.from+b, g.c[a*g.ldc:], g.ldc)
	}
}
