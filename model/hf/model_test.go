package hf

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"sn3/internal/golden"
	"sn3/model"
)

func initial(t testing.TB, c model.Config) *model.Flat {
	t.Helper()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(3)
	return w
}

// Validators sign the hash of what they export: it must be the same on every machine and in every version of this code.
func TestExportGolden(t *testing.T) {
	h := sha256.New()
	if err := WriteModel(h, initial(t, small()), F32, map[string]string{"format": "pt", "sn3.window": "7", "a": "b"}); err != nil {
		t.Fatal(err)
	}
	h.Write(Config(small(), F32))
	if got, want := hex.EncodeToString(h.Sum(nil)), "f76a85f982907b3060718654993eb37fb4186d6af01071f4a6129e54464f1ba2"; got != want {
		t.Errorf("the export hashes to %s, it was %s", got, want)
	}
}

// Tensors are in row-major order in the file: what the reader of another library sees.
func TestExportIsRowMajor(t *testing.T) {
	w := initial(t, small())
	var b bytes.Buffer
	if err := WriteModel(&b, w, F32, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if f.Metadata["format"] != "pt" {
		t.Errorf("metadata %v: older readers ask for the format", f.Metadata)
	}
	rows := make([]float32, len(w.Data))
	w.Rows(rows)
	for _, x := range w.Layout().Tensors() {
		got := make([]float32, x.Len())
		if err := f.Read(x.Name, 0, got); err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if v != rows[x.Off+i] {
				t.Fatalf("%s: element %d is %v, want %v", x.Name, i, v, rows[x.Off+i])
			}
		}
	}
}

// sparing is a Weights that refuses to give away more than limit values at once.
type sparing struct {
	model.Weights
	limit int
}

func (s sparing) Read(dst []float32, c model.ChunkRange) error {
	if len(dst) > s.limit {
		return errors.New("asked for too much at once")
	}
	return s.Weights.Read(dst, c)
}

// A model larger than the memory beside it can be exported: 64 rows at a time.
func TestExportStreams(t *testing.T) {
	c := small()
	c.Vocab, c.FFN = 3000, 700
	w := initial(t, c)
	if err := WriteModel(io.Discard, sparing{w, 64 * c.FFN}, F32, nil); err != nil {
		t.Error(err)
	}
	if err := WriteModel(io.Discard, sparing{w, 1}, F32, nil); err == nil {
		t.Error("an error of the weights was lost")
	}
}

// bfloat16 exports hold the rounded values; any shape survives both directions.
func TestExportImport(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, name) }
		kv := n("kv", 1, 2)
		c := model.Config{Vocab: n("V", 2, 150), Width: n("C", 1, 140), Layers: n("L", 1, 2), Heads: kv * n("group", 1, 3), KVHeads: kv, HeadDim: 2 * n("hd", 1, 12),
			FFN: n("F", 1, 140), Seq: 8, Tied: rapid.Bool().Draw(rt, "tied"), RopeTheta: 1e4, NormEps: 1e-5}
		w := initial(t, c)
		for _, dtype := range []DType{F32, BF16} {
			var b bytes.Buffer
			if err := WriteModel(&b, w, dtype, nil); err != nil {
				rt.Fatal(err)
			}
			got, err := ReadModel(bytes.NewReader(b.Bytes()), int64(b.Len()), c)
			if err != nil {
				rt.Fatal(err)
			}
			for i, v := range w.Data {
				if dtype == BF16 {
					v = math.Float32frombits(uint32(BF16Bits(v)) << 16)
				}
				if got.Data[i] != v {
					rt.Fatalf("%s: value %d is %v, want %v", dtype, i, got.Data[i], v)
				}
			}
		}
	})
}

func TestUnknownDType(t *testing.T) {
	if err := WriteModel(io.Discard, initial(t, small()), "F64", nil); err == nil {
		t.Error("accepted")
	}
}

// A small file with a configuration that asks for a terabyte is refused before anything is allocated.
func TestImportComparesBeforeItAllocates(t *testing.T) {
	var b bytes.Buffer
	if err := WriteModel(&b, initial(t, small()), F32, nil); err != nil {
		t.Fatal(err)
	}
	huge := small()
	huge.Vocab, huge.Width, huge.FFN = 1<<20, 1<<17, 1<<20
	more, less, untied := small(), small(), small()
	more.Layers, less.Layers, untied.Tied = 3, 1, false
	for name, c := range map[string]model.Config{"huge": huge, "a layer more": more, "a layer less": less, "untied": untied, "invalid": {}} {
		if _, err := ReadModel(bytes.NewReader(b.Bytes()), int64(b.Len()), c); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHalf(t *testing.T) {
	for h, want := range map[uint16]uint32{0: 0, 0x8000: 0x80000000, 0x3c00: 0x3f800000, 0xc000: 0xc0000000, 1: 0x33800000, 0x03ff: 0x387fc000, 0x0400: 0x38800000,
		0x7bff: 0x477fe000, 0x7c00: 0x7f800000, 0xfc00: 0xff800000} {
		if got := math.Float32bits(fromHalf(h)); got != want {
			t.Errorf("%04x: %08x, want %08x", h, got, want)
		}
	}
	if x := fromHalf(0x7e00); x == x {
		t.Errorf("7e00 is %v", x)
	}
}

// The reference's checkpoints load, and what we write of them has the same tensors bit for bit.
func TestReexportGolden(t *testing.T) {
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			dtype := F32
			if name == "bf16-weights" {
				dtype = BF16
			}
			checkReexport(t, golden.Case(t, "llama", name), dtype)
		})
	}
}

func checkReexport(t *testing.T, dir string, dtype DType) {
	c, w, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteModel(&b, w, dtype, nil); err != nil {
		t.Fatal(err)
	}
	ours, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	data := map[string][]byte{}
	for _, x := range c.Tensors() {
		data[x.Name] = rawTensor(t, b.Bytes(), ours.Entries[x.Name])
	}
	parts, err := filepath.Glob(filepath.Join(dir, "model*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		raw, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := Open(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		for name, e := range theirs.Entries {
			if e.DType != ours.Entries[name].DType || !bytes.Equal(rawTensor(t, raw, e), data[name]) {
				t.Errorf("%s is not what was read", name)
			}
			delete(data, name)
		}
	}
	if len(data) != 0 {
		t.Errorf("%d tensors more than the reference", len(data))
	}
}

// rawTensor is the bytes of a tensor, found with nothing but the header's length.
func rawTensor(t *testing.T, file []byte, e Entry) []byte {
	t.Helper()
	data := file[8+binary.LittleEndian.Uint64(file):]
	return data[e.From:e.To]
}

// Values may begin at any byte of a file.
func TestWidenAtAnyByte(t *testing.T) {
	for dtype, want := range map[string]float32{"F32": -2.0000002, "BF16": 3.140625, "F16": 0.33325195} {
		var one []byte
		switch dtype {
		case "F32":
			one = binary.LittleEndian.AppendUint32(nil, math.Float32bits(want))
		case "BF16":
			one = binary.LittleEndian.AppendUint16(nil, BF16Bits(want))
		case "F16":
			one = binary.LittleEndian.AppendUint16(nil, 0x3555)
		}
		for shift := range 8 {
			b := append(make([]byte, shift, 64), bytes.Repeat(one, 5)...)
			got := make([]float32, 5)
			widen(got, b[shift:], dtype)
			for i, x := range got {
				if x != want {
					t.Errorf("%s from byte %d: element %d is %v, want %v", dtype, shift, i, x, want)
				}
			}
		}
	}
}
