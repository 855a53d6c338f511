package kern

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// product is one call of Mul with operands whose values bfloat16 holds exactly, so that every way must give the same sums.
type product struct {
	tA, tB, acc      bool
	m, n, k          int
	lda, ldb, ldc    int
	a, b, c0         []float32
	ah, bh           []BF16
	want             []float64
	roundingPerEntry float64
}

func randomProduct(r *rand.Rand, m, n, k int) *product {
	return newProduct(r, m, n, k, r.IntN(2) > 0, r.IntN(2) > 0, r.IntN(2) > 0)
}

func newProduct(r *rand.Rand, m, n, k int, tA, tB, acc bool) *product {
	p := operands(r, m, n, k, tA, tB, acc)
	p.reference()
	return p
}

// operands are those of a product whose result is not computed yet.
func operands(r *rand.Rand, m, n, k int, tA, tB, acc bool) *product {
	p := &product{tA: tA, tB: tB, acc: acc, m: m, n: n, k: k}
	ra, ca := lying(tA, m, k)
	rb, cb := lying(tB, k, n)
	p.lda, p.ldb, p.ldc = ca+r.IntN(4), cb+r.IntN(4), n+r.IntN(4)
	p.a, p.ah = bothTypes(r, ra*p.lda)
	p.b, p.bh = bothTypes(r, rb*p.ldb)
	p.c0, _ = bothTypes(r, m*p.ldc+3)
	return p
}

// lying is the size in memory of a matrix that is used as rows×cols.
func lying(transposed bool, rows, cols int) (int, int) {
	if transposed {
		return cols, rows
	}
	return rows, cols
}

func bothTypes(r *rand.Rand, n int) (f []float32, h []BF16) {
	f, h = make([]float32, n), make([]BF16, n)
	for i := range f {
		h[i] = RoundBF16(float32(r.NormFloat64()))
		f[i] = h[i].Float32()
	}
	return f, h
}

// apart puts the rows of A in memory a multiple of values apart.
func (p *product) apart(r *rand.Rand, values int) {
	rows, cols := lying(p.tA, p.m, p.k)
	p.lda = ceil(cols, values) * values
	p.a, p.ah = bothTypes(r, rows*p.lda)
}

// reference computes the product in float64.
func (p *product) reference() {
	wide := func(s []float32) (out []float64) {
		for _, v := range s {
			out = append(out, float64(v))
		}
		return out
	}
	p.want = wide(p.c0)
	beta := 0.0
	if p.acc {
		beta = 1
	}
	op := map[bool]blas.Transpose{false: blas.NoTrans, true: blas.Trans}
	gonum.Implementation{}.Dgemm(op[p.tA], op[p.tB], p.m, p.n, p.k, 1, wide(p.a), p.lda, wide(p.b), p.ldb, beta, p.want, p.ldc)
	p.roundingPerEntry = 2e-6 * math.Sqrt(float64(p.k)) * 8
}

// check runs one way and compares with float64; values of C outside the product must not change.
func (p *product) check(t *testing.T, name string, run func(c []float32)) []float32 {
	t.Helper()
	c := slices.Clone(p.c0)
	run(c)
	for i, v := range c {
		row, col := i/p.ldc, i%p.ldc
		if row >= p.m || col >= p.n {
			if v != p.c0[i] {
				t.Fatalf("%s %d×%d×%d: C at %d,%d is outside and changed", name, p.m, p.n, p.k, row, col)
			}
			continue
		}
		if !(math.Abs(float64(v)-p.want[i]) <= p.roundingPerEntry) {
			t.Fatalf("%s %d×%d×%d tA %v tB %v acc %v: C[%d,%d] = %v, want %v", name, p.m, p.n, p.k, p.tA, p.tB, p.acc, row, col, v, p.want[i])
		}
	}
	return c
}

// ways are all products this CPU can compute, and the tiles of AMX on any CPU with AVX-512 for packing.
func ways() map[string]func(x *Mul, p *product, c []float32) {
	out := map[string]func(x *Mul, p *product, c []float32){}
	f := features()
	f32 := func(k Kernels) func(x *Mul, p *product, c []float32) {
		return func(x *Mul, p *product, c []float32) {
			x.K = &k
			x.F32(p.tA, p.tB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, c, p.ldc, p.acc)
		}
	}
	bf16 := func(s shape) func(x *Mul, p *product, c []float32) {
		return func(x *Mul, p *product, c []float32) {
			x.K = &Kernels{level: avx512, half: vdp}
			x.bf16(s, p.tA, p.tB, p.m, p.n, p.k, p.ah, p.lda, p.bh, p.ldb, c, p.ldc, p.acc)
		}
	}
	out["portable"] = f32(Kernels{})
	if f.avx2 {
		out["avx2"] = f32(Kernels{level: avx2})
	}
	if f.avx512 {
		out["avx512"] = f32(Kernels{level: avx512})
		emulated := (&Kernels{level: avx512, half: amx}).shape(true)
		emulated.kernel = tilesInGo
		out["amx, emulated"] = bf16(emulated)
	}
	if f.vdp {
		out["avx512bf16"] = bf16((&Kernels{level: avx512, half: vdp}).shape(true))
	}
	if f.amx {
		out["amx"] = bf16((&Kernels{level: avx512, half: amx}).shape(true))
	}
	return out
}

