package gradients

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// The twin writes and reads payloads as strings of '0' and '1', slowly, from the words of docs/FORMAT.md.

// tiny is a layout with odd edges: blocks of 64×64, 64×5, 3×64, vectors.
func tiny(t testing.TB) *model.Layout {
	return layoutOf(t, model.Config{Vocab: 67, Width: 69, Layers: 1, Heads: 3, KVHeads: 1, HeadDim: 22, FFN: 70, Seq: 8, Tied: true})
}

// local is the layout of the preset "local".
func local(t testing.TB) *model.Layout {
	return layoutOf(t, model.Config{Vocab: 256, Width: 128, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 32, FFN: 384, Seq: 128, Tied: true})
}

func layoutOf(t testing.TB, c model.Config) *model.Layout {
	t.Helper()
	c.RopeTheta, c.NormEps = 1e4, 1e-5
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// odd draws layouts with chunks of every awkward size.
func odd(rt *rapid.T, t testing.TB) *model.Layout {
	n := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, name) }
	kv := n("kv", 1, 2)
	return layoutOf(t, model.Config{Vocab: n("vocab", 2, 150), Width: n("width", 1, 140), Layers: n("layers", 1, 2), Heads: kv * n("groups", 1, 2),
		KVHeads: kv, HeadDim: 2 * n("half", 1, 35), FFN: n("ffn", 1, 130), Seq: 4, Tied: rapid.Bool().Draw(rt, "tied")})
}

func binaryOf(v, width int) string {
	s := ""
	for i := width - 1; i >= 0; i-- {
		s += string(rune('0' + v>>i&1))
	}
	return s
}

// twinGap is a Golomb code by its definition.
func twinGap(v, m int) string {
	b := 0
	for 1<<b < m {
		b++
	}
	s := strings.Repeat("1", v/m) + "0"
	if r, cut := v%m, 1<<b-m; r < cut {
		return s + binaryOf(r, max(0, b-1))
	} else {
		return s + binaryOf(r+cut, b)
	}
}

func twinM(real, keep int) int { return max(1, (177*real+128*keep)/(256*keep)) }

// twinChunk is one chunk as FORMAT.md has it.
func twinChunk(real, keep int, p Part) string {
	n, s := len(p.Idx), ""
	if keep > real/4 {
		marks := []byte(strings.Repeat("0", real))
		for _, i := range p.Idx {
			marks[i] = '1'
		}
		s = string(marks)
	} else {
		if s = "0"; n < keep {
			s = "1" + binaryOf(n, 13)
		}
		next := 0
		for _, i := range p.Idx {
			s += twinGap(int(i)-next, twinM(real, keep))
			next = int(i) + 1
		}
	}
	if n == 0 {
		return s
	}
	small := float32(math.Inf(1))
	for _, v := range p.Val {
		small = min(small, float32(math.Abs(float64(v))))
	}
	code := 0
	for math.Float32frombits(scales[code]) != small {
		code++
	}
	s += binaryOf(code, 8)
	for _, v := range p.Val {
		sign, large := 0, 0
		if v < 0 {
			sign = 1
		}
		if v != small && v != -small {
			large = 1
		}
		s += binaryOf(2*sign+large, 2)
	}
	return s
}

// twinPayload puts chunks together.
func twinPayload(l *model.Layout, k int, chunk func(i, real, keep int) string) []byte {
	hash := l.Hash()
	out := append([]byte("SN3P\x01"), hash[:]...)
	out = binary.BigEndian.AppendUint16(out, uint16(k))
	var footer []byte
	segment := ""
	for i := range l.Chunks() {
		real := l.Chunk(i).Len
		segment += chunk(i, real, min(max(1, k*real/4096), real))
		if i%1024 == 1023 || i == l.Chunks()-1 {
			raw := packBits(segment)
			out, footer, segment = append(out, raw...), binary.BigEndian.AppendUint32(footer, uint32(len(raw))), ""
		}
	}
	return append(out, footer...)
}

func packBits(s string) []byte {
	var out []byte
	for i, c := range s {
		if i%8 == 0 {
			out = append(out, 0)
		}
		out[i/8] |= byte(c-'0') << (7 - i%8)
	}
	return out
}

