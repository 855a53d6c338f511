package hf

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sn3/internal/golden"
	"sn3/model"
)

func small() model.Config {
	return model.Config{Vocab: 70, Width: 66, Layers: 2, Heads: 3, KVHeads: 1, HeadDim: 22, FFN: 65, Seq: 8, Tied: true, RopeTheta: 5e5, NormEps: 1e-5}
}

// What is written is read back bit for bit, and written again gives the same bytes.
func TestRoundTrip(t *testing.T) {
	l, err := model.NewLayout(small())
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(3)
	dir := t.TempDir()
	var b bytes.Buffer
	if err := WriteModel(&b, w, F32, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"model.safetensors": b.Bytes(), "config.json": Config(small(), F32)} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, got, err := OpenDir(dir)
	if err != nil || c != small() {
		t.Fatalf("config %+v, %v", c, err)
	}
	for i := range w.Data {
		if got.Data[i] != w.Data[i] {
			t.Fatalf("value %d: %v, want %v", i, got.Data[i], w.Data[i])
		}
	}
	var again bytes.Buffer
	if err := WriteModel(&again, got, F32, map[string]string{"format": "pt"}); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
		t.Fatalf("written again: %v", err)
	}
}

func TestBF16(t *testing.T) {
	for _, c := range []struct {
		in   uint32
		want uint16
	}{{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x7f7f8000, 0x7f80}, {0x7fc12345, 0x7fc0}, {0x80000001, 0x8000}} {
		if got := BF16Bits(math.Float32frombits(c.in)); got != c.want {
			t.Errorf("%08x: %04x, want %04x", c.in, got, c.want)
		}
	}
}

func TestBF16Golden(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(golden.Case(t, "llama", "bf16"), "f32_to_bf16.bin"))
	if err != nil || len(b) != 8*4100 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	for i := 0; i+8 <= len(b); i += 8 {
		in := binary.LittleEndian.Uint32(b[i:])
		if got, want := BF16Bits(math.Float32frombits(in)), binary.LittleEndian.Uint16(b[i+4:]); got != want {
			t.Fatalf("%08x: %04x, want %04x", in, got, want)
		}
	}
}

// stricter are the files that the reference reads and we refuse; why is said at Open.
var stricter = []string{"duplicate-key-same", "duplicate-key-differs", "metadata-duplicate-inner", "header-leading-space", "extra-field", "metadata-null"}

// Every verdict of the reference, and where it reads a file, every tensor and the metadata that it found; mapped and read.
func TestBadSafetensorsGolden(t *testing.T) {
	dir := golden.Case(t, "llama", "safetensors-bad", "cases.json")
	raw, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []badCase
	if err := json.Unmarshal(raw, &cases); err != nil || len(cases) != 70 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	refused := 0
	for _, c := range cases {
		b, err := os.ReadFile(filepath.Join(dir, c.File))
		if err != nil {
			t.Fatal(err)
		}
		read, err := Open(bytes.NewReader(b), int64(len(b)))
		mapped, err2 := OpenFile(filepath.Join(dir, c.File))
		accident := slices.Contains(stricter, strings.TrimSuffix(c.File, ".safetensors"))
		if ok := c.Verdict == "ok" && !accident; ok != (err == nil) || ok != (err2 == nil) {
			t.Errorf("%s: the reference says %s, we say %v reading and %v mapping", c.File, c.Verdict, err, err2)
		}
		if err != nil || err2 != nil {
			if !errors.Is(err, ErrFormat) || !errors.Is(err2, ErrFormat) {
				t.Errorf("%s: refused for another reason: %v, %v", c.File, err, err2)
			}
			refused++
			continue
		}
		c.compare(t, read, b)
		c.compare(t, mapped, b)
		if err := mapped.Close(); err != nil {
			t.Error(err)
		}
	}
	if refused != len(cases)-12 {
		t.Errorf("%d of %d files refused", refused, len(cases))
	}
}

// badCase is one file and what the reference says of it.
type badCase struct {
	File, Verdict string
	Tensors       map[string][3]any // dtype, shape, data in hex
	Metadata      map[string]string
}

