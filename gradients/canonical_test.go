package gradients

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"sn3/model"
)

// What the decoder takes and what it refuses: one form per content, total, bounded in memory.

func TestEveryTamperedByteIsRefusedOrDiffers(t *testing.T) {
	l := tiny(t)
	for _, k := range []int{64, 1500} {
		raw, _ := encode(t, l, heavy(rand.New(rand.NewPCG(1, 2)), l.Params()), k)
		for i := 0; i < len(raw); i += 1 + k/500 {
			for _, flip := range []byte{1, 0x80} {
				b := append([]byte(nil), raw...)
				b[i] ^= flip
				checkCanonical(t, l, b)
			}
		}
		for _, b := range [][]byte{nil, raw[:len(raw)-1], raw[:40], append(append([]byte(nil), raw...), 0)} {
			if _, err := NewCodec(l).Open(bytes.NewReader(b), int64(len(b))); err == nil {
				t.Errorf("%d of %d bytes were accepted", len(b), len(raw))
			}
		}
	}
}

// Each form that putChunk does not write is refused, with the reason.
func TestNonCanonicalForms(t *testing.T) {
	l := tiny(t)
	const k = 64 // chunk 0 has 4096 values, keeps 64, m 44; chunk 1 (64×5) has 320, keeps 5
	empty := func(_, real, keep int) string { return twinChunk(real, keep, Part{}) }
	with := func(first string) []byte {
		return twinPayload(l, k, func(i, real, keep int) string {
			if i == 0 {
				return first
			}
			return empty(i, real, keep)
		})
	}
	one := func(n int) string { return "1" + binaryOf(n, 13) }
	full := "0" + strings.Repeat(twinGap(0, 44), 64)
	good := with(one(1) + twinGap(4095, 44) + binaryOf(100, 8) + "00")
	if _, err := NewCodec(l).Open(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Fatal(err)
	}
	last := len(good) - 4*NewCodec(l).segments() - 1
	full1500, _ := encode(t, l, heavy(rand.New(rand.NewPCG(1, 2)), l.Params()), 1500)
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"count spelled out although full":  {with(one(64) + full[1:] + binaryOf(100, 8) + strings.Repeat("00", 64)), "chunk 0: count 64"},
		"more than k":                      {with(one(65) + strings.Repeat(twinGap(0, 44), 65)), "chunk 0: count 65"},
		"count beyond 4096":                {with(one(8191)), "chunk 0: count 8191"},
		"index beyond the chunk":           {with(one(1) + twinGap(4096, 44) + binaryOf(100, 8) + "00"), "chunk 0: index beyond"},
		"unary without end":                {with(one(1) + strings.Repeat("1", 5000)), "chunk 0: index beyond"},
		"only large values":                {with(one(1) + twinGap(0, 44) + binaryOf(100, 8) + "01"), "chunk 0: only large"},
		"a one in the padding":             {flip(good, last, 1), "padded with ones"},
		"a byte too much":                  {insert(good, last+1, 0), "between segments and footer"},
		"a byte too much in the segment":   {insertCounted(good, last+1), "left over"},
		"another layout":                   {flip(good, 10, 1), "another model layout"},
		"k 0":                              {set(good, 38, 0), "k 0"},
		"k beyond 4096":                    {set(good, 37, 255), "k 65"},
		"another version":                  {flip(good, 4, 3), "not a payload"},
		"another magic":                    {flip(good, 0, 32), "not a payload"},
		"scale of an empty chunk":          {with(one(0) + binaryOf(100, 8)), ""},
		"values without a scale":           {with(one(1) + twinGap(0, 44) + "00"), ""},
		"index twice in the bits left":     {with(one(2) + twinGap(4095, 44) + twinGap(0, 44) + binaryOf(100, 8) + "0000"), "chunk 0: index beyond"},
		"bitmap where gaps are due":        {with("1" + strings.Repeat("0", 4094) + "1" + binaryOf(100, 8) + "0000"), "left over"},
		"gaps where a bitmap is due":       {twinPayload(l, 1500, func(_, _, _ int) string { return "0" + strings.Repeat(twinGap(0, 2), 1500) }), ""},
		"k lower than it was made with":    {set(full1500, 37, 0), "at most"},
		"cut in the footer":                {good[:len(good)-1], ""},
		"footer says too little":           {set(good, len(good)-1, good[len(good)-1]-1), ""},
		"footer of another length":         {append(append([]byte(nil), good...), 0, 0, 0, 0), ""},
		"segment length beyond the end":    {set(good, len(good)-4, 255), "beyond the end"},
		"longer than any payload can be":   {make64(good), "at most"},
		"bitmap with more values than may": {twinPayload(l, 1500, func(_, real, _ int) string { return strings.Repeat("1", real) }), "at most"},
	} {
		_, err := NewCodec(l).Open(bytes.NewReader(c.raw), int64(len(c.raw)))
		var d *DecodeError
		if !errors.As(err, &d) || !strings.Contains(d.Reason, c.want) {
			t.Errorf("%s: %v, want a DecodeError about %q", name, err, c.want)
		}
	}
}

func flip(b []byte, at int, x byte) []byte { return set(b, at, b[at]^x) }

func set(b []byte, at int, x byte) []byte {
	out := append([]byte(nil), b...)
	out[at] = x
	return out
}

