package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/kern"
)

// product is C (m,n) = op(A)·op(B) over k, in both precisions.
type product struct {
	mul     kern.Mul
	tA, tB  bool
	m, n, k int
	a, b, c []float32
	ha, hb  []kern.BF16
}

func newProduct(ks *kern.Kernels, threads int, form string, m, n, k int, r *rand.Rand) *product {
	p := &product{mul: kern.Mul{K: ks, Threads: threads}, tA: strings.HasPrefix(form, "t"), tB: strings.HasSuffix(form, "t"), m: m, n: n, k: k,
		a: kern.Alloc[float32](m * k), b: kern.Alloc[float32](k * n), c: kern.Alloc[float32](m * n), ha: kern.Alloc[kern.BF16](m * k), hb: kern.Alloc[kern.BF16](k * n)}
	for _, x := range [][]float32{p.a, p.b} {
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
	}
	ks.ToBF16(p.ha, p.a)
	ks.ToBF16(p.hb, p.b)
	return p
}

func (p *product) gflop() float64 { return 2e-9 * float64(p.m) * float64(p.n) * float64(p.k) }

// strides are the leading dimensions of A and B.
func (p *product) strides() (lda, ldb int) {
	lda, ldb = p.k, p.n
	if p.tA {
		lda = p.m
	}
	if p.tB {
		ldb = p.k
	}
	return lda, ldb
}

func (p *product) run(precision model.Precision) {
	lda, ldb := p.strides()
	if precision == model.BF16 {
		p.mul.BF16(p.tA, p.tB, p.m, p.n, p.k, p.ha, lda, p.hb, ldb, p.c, p.n, false)
		return
	}
	p.mul.F32(p.tA, p.tB, p.m, p.n, p.k, p.a, lda, p.b, ldb, p.c, p.n, false)
}

// gonum makes the product with gonum's own code, on as many goroutines as it likes.
func (p *product) gonum() {
	op := func(t bool) blas.Transpose {
		if t {
			return blas.Trans
		}
		return blas.NoTrans
	}
	lda, ldb := p.strides()
	gonum.Implementation{}.Sgemm(op(p.tA), op(p.tB), p.m, p.n, p.k, 1, p.a, lda, p.b, ldb, 0, p.c, p.n)
}

// gemmCase is one shape, in the forms it is used in.
type gemmCase struct {
	name    string
	m, n, k int
	forms   string
	least   float64 // share of the peak that it should reach; 0: none is set
}

// gemmCases are two shapes that others quote, and the products of a layer of the 8m and 160m shapes: forward x·wᵀ (nt), gradient
// of x (nn), gradient of w (tn).
func gemmCases() []gemmCase {
	const each, used = "nn nt tn tt", "nt nn tn"
	return []gemmCase{
		{"512×512×512", 512, 512, 512, each, 0}, {"2048×3072×768", 2048, 3072, 768, each, 0.88},
		{"8m q+k+v 2048×768×256", 2048, 768, 256, used, 0}, {"8m gate+up 2048×2048×256", 2048, 2048, 256, used, 0},
		{"8m down 2048×256×1024", 2048, 256, 1024, used, 0}, {"8m head 2048×4096×256", 2048, 4096, 256, used, 0},
		{"160m gate+up 1024×4096×768", 1024, 4096, 768, used, 0}, {"160m down 1024×768×2048", 1024, 768, 2048, used, 0},
	}
}

// gemm compares products with the peak of the instruction they are made of, measured in the same rounds.
func (b *bench) gemm() error {
	ks, err := kern.Select(b.kernels)
	if err != nil {
		return proc.Usage(err)
	}
	precisions, err := precisions(b.flags.String("precision"))
	if err != nil {
		return err
	}
	for _, precision := range precisions {
		unit := peakOf(ks, precision)
		if unit == "" {
			b.section("gemm", "kernels %s have no instruction for %s: nothing to measure", ks.Name, precision)
			continue
		}
		b.section("gemm", "C = op(A)·op(B) in %s, GFLOP/s; best round as a share of the best peak of %s", precision, unit)
		for _, c := range gemmCases() {
			if err := b.gemmCase(ks, precision, unit, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// peakOf names the peak that products are held against; "" for portable code, and for bfloat16 without an instruction.
func peakOf(k *kern.Kernels, p model.Precision) string {
	switch {
	case p == model.BF16 && !k.Half(), k.Name == "portable":
		return ""
	case p == model.F32 && k.Half():
		return "avx512"
	}
	return k.Name
}

// gemmCase measures one shape in all its forms: in each round the peak, every form, and gonum where it is asked for. Shares are of
// best rounds: a peak is a property of the machine, and what else runs can only lower it.
func (b *bench) gemmCase(ks *kern.Kernels, precision model.Precision, unit string, c gemmCase) error {
	var forms []*product
	names := strings.Fields(c.forms)
	for _, f := range names {
		forms = append(forms, newProduct(ks, b.threads, f, c.m, c.n, c.k, rand.New(rand.NewPCG(3, 4))))
	}
	got, peaks, theirs := make([][]float64, len(forms)), []float64{}, []float64{}
	for range b.rounds {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		peak, err := kern.Peak(unit, b.threads)
		if err != nil {
			return err
		}
		peaks = append(peaks, peak)
		for i, p := range forms {
			got[i] = append(got[i], rate(p.gflop(), func() { p.run(precision) }))
		}
		if precision == model.F32 && c.least > 0 && !b.flags.Bool("no-gonum") {
			theirs = append(theirs, rate(forms[0].gflop(), forms[0].gonum))
		}
	}
	for i, f := range names {
		r := Row{Case: c.name, By: fmt.Sprintf("sn3 %s %s %s", ks.Name, precision, f), Threads: b.threads, Unit: "GFLOP/s", Of: "peak", Goal: c.least}.spread(got[i])
		r.Share = r.High / slices.Max(peaks)
		b.add(r)
	}
	b.add(Row{Case: c.name, By: "peak of " + unit, Threads: b.threads, Unit: "GFLOP/s"}.spread(peaks))
	if len(theirs) > 0 {
		r := Row{Case: c.name, By: "gonum f32 nn", Threads: b.threads, Unit: "GFLOP/s", Of: "peak"}.spread(theirs)
		r.Share = r.High / slices.Max(peaks)
		b.add(r)
	}
	return nil
}

// rate is the work of f a second, the best of a few runs that take together about a tenth of one.
func rate(work float64, f func()) float64 {
	best := 0.0
	for from := time.Now(); best == 0 || time.Since(from) < 100*time.Millisecond; {
		at := time.Now()
		f()
		best = max(best, work/max(time.Since(at), 1).Seconds())
	}
	return best
}