// tilesInGo is kernAMX in words: TDPBF16PS over four tiles (Intel SDM, TDPBF16PS).
func tilesInGo(k int, a, b, c *float32, ldcBytes, acc int) {
	pa, pb := unsafe.Slice((*[2]BF16)(unsafe.Pointer(a)), 32*k), unsafe.Slice((*[2]BF16)(unsafe.Pointer(b)), 32*k)
	for row := range 32 {
		dst := unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(c), row*ldcBytes)), 32)
		if acc == 0 {
			clear(dst)
		}
		for block := range k / 16 {
			for col := range 32 {
				for q := range 16 {
					x := pa[block*512+row/16*256+row%16*16+q]
					y := pb[block*512+col/16*256+q*16+col%16]
					dst[col] += x[0].Float32()*y[0].Float32() + x[1].Float32()*y[1].Float32()
				}
			}
		}
	}
}

func TestMulAgainstFloat64(t *testing.T) {
	for _, name := range []string{"avx2", "avx512", "avx512bf16", "amx"} {
		if _, err := Select(name); err != nil {
			t.Logf("skipped: %v", err)
		}
	}
	shapes := [][3]int{{1, 1, 1}, {14, 32, 16}, {13, 31, 15}, {15, 33, 17}, {28, 64, 600}, {6, 16, 256}, {3, 200, 5}, {200, 3, 257}, {40, 50, 513}, {1, 100, 64}, {33, 1, 1100}}
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		shapes = append(shapes, [3]int{1 + r.IntN(70), 1 + r.IntN(100), 1 + r.IntN(400)})
	}
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			x := &Mul{}
			for _, s := range shapes {
				p := randomProduct(r, s[0], s[1], s[2])
				x.Threads = 1
				one := p.check(t, name, func(c []float32) { way(x, p, c) })
				for _, threads := range []int{2, 5} {
					x.Threads = threads
					if more := p.check(t, name, func(c []float32) { way(x, p, c) }); !slices.Equal(one, more) {
						t.Fatalf("%v: %d threads give other bits than one", s, threads)
					}
				}
			}
		})
	}
}

// Every form of a product at the edges of tiles, pairs and blocks of steps; what is left in the packed memory of other products,
// here NaN, gets into none.
func TestMulEveryForm(t *testing.T) {
	poison := func(s []float32) {
		for i := range s[:cap(s)] {
			s[:cap(s)][i] = float32(math.NaN())
		}
	}
	for name, way := range ways() {
		r, x := rand.New(rand.NewPCG(21, 22)), &Mul{Threads: 2}
		for form := range 8 {
			for _, m := range []int{1, 13, 31, 33, 61} {
				for _, n := range []int{1, 15, 33, 70} {
					for _, k := range []int{1, 2, 15, 17, 31, 33, 130} {
						if testing.Short() && r.IntN(8) > 0 { // under the race detector
							continue
						}
						p := newProduct(r, m, n, k, form&1 > 0, form&2 > 0, form&4 > 0)
						p.check(t, name, func(c []float32) { way(x, p, c) })
						poison(x.all)
						for i := range x.own {
							poison(x.own[i].part)
							poison(x.own[i].tile)
						}
					}
				}
			}
		}
	}
}

// Products larger than a region are cut; the parts must meet.
func TestRegions(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for name, way := range ways() {
		if name == "portable" || name == "amx, emulated" {
			continue
		}
		p := randomProduct(r, 30, 2100, 4200) // steps beyond 16·kc; a packed B of more than a region
		p.roundingPerEntry *= 4
		p.check(t, name, func(c []float32) { way(&Mul{Threads: 2}, p, c) })
	}
}

