package hf

import (
	"io"
	"testing"

	"sn3/model"
)

// benchShape has 16.9 million parameters in matrices as wide as those of a model of a billion.
var benchShape = model.Config{Vocab: 2048, Width: 2048, Layers: 1, Heads: 8, KVHeads: 2, HeadDim: 64, FFN: 1600, Seq: 8, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}

// What a conversion does, part by part, in bytes of float32: reading a mapped folder into memory (as a plain copy of as many
// bytes does), reading it where files cannot be mapped, writing.
func BenchmarkConvert(b *testing.B) {
	w := initial(b, benchShape)
	size := int64(4 * len(w.Data))
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	dst := model.NewFlat(w.Layout())
	run("copy", func() error { copy(dst.Data, w.Data); return nil })
	for _, t := range []DType{F32, BF16} {
		dir := folder(b, w, SaveOptions{DType: t})
		mapped, read := open(b, dir), unmapped(b, dir)
		run("mapped/"+string(t), func() error { return mapped.Read(dst.Data, w.Layout().All()) })
		run("read/"+string(t), func() error { return read.Read(dst.Data, w.Layout().All()) })
		run("write/"+string(t), func() error { return WriteModel(io.Discard, w, t, nil) })
	}
}
