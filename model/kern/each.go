package kern

// Rows takes the rows of a product while they are in the cache: rows [from, to) of C are c, ldc apart, to be used, and changed at
// will, during the call only. It is called by worker w, from 0 to Threads−1, for different rows at once.
type Rows interface {
	Rows(w, from, to int, c []float32, ldc int)
}

const (
	eachValues = 1 << 19 // most values of C that a worker holds
	eachRows   = 512     // rows of C that exist at once where a product does not fit one region
)

// F32Rows is F32 that hands C to f.
func (x *Mul) F32Rows(tA, tB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, f Rows) {
	if m == 0 || n == 0 {
		return
	}
	reach(len(a), lda, m, k, tA)
	reach(len(b), ldb, k, n, tB)
	x.shape = x.K.shape(false)
	if x.whole(n, k) {
		x.a, x.b, x.each = operand{f: a, ld: lda, along: tA}, operand{f: b, ld: ldb, along: !tB}, f
		x.run(m, n, k, nil, 0, false)
		x.forget()
		return
	}
	for r := 0; r < m; r += eachRows {
		rows := min(eachRows, m-r)
		x.wide = grow(x.wide, rows*n)
		x.F32(tA, tB, rows, n, k, at(tA, a, lda, r, 0), lda, b, ldb, x.wide, n, false)
		x.hand(f, r, rows, n)
	}
}

// BF16Rows is BF16 that hands C to f.
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
		rows := min(eachRows, m-r)
		x.wide = grow(x.wide, rows*n)
		x.bf16(s, tA, tB, rows, n, k, at(tA, a, lda, r, 0), lda, b, ldb, x.wide, n, false)
		x.hand(f, r, rows, n)
	}
}

// whole says whether the product is one region, so that a worker can complete rows.
func (x *Mul) whole(n, k int) bool {
	steps, cols := x.cut(k)
	return k > 0 && x.K.level != portable && steps >= ceil(k, x.per) && cols >= n
}

// hand gives rows [from, from+rows), which are in wide, to f, a part to each worker.
func (x *Mul) hand(f Rows, from, rows, n int) {
	x.give = give{x, f, from, rows, n}
	x.team.Do(x.Threads, max(1, min(x.Threads, rows)), &x.give)
	x.give = give{}
}

// give is the loop of hand.
type give struct {
	x             *Mul
	f             Rows
	from, rows, n int
}

// Run implements Task.
func (g *give) Run(w int) {
	t := max(1, min(g.x.Threads, g.rows))
	if a, b := w*g.rows/t, (w+1)*g.rows/t; a < b {
		g.f.Rows(w, g.from+a, g.from+b, g.x.wide[a*g.n:], g.n)
	}
}