// A product allocates nothing once its owner has the memory.
func TestMulDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	p := randomProduct(r, 64, 96, 128)
	for name, way := range ways() {
		if name == "portable" {
			continue
		}
		x, c := &Mul{Threads: 2}, slices.Clone(p.c0)
		way(x, p, c)
		k := *x.K
		if got := testing.AllocsPerRun(20, func() {
			if x.K = &k; x.per == 2 {
				x.bf16(x.shape, p.tA, p.tB, p.m, p.n, p.k, p.ah, p.lda, p.bh, p.ldb, c, p.ldc, p.acc)
				return
			}
			x.F32(p.tA, p.tB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, c, p.ldc, p.acc)
		}); got > 0 {
			t.Errorf("%s: %v allocations per product", name, got)
		}
	}
}

func TestShortSlicesPanic(t *testing.T) {
	x := &Mul{K: &Kernels{level: portable}, Threads: 1}
	if features().avx512 {
		x.K = &Kernels{level: avx512}
	}
	full := make([]float32, 100)
	for name, f := range map[string]func(){
		"A": func() { x.F32(false, false, 10, 10, 10, full[:99], 10, full, 10, full, 10, false) },
		"B": func() { x.F32(false, true, 10, 10, 10, full, 10, full[:99], 10, full, 10, false) },
		"C": func() { x.F32(true, false, 10, 10, 10, full, 10, full, 10, full[:99], 10, false) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a short %s was accepted", name)
				}
			}()
			f()
		}()
	}
}

func TestChoice(t *testing.T) {
	for _, c := range []struct {
		rate map[string]float64
		want string
	}{
		{nil, "portable"},
		{map[string]float64{"avx2": 130}, "avx2"},
		{map[string]float64{"avx2": 130, "avx512": 250, "avx512bf16": 500}, "avx512bf16"},       // Zen 5
		{map[string]float64{"avx2": 130, "avx512": 238, "avx512bf16": 120, "amx": 3700}, "amx"}, // Sapphire Rapids
		{map[string]float64{"avx2": 130, "avx512": 238, "avx512bf16": 120}, "avx512"},           // the same without tiles
		{map[string]float64{"avx2": 130, "avx512": 110, "avx512bf16": 400}, "avx2"},             // AVX-512 that only slows down
		{map[string]float64{"avx2": 130, "avx512": 124}, "avx512"},                              // Zen 4: as fast as each other, however
		{map[string]float64{"avx2": 124, "avx512": 130}, "avx512"},                              // the measurement falls
		{map[string]float64{"avx512": 130, "avx512bf16": 260, "amx": 250}, "amx"},
		{map[string]float64{"avx512": 130, "avx512bf16": 300, "amx": 250}, "avx512bf16"},
	} {
		if got := choose(c.rate).name; got != c.want {
			t.Errorf("%v: %s, want %s", c.rate, got, c.want)
		}
	}
	if _, err := Select("sse"); err == nil {
		t.Error("an unknown set was accepted")
	}
	k, err := Select("")
	if err != nil || k.Why == "" || !slices.Contains(Names(), k.Name) {
		t.Fatalf("%+v, %v", k, err)
	}
	t.Logf("%s: %s", k.Name, k.Why)
	for _, s := range choices {
		if _, err := Select(s.name); (err == nil) != (s.missing() == "") {
			t.Errorf("%s: %v, missing %q", s.name, err, s.missing())
		}
	}
}

func BenchmarkMul(b *testing.B) {
	const m, n, k = 2048, 768, 256
	r := rand.New(rand.NewPCG(1, 2))
	p := randomProduct(r, m, n, k)
	for name, way := range ways() {
		if name == "amx, emulated" {
			continue
		}
		b.Run(name, func(b *testing.B) {
			x := &Mul{Threads: 1}
			from := time.Now()
			for b.Loop() {
				way(x, p, p.c0)
			}
			b.ReportMetric(2*m*n*k*float64(b.N)/time.Since(from).Seconds()/1e9, "GFLOP/s")
		})
	}
}

// A set that computes wrongly is found out.
func TestSound(t *testing.T) {
	for _, s := range choices {
		if s.missing() != "" {
			continue
		}
		if err := s.sound(); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	a, c := []float32{1, 2, 3, 4}, []float32{7, 10, 15, 22}
	if err := compare(c, false, false, 2, 2, 2, a, 2, a, 2); err != nil {
		t.Error(err)
	}
	for i, bad := range []float32{7.001, float32(math.NaN()), float32(math.Inf(1))} {
		c[i] = bad
		if compare(c, false, false, 2, 2, 2, a, 2, a, 2) == nil {
			t.Errorf("%v passed", c)
		}
		c = []float32{7, 10, 15, 22}
	}
}