func insert(b []byte, at int, x byte) []byte {
	return append(append(append([]byte(nil), b[:at]...), x), b[at:]...)
}

// insertCounted adds a zero byte to the only segment and to its length.
func insertCounted(b []byte, at int) []byte {
	out := insert(b, at, 0)
	out[len(out)-1]++
	return out
}

func make64(b []byte) []byte { return append(append([]byte(nil), b[:39]...), make([]byte, 1<<16)...) }

// checkCanonical: what decodes encodes to the same bytes and is what a payload may be; what does not is a DecodeError.
func checkCanonical(t testing.TB, l *model.Layout, b []byte) {
	t.Helper()
	p, err := NewCodec(l).Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		var d *DecodeError
		if !errors.As(err, &d) {
			t.Fatalf("error of another kind: %v", err)
		}
		return
	}
	var again bytes.Buffer
	if _, err := p.WriteTo(&again); err != nil || !bytes.Equal(again.Bytes(), b) {
		t.Fatalf("decodes, but encodes to other bytes (%v)", err)
	}
	idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
	for i := range l.Chunks() {
		n, last := p.Chunk(i, idx, val), -1
		if n > Keep(p.K(), l.Chunk(i).Len) {
			t.Fatalf("chunk %d has %d values at k %d", i, n, p.K())
		}
		for j := range n {
			if int(idx[j]) <= last || int(idx[j]) >= l.Chunk(i).Len {
				t.Fatalf("chunk %d: index %d after %d", i, idx[j], last)
			}
			last = int(idx[j])
			if m := math.Abs(float64(val[j])); !(m >= 0x1p-28 && m < 32) {
				t.Fatalf("chunk %d: value %v", i, val[j])
			}
		}
	}
	if n := p.Norm(); !(n >= 0) || math.IsInf(n, 0) || (n == 0) != (p.Stats().Kept == 0) {
		t.Fatalf("norm %v of %d values", n, p.Stats().Kept)
	}
}

// Hostile payloads promise much: whatever they say, no more is allocated than the comment on Open allows.
func TestOpenAllocatesWithinBound(t *testing.T) {
	l := local(t)
	c := NewCodec(l)
	header := func(k int) []byte { return twinPayload(l, k, func(int, int, int) string { return "" })[:payloadHead] }
	ones := func(k int, n int64, segment uint32) []byte {
		b := append(header(k), bytes.Repeat([]byte{0xff}, int(n))...)
		return append(b, byte(segment>>24), byte(segment>>16), byte(segment>>8), byte(segment))
	}
	honest, _ := encode(t, l, heavy(rand.New(rand.NewPCG(1, 2)), l.Params()), 4096)
	for name, x := range map[string]struct {
		raw  []byte
		size int64
	}{
		"says it is a terabyte":      {ones(4096, 10, 10), 1 << 40},
		"says it is all there is":    {ones(4096, 10, 10), math.MaxInt64},
		"negative":                   {ones(4096, 10, 10), -1},
		"segment of 4 GiB":           {ones(4096, 10, math.MaxUint32), 0},
		"every index at once":        {ones(4096, c.MaxLen(4096)-payloadHead-4, uint32(c.MaxLen(4096)-payloadHead-4)), 0},
		"every index, few may":       {ones(1025, c.MaxLen(1025)-payloadHead-4, uint32(c.MaxLen(1025)-payloadHead-4)), 0},
		"unary without end":          {ones(64, c.MaxLen(64)-payloadHead-4, uint32(c.MaxLen(64)-payloadHead-4)), 0},
		"short, but with a large k":  {ones(4096, 100, 100), 0},
		"the longest there is":       {honest, 0},
		"k far beyond":               {ones(65535, 100, 100), 0},
		"longer than this k permits": {ones(1, 1<<20, 1<<20), 0},
	} {
		if x.size == 0 {
			x.size = int64(len(x.raw))
		}
		limit := uint64(20*min(max(x.size, 0), c.MaxLen(4096)) + 16*int64(l.Chunks()) + 4096)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, err := c.Open(bytes.NewReader(x.raw), x.size)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > limit {
			t.Errorf("%s: allocated %d bytes for %d, at most %d", name, got, x.size, limit)
		}
		if (err == nil) != (name == "the longest there is" || name == "every index at once") {
			t.Errorf("%s: %v", name, err)
		}
		runtime.KeepAlive(p)
	}
}

func FuzzOpen(f *testing.F) {
	l := tiny(f)
	for _, k := range []int{1, 64, 1500} {
		raw, _ := encode(f, l, heavy(rand.New(rand.NewPCG(uint64(k), 2)), l.Params()), k)
		f.Add(raw)
	}
	empty, _ := encode(f, l, make([]float32, l.Params()), 64)
	f.Add(empty)
	for _, b := range [][]byte{nil, empty[:payloadHead], empty[:len(empty)-1], append(empty[:len(empty):len(empty)], 0), flip(empty, len(empty)-5, 1), set(empty, 37, 16)} {
		f.Add(b)
	}
	full, _ := encode(f, l, heavy(rand.New(rand.NewPCG(3, 2)), l.Params()), 4096)
	f.Add(full)
	f.Fuzz(func(t *testing.T, b []byte) { checkCanonical(t, l, b) })
}
