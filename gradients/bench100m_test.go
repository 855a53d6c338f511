package gradients

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"sn3/model"
	"sn3/model/kern"
)

// hundred is a model of 99.9M parameters, all in whole chunks but for the norms.
func hundred(b *testing.B) *model.Layout {
	return layoutOf(b, model.Config{Vocab: 15680, Width: 1024, Layers: 5, Heads: 16, KVHeads: 16, HeadDim: 64, FFN: 4096, Seq: 128, Tied: true})
}

// like fills v with values like pseudo-gradients, each chunk of another size, in a second or so.
func like(l *model.Layout, v []float32, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 100))
	base := heavy(r, 1<<20+7)
	at := 0
	for i := range l.Chunks() {
		c := l.Chunk(i)
		scale := float32(math.Exp(r.NormFloat64()))
		for j := range c.Len {
			if at++; at == len(base) {
				at = 0
			}
			v[c.Start+j] = scale * base[at]
		}
	}
}

// bench is what the benchmarks share: how they compute, and two vectors to copy for comparison.
type bench struct {
	Compute
	from, to []float32
}

// copy copies the vector by as many goroutines as the benchmark has.
func (x bench) copy() {
	const piece = 1 << 18
	kern.Par(x.Threads, (len(x.from)+piece-1)/piece, func(i int) { copy(x.to[i*piece:], x.from[i*piece:min((i+1)*piece, len(x.from))]) })
}

// shortest runs f and a copy by turns, as often as the benchmark wants, but five times at least, and reports the shortest times.
func (x bench) shortest(b *testing.B, f func()) {
	least, copied := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for run := 0; run < max(5, b.N); run++ {
		began := time.Now()
		x.copy()
		between := time.Now()
		f()
		least, copied = min(least, time.Since(between)), min(copied, between.Sub(began))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1e3*least.Seconds(), "min-ms")
	b.ReportMetric(4e-9*float64(len(x.from))/least.Seconds(), "GB/s")
	b.ReportMetric(least.Seconds()/copied.Seconds(), "copies")
	b.ReportMetric(1e3*copied.Seconds(), "copy-ms")
}

// BenchmarkCodec100M measures compression and the outer step at 100M parameters, k = 64, with as many threads as -cpu says and the
// kernels of SN3_KERNELS, by default the fastest. copies counts copies of the vector by as many threads, each copy-ms. min-ms is the shortest of the runs; aggregate reads 15 payloads from their bytes first.
func BenchmarkCodec100M(b *testing.B) {
	if testing.Short() {
		b.Skip("takes 3 GB of memory")
	}
	k, err := kern.Select(os.Getenv("SN3_KERNELS"))
	if err != nil {
		b.Fatal(err)
	}
	l, c := hundred(b), Compute{runtime.GOMAXPROCS(0), k}
	f := openAt(b, b.TempDir(), l)
	f.Use(c)
	start, end, e := model.NewFlat(l), model.NewFlat(l), kern.Alloc[float32](l.Params())
	like(l, start.Data, 1)
	x := bench{c, start.Data, make([]float32, l.Params())}
	var last Pending
	begin := func() {
		p, raw, err := f.compress(start, end, e, 64)
		if err != nil {
			b.Fatal(err)
		}
		last = Pending{f: f, seq: 1, raw: raw, payload: p, e: e}
		f.e, e = e, f.e
	}
	b.Run("begin", func(b *testing.B) {
		begin() // faults the pages in
		x.shortest(b, begin)
		b.ReportMetric(last.Stats().BitsPerValue(), "bits/value")
	})
	b.Run("disk", func(b *testing.B) {
		x.shortest(b, func() {
			if err := f.files.replace(slotName(1), last.encode); err != nil {
				b.Fatal(err)
			}
		})
	})
	raws := fifteen(b, f, start, end)
	b.Run("aggregate", func(b *testing.B) { x.aggregate(b, raws, end, false) })
	b.Run("aggregate+root", func(b *testing.B) { x.aggregate(b, raws, end, true) })
}

// fifteen are payloads of miners that learned different things.
func fifteen(b *testing.B, f *Feedback, start, end *model.Flat) (raws [][]byte) {
	e := make([]float32, f.layout.Params())
	clear(f.e)
	for i := range 15 {
		like(f.layout, start.Data, uint64(10+i))
		_, raw, err := f.compress(start, end, e, 64)
		if err != nil {
			b.Fatal(err)
		}
		raws = append(raws, raw)
	}
	return raws
}

// aggregate reads the payloads and makes the outer step on theta, in place.
func (x bench) aggregate(b *testing.B, raws [][]byte, theta *model.Flat, root bool) {
	l := theta.Layout()
	codec := NewCodec(l)
	codec.Use(x.Compute)
	parts := make([]*Payload, len(raws))
	open, step := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	x.shortest(b, func() {
		began := time.Now()
		var wg sync.WaitGroup
		for i := range raws { // as a replica does
			wg.Go(func() {
				p, err := codec.Open(bytes.NewReader(raws[i]), int64(len(raws[i])))
				if err != nil {
					b.Error(err)
				}
				parts[i] = p
			})
		}
		wg.Wait()
		if b.Failed() {
			b.FailNow()
		}
		opened := time.Now()
		open = min(open, opened.Sub(began))
		var t *tree
		if root {
			t = newTree(l)
		}
		if err := (Outer{Alpha: 1, MinDivisor: 2, Compute: x.Compute}).run(theta, theta, parts, t); err != nil {
			b.Fatal(err)
		}
		if root {
			t.root()
		}
		step = min(step, time.Since(opened))
	})
	b.ReportMetric(1e3*open.Seconds(), "open-ms")
	b.ReportMetric(1e3*step.Seconds(), "step-ms")
}
