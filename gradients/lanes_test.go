package gradients

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sn3/model"
	"sn3/model/kern"
)

// seven is a layout of seven segments, the last short: four are decoded by turns, then two, then one.
func seven(t testing.TB) *model.Layout {
	return layoutOf(t, model.Config{Vocab: 64 * 66, Width: 64 * 94, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 2, Seq: 4, Tied: true})
}

// Segments decoded by turns say what segments decoded alone say, of good bytes and of tampered ones.
func TestTurnsAgainstSingles(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for segments, l := range map[int]*model.Layout{3: segmented(t), 7: seven(t)} {
		if n := NewCodec(l).segments(); n != segments {
			t.Fatalf("the layout has %d segments, want %d", n, segments)
		}
		v := plain(r, l.Params())
		clear(v[20*4096 : 60*4096])
		for _, k := range []int{1, 8, 64, 1500} {
			if segments == 7 && k > 64 {
				continue // takes long, and nothing new happens
			}
			raw, _ := encode(t, l, v, k)
			checkTurns(t, l, k, raw, r, max(4, min(90/segments, 1000/k/segments*3)))
		}
	}
}

// checkTurns tampers with the bytes as often, and writes them again as they were.
func checkTurns(t *testing.T, l *model.Layout, k int, raw []byte, r *rand.Rand, tries int) {
	t.Helper()
	foot := 4 * NewCodec(l).segments()
	for try := range tries {
		b := slices.Clone(raw)
		for range min(try, 3) {
			b[payloadHead+r.IntN(len(b)-payloadHead-foot)] ^= 1 << r.IntN(8)
		}
		checkLanes(t, l, k, b)
		if try > 1 { // in the first chunks every way to be wrong comes up
			b = slices.Clone(raw)
			b[payloadHead+r.IntN(400)] ^= 1 << r.IntN(8)
			checkLanes(t, l, k, b)
		}
		if try == 0 {
			var again bytes.Buffer
			if _, err := reopened(t, l, b).WriteTo(&again); err != nil || !bytes.Equal(again.Bytes(), raw) {
				t.Fatalf("k %d: written again: %v", k, err)
			}
		}
	}
}

func checkLanes(t *testing.T, l *model.Layout, k int, b []byte) {
	t.Helper()
	foot := b[len(b)-4*NewCodec(l).segments():]
	var read [3]*Payload // by turns with and without assembly, alone
	var errs [3]error
	fast, err := kern.Select("avx2")
	if err != nil {
		t.Logf("skipped: %v", err)
	}
	for i := range read {
		segments, err := readSegments(bytes.NewReader(b), foot, int64(len(b)-len(foot)))
		if err != nil {
			return
		}
		c := NewCodec(l)
		if i == 0 {
			c.Use(Compute{Kernels: fast})
		}
		most, _ := c.most(k, 1<<40)
		read[i] = &Payload{codec: c, k: k, start: make([]int, 1, l.Chunks()+1), scales: make([]byte, l.Chunks()),
			idx: make([]uint16, 0, most), codes: make([]byte, 0, most)}
		errs[i] = read[i].read(segments, i < 2)
	}
	if fmt.Sprint(errs[0]) != fmt.Sprint(errs[1]) || (errs[0] == nil) != (errs[2] == nil) {
		t.Fatalf("by turns: %v; in portable code: %v; alone: %v", errs[0], errs[1], errs[2])
	}
	for _, err := range errs {
		var d *DecodeError
		if err != nil && !errors.As(err, &d) {
			t.Fatalf("not the sender's fault? %v", err)
		}
	}
	if errs[0] == nil {
		samePayload(t, read[0], read[1])
		samePayload(t, read[0], read[2])
		if again, err := read[0].bytes(Compute{}); err != nil || !bytes.Equal(again[payloadHead:], b[payloadHead:]) {
			t.Fatalf("decodes, but encodes to other bytes (%v)", err)
		}
	}
}

func FuzzOpenLanes(f *testing.F) {
	l := segmented(f)
	v := plain(rand.New(rand.NewPCG(2, 9)), l.Params())
	for _, k := range []int{1, 4} {
		raw, _ := encode(f, l, v, k)
		f.Add(uint16(k-1), raw[payloadHead:])
		f.Add(uint16(k-1), raw[payloadHead+100:])
	}
	f.Fuzz(func(t *testing.T, k uint16, b []byte) {
		if k = k%8 + 1; len(b) < 12 {
			return
		}
		checkLanes(t, l, int(k), append(NewCodec(l).head(int(k)), b...))
	})
}

// A gap that reaches beyond its chunk is refused where it stands, not skipped: in a long segment, by which its codes are looked up, and
// in the first of two as in the second.
func TestGapBeyondIsRefused(t *testing.T) {
	l := segmented(t)
	const k = 64
	for _, chunk := range []int{0, segmentChunks, 2*segmentChunks + 1} {
		for _, at := range []int{0, 3, 4, 62, 63} {
			for _, gap := range []int{4095, 5000} {
				raw := twinPayload(l, k, func(i, real, keep int) string {
					if i != chunk {
						return twinChunk(real, keep, Part{[]uint16{0}, []float32{1}})
					}
					s := "0"
					for _, g := range slices.Insert(make([]int, keep), at, gap) {
						s += twinGap(g, twinM(real, keep))
					}
					return s + binaryOf(100, 8) + strings.Repeat("00", keep)
				})
				var d *DecodeError
				c := NewCodec(l)
				if k, err := kern.Select("avx2"); err == nil && gap == 4095 {
					c.Use(Compute{Kernels: k})
				}
				_, err := c.Open(bytes.NewReader(raw), int64(len(raw)))
				if !errors.As(err, &d) || !strings.Contains(d.Reason, fmt.Sprintf("chunk %d: index beyond", chunk)) {
					t.Errorf("gap %d at %d of chunk %d: %v", gap, at, chunk, err)
				}
			}
		}
	}
}
