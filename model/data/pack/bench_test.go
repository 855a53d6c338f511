package pack

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// The speed of packing bytes from JSON lines, by workers, and what the heap holds at most, by size: that it does not grow with
// the input but for the hashes of documents. For the memory of a large input see docs/DATA.md.
func BenchmarkPack(b *testing.B) {
	docs := texts("bench", 4000, 8000) // 16 MB
	for _, c := range []struct{ copies, workers int }{{1, 1}, {1, 2}, {4, 2}} {
		b.Run(fmt.Sprintf("MB=%d/workers=%d", 16*c.copies, c.workers), func(b *testing.B) {
			in := filepath.Join(b.TempDir(), "in.jsonl")
			f, err := os.Create(in)
			if err != nil {
				b.Fatal(err)
			}
			var size int64
			for i := range c.copies {
				for k, d := range docs {
					docs[k] = fmt.Sprint(i) + d[1:] // other documents each time
				}
				n, err := f.Write(asLines(docs))
				if err != nil {
					b.Fatal(err)
				}
				size += int64(n)
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			var peak uint64
			o := Options{Inputs: []string{in}, Tokenizer: byBytes(b), Workers: c.workers, Progress: func(Progress) {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}}
			for i := 0; b.Loop(); i++ {
				run(b, filepath.Join(b.TempDir(), fmt.Sprint(i)), o)
			}
			b.ReportMetric(float64(peak)/(1<<20), "heap-MB")
		})
	}
}
