package gradients

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
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

// shortest runs f as often as the benchmark wants, but five times at least, and reports the shortest time, as it is and in copies of the
// vector of n float32.
func shortest(b *testing.B, n int, copied time.Duration, f func()) {
	least := time.Duration(math.MaxInt64)
	for run := 0; run < max(5, b.N); run++ {
		began := time.Now()
		f()
		least = min(least, time.Since(began))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1e3*least.Seconds(), "min-ms")
	b.ReportMetric(4e-9*float64(n)/least.Seconds(), "GB/s")
	b.ReportMetric(least.Seconds()/copied.Seconds(), "copies")
}

// copying is the shortest time of a copy of src to dst by as many threads.
func copying(threads int, dst, src []float32) time.Duration {
	least := time.Duration(math.MaxInt64)
	const piece = 1 << 18
	for range 10 {
		began := time.Now()
		kern.Par(threads, (len(src)+piece-1)/piece, func(i int) { copy(dst[i*piece:], src[i*piece:min((i+1)*piece, len(src))]) })
		least = min(least, time.Since(began))
	}
	return least
}

// BenchmarkCodec100M measures compression and the outer step at 100M parameters, k = 64, with as many threads as -cpu says and the
// kernels of SN3_KERNELS. min-ms is the shortest of the runs; aggregate reads 15 payloads from their bytes first.
func BenchmarkCodec100M(b *testing.B) {
	if testing.Short() {
		b.Skip("takes 3 GB of memory")
	}
	k, err := kern.Select(os.Getenv("SN3_KERNELS"))
	if err != nil {
		b.Fatal(err)
	}
	l, c := hundred(b), Compute{runtime.GOMAXPROCS(0), k}
	n := l.Params()
	f := openAt(b, b.TempDir(), l)
	f.Use(c)
	start, end, e := model.NewFlat(l), model.NewFlat(l), kern.Alloc[float32](n)
	like(l, start.Data, 1)
	copied := copying(c.Threads, e, start.Data)
	b.Logf("%.1fM parameters, %d threads, kernels %s; a copy of the vector takes %.1f ms", float64(n)/1e6, c.Threads, k.Name, 1e3*copied.Seconds())
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
		shortest(b, n, copied, begin)
		b.ReportMetric(last.Stats().BitsPerValue(), "bits/value")
	})
	b.Run("disk", func(b *testing.B) {
		shortest(b, n, copied, func() {
			if err := f.files.replace(slotName(1), last.encode); err != nil {
				b.Fatal(err)
			}
		})
	})
	raws := fifteen(b, f, start, end)
	b.Run("aggregate", func(b *testing.B) { benchAggregate(b, c, raws, start, copied, false) })
	b.Run("aggregate+root", func(b *testing.B) { benchAggregate(b, c, raws, start, copied, true) })
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

func benchAggregate(b *testing.B, c Compute, raws [][]byte, theta *model.Flat, copied time.Duration, root bool) {
	l := theta.Layout()
	codec := NewCodec(l)
	parts := make([]*Payload, len(raws))
	open, step := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	shortest(b, l.Params(), copied, func() {
		began := time.Now()
		kern.Par(c.Threads, len(raws), func(i int) {
			p, err := codec.Open(bytes.NewReader(raws[i]), int64(len(raws[i])))
			if err != nil {
				b.Error(err)
			}
			parts[i] = p
		})
		opened := time.Now()
		open = min(open, opened.Sub(began))
		var t *tree
		if root {
			t = newTree(l)
		}
		if err := (Outer{Alpha: 1, MinDivisor: 2, Compute: c}).run(theta, theta, parts, t); err != nil {
			b.Fatal(err)
		}
		if root {
			io.Discard.Write(t.leaves[0][:])
		}
		step = min(step, time.Since(opened))
	})
	b.ReportMetric(1e3*open.Seconds(), "open-ms")
	b.ReportMetric(1e3*step.Seconds(), "step-ms")
}
