package gradients

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// What Symbols tells, Pack makes into the same payload again, byte for byte.
func TestPackIsWhatWasEncoded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := odd(rt, t)
		k := rapid.OneOf(rapid.IntRange(1, 4096), rapid.IntRange(1, 200)).Draw(rt, "k")
		v := heavy(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), l.Params())
		clear(v[:rapid.IntRange(0, l.Params()).Draw(rt, "zeros")])
		raw, _ := encode(t, l, v, k)
		c := NewCodec(l)
		p, err := c.Open(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			rt.Fatal(err)
		}
		again, bytes, err := c.Pack(k, p.Symbols)
		if err != nil || !slices.Equal(bytes, raw) {
			rt.Fatalf("%d bytes, not the %d that were encoded (%v)", len(bytes), len(raw), err)
		}
		if again.Norm() != p.Norm() || again.Stats() != p.Stats() || again.Len() != p.Len() {
			rt.Fatalf("norm %v, %+v, want %v, %+v", again.Norm(), again.Stats(), p.Norm(), p.Stats())
		}
	})
}

// A broken chunk never becomes a payload.
func TestPackRefuses(t *testing.T) {
	l := tiny(t)
	c, real := NewCodec(l), l.Chunk(0).Len
	good := symbols{[]uint16{1, 5}, []byte{0, 3}, 9}
	pack := func(s symbols, k int) error {
		_, _, err := c.Pack(k, func(i int) ([]uint16, []byte, byte) {
			if i > 0 {
				return nil, nil, 7
			}
			return s.idx, s.codes, s.scale
		})
		return err
	}
	for k, want := range map[int]bool{0: false, 1: false, 2: true, 64: true, model.ChunkSize: true, model.ChunkSize + 1: false} {
		if err := pack(good, k); (err == nil) != want {
			t.Errorf("k %d: %v", k, err)
		}
	}
	for name, s := range map[string]symbols{
		"twice":         {[]uint16{5, 5}, []byte{0, 3}, 9},
		"descending":    {[]uint16{5, 1}, []byte{0, 3}, 9},
		"outside":       {[]uint16{1, uint16(real)}, []byte{0, 3}, 9},
		"no code":       {[]uint16{1, 5}, []byte{0, 4}, 9},
		"a code short":  {[]uint16{1, 5}, []byte{0}, 9},
		"an index less": {[]uint16{1}, []byte{0, 3}, 9},
		"all large":     {[]uint16{1, 5}, []byte{1, 3}, 247},
	} {
		if err := pack(s, 64); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
	if err := pack(symbols{[]uint16{1, 5}, []byte{1, 3}, 248}, 64); err != nil {
		t.Errorf("all large at the end of the table: %v", err)
	}
}