// Encoder, decoder and twin agree on every byte and value, on odd layouts and every k.
func TestCodecAgainstTwin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := odd(rt, t)
		k := rapid.OneOf(rapid.IntRange(1, 4096), rapid.IntRange(1, 200)).Draw(rt, "k")
		v := heavy(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), l.Params())
		clear(v[:rapid.IntRange(0, l.Params()).Draw(rt, "zeros")])
		raw, sent := encode(t, l, v, k)
		if twin := twinPayload(l, k, func(i, real, keep int) string { return twinChunk(real, keep, sent[i]) }); !bytes.Equal(twin, raw) {
			rt.Fatalf("k %d: %d bytes, the twin has %d", k, len(raw), len(twin))
		}
		p, err := NewCodec(l).Open(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			rt.Fatal(err)
		}
		idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
		for i := range l.Chunks() {
			n := p.Chunk(i, idx, val)
			if got := fmt.Sprint(idx[:n], val[:n]); got != fmt.Sprint(sent[i].Idx, sent[i].Val) || n > Keep(k, l.Chunk(i).Len) {
				rt.Fatalf("chunk %d decodes to %s, sent %v", i, got, sent[i])
			}
		}
		var again bytes.Buffer
		if _, err := p.WriteTo(&again); err != nil || !bytes.Equal(again.Bytes(), raw) {
			rt.Fatalf("written again: %v, equal %v", err, bytes.Equal(again.Bytes(), raw))
		}
	})
}

// Every value has one Golomb code, and the reader wants exactly that one.
func TestGolombAgainstTwin(t *testing.T) {
	for _, m := range []int{1, 2, 3, 5, 8, 44, 64, 2833} {
		for v := 0; v < 4096; v += 1 + v/40 {
			var w bitWriter
			g := newGolomb(m)
			g.put(&w, uint64(v))
			w.flush()
			want := packBits(twinGap(v, m))
			if !bytes.Equal(w.buf, want) {
				t.Fatalf("m %d: %d is %x, want %x", m, v, w.buf, want)
			}
			r := newBitReader(append(want, make([]byte, readPad)...), len(want))
			if got, ok := g.get(r, uint64(v+1)); !ok || got != uint64(v) || !r.done() {
				t.Fatalf("m %d: %d reads as %d, %v", m, v, got, ok)
			}
			r = newBitReader(append(want, make([]byte, readPad)...), len(want))
			if _, ok := g.get(r, uint64(v)); ok {
				t.Fatalf("m %d: %d was accepted below %d", m, v, v)
			}
		}
	}
}

// goldenPayloads are SHA-256 of payloads made from integers alone, so they hold on every platform.
func TestGoldenPayloads(t *testing.T) {
	l := tiny(t)
	for k, want := range map[int]string{
		64:   "4373e05a88286e24aa41f4dadae16b1675b2563a92cd4554c0afa90eca34b4a5",
		1500: "fd658386f99fc69e817dd7ba40d48251dd73174ec2744ae91f0e3e73af50ed3c",
	} {
		var b bytes.Buffer
		if _, err := fixed(l, k, 1).WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b.Bytes())); got != want {
			t.Errorf("k %d: %s, want %s", k, got, want)
		}
	}
}

// fixed makes a payload from integers: no float, no encoder.
func fixed(l *model.Layout, k int, seed uint64) *Payload {
	r := rand.New(rand.NewPCG(seed, uint64(k)))
	c := NewCodec(l)
	p := &Payload{codec: c, k: k, start: []int{0}}
	for i := range l.Chunks() {
		s := c.shape(i, k)
		n, left := r.IntN(s.keep+1), s.real
		p.scales = append(p.scales, 0)
		if n > 0 {
			p.scales[i] = byte(100 + r.IntN(40))
		}
		for x := range s.real { // n of real, uniformly
			if r.IntN(left) < n {
				p.idx, n = append(p.idx, uint16(x)), n-1
				p.codes = append(p.codes, byte(r.IntN(4)))
			}
			left--
		}
		if from := p.start[i]; from < len(p.codes) {
			p.codes[from] &^= 1
		}
		p.start = append(p.start, len(p.idx))
	}
	p.norm = p.measure()
	return p
}