func (c badCase) compare(t *testing.T, f *File, raw []byte) {
	t.Helper()
	if len(f.Entries) != len(c.Tensors) || !maps.Equal(f.Metadata, c.Metadata) {
		t.Errorf("%s: %d tensors and metadata %v, the reference has %d and %v", c.File, len(f.Entries), f.Metadata, len(c.Tensors), c.Metadata)
	}
	for name, want := range c.Tensors {
		e := f.Entries[name]
		shape, err := json.Marshal(append([]uint64{}, e.Shape...))
		wantShape, err2 := json.Marshal(want[1])
		if err != nil || err2 != nil || e.DType != want[0] || !bytes.Equal(shape, wantShape) || hex.EncodeToString(rawTensor(t, raw, e)) != want[2] {
			t.Errorf("%s: tensor %q is %+v, want %v (%v, %v)", c.File, name, e, want, err, err2)
		}
	}
}

// file puts a header in front of n bytes of data.
func file(head string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	return append(append(b, head...), make([]byte, n)...)
}

// What encoding/json alone would let pass, and what is odd but valid.
func TestStrictHeader(t *testing.T) {
	for _, c := range []struct {
		name, head string
		data       int
		ok         bool
	}{
		{"plain", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4, true},
		{"a space before the brace", ` {"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4, false},
		{"spaces everywhere else", `{ "__metadata__" : { "k" : "v" } , "a" : { "dtype" : "F32" , "shape" : [ 1 ] , "data_offsets" : [ 0 , 4 ] } } `, 4, true},
		{"escaped name", `{"\u0061":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"__metadata__":{"k":"v","K":"w"}}`, 1, true},
		{"metadata key twice", `{"__metadata__":{"k":"v","k":"v"}}`, 0, false},
		{"metadata key escaped twice", `{"__metadata__":{"k":"v","\u006b":"w"}}`, 0, false},
		{"metadata null", `{"__metadata__":null}`, 0, false},
		{"one more field", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"scale":2}}`, 4, false},
		{"field in capitals", `{"a":{"DTYPE":"F32","shape":[1],"data_offsets":[0,4]}}`, 4, false},
		{"null dtype", `{"a":{"dtype":null,"shape":[1],"data_offsets":[0,4]}}`, 4, false},
		{"null dimension", `{"a":{"dtype":"F32","shape":[null],"data_offsets":[0,0]}}`, 0, false},
		{"null offset", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[null,4]}}`, 4, false},
		{"quoted offset", `{"a":{"dtype":"F32","shape":[1],"data_offsets":["0",4]}}`, 4, false},
		{"negative zero", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}`, 4, false},
		{"entry is a list", `{"a":["F32",[1],[0,4]]}`, 4, false},
		{"null metadata value", `{"__metadata__":{"k":null}}`, 0, false},
		{"metadata null twice", `{"__metadata__":null,"__metadata__":null}`, 0, false},
		{"name escaped twice", `{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, 1, false},
		{"lone surrogate", `{"\ud800":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, 1, false},
		{"as many dimensions as torch has", `{"a":{"dtype":"U8","shape":[` + strings.Repeat("1, ", 63) + `1],"data_offsets":[0,1]}}`, 1, true},
		{"a thousand dimensions", `{"a":{"dtype":"U8","shape":[` + strings.Repeat("1,", 1023) + `1],"data_offsets":[0,1]}}`, 1, false},
		{"the longest header", `{}` + strings.Repeat(" ", maxHeader-2), 0, true},
		{"a longer header", `{}` + strings.Repeat(" ", maxHeader-1), 0, false},
		{"broken UTF-8", "{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, false},
	} {
		b := file(c.head, c.data)
		if _, err := Open(bytes.NewReader(b), int64(len(b))); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	l, err := model.NewLayout(small())
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteModel(&b, model.NewFlat(l), F32, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes()[:2000])
	f.Add(file(`{}`, 0))
	f.Add(file(`{"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[1,5]},"b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}`, 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for name, e := range file.Entries { // a checked file can be read wherever it says
			n := (e.To - e.From) * 8 / widths[e.DType]
			if err := file.Read(name, 0, make([]float32, n)); e.readable() != (err == nil) {
				t.Fatalf("%+v: %v", e, err)
			}
			if err := file.Read(name, 0, make([]float32, n+1)); err == nil {
				t.Fatalf("%+v was read past its end", e)
			}
		}
	})
}
