package gradients

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"sn3/model"
)

func BenchmarkEncode(b *testing.B) {
	l := local(b)
	v := heavy(rand.New(rand.NewPCG(7, 7)), l.Params())
	for _, k := range []int{64, 512} {
		b.Run(map[int]string{64: "k64", 512: "k512"}[k], func(b *testing.B) {
			b.SetBytes(int64(4 * l.Params()))
			for b.Loop() {
				if _, err := NewCodec(l).Encode(io.Discard, flatSource{l, v}, k, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	l := local(b)
	v := heavy(rand.New(rand.NewPCG(7, 7)), l.Params())
	for _, k := range []int{64, 512, 1500} {
		raw, _ := encode(b, l, v, k)
		b.Run(map[int]string{64: "k64", 512: "k512", 1500: "bitmap"}[k], func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewCodec(l).Open(bytes.NewReader(raw), int64(len(raw))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOuterStep(b *testing.B) {
	l := local(b)
	var parts []*Payload
	for i := range 15 {
		parts = append(parts, payloadOf(b, l, heavy(rand.New(rand.NewPCG(7, uint64(i))), l.Params()), 512))
	}
	theta := model.NewFlat(l)
	b.SetBytes(int64(4 * l.Params()))
	for b.Loop() {
		if _, err := OuterStep(theta, parts, 1, 2); err != nil {
			b.Fatal(err)
		}
	}
}
