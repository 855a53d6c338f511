package main

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/internal/golden"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/hf"
	"sn3/model/tokenizer"
)

// What eval measures is the reference's loss on its own tokens.
func TestMeasureGolden(t *testing.T) {
	dir := golden.Case(t, "llama", "gqa-tied", "case.json")
	raw, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		IDs  [][]int32 `json:"input_ids"`
		Loss struct{ Float64 float64 }
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	b := model.Batch{B: len(g.IDs), T: len(g.IDs[0]) - 1}
	for _, row := range g.IDs {
		b.X, b.Y = append(b.X, row[:b.T]...), append(b.Y, row[1:]...)
	}
	s, err := openModel(dir, "gqa-tied")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.tok, err = tokenizer.New("bytes"); err != nil {
		t.Fatal(err)
	}
	m, err := s.measure(t.Context(), cpu.New(""), model.Options{Threads: 2}, []model.Batch{b})
	if err != nil || m.tokens != 84 || math.Abs(m.perToken()-g.Loss.Float64) > 5e-6 {
		t.Errorf("loss %.7f over %d tokens, want %.7f over 84: %v", m.perToken(), m.tokens, g.Loss.Float64, err)
	}
}

// Every token but the first is predicted once, after at most seq others, whatever the length of the text.
func TestTextIsCutOnce(t *testing.T) {
	dir := t.TempDir()
	if err := writeModels(dir); err != nil {
		t.Fatal(err)
	}
	s, err := openFolder(filepath.Join(dir, "tiny"), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	path := filepath.Join(dir, "text")
	for _, n := range []int{2, 3, 16, 17, 18, 33, 2048, 2049, 5000} {
		text := []byte(strings.Repeat("0123456789abcdefghij", n/20+1)[:n])
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := s.text(t.Context(), path, 16)
		if err != nil {
			t.Fatal(err)
		}
		var x, y []byte
		for _, b := range set {
			if b.T > 16 || len(b.X) != b.B*b.T || len(b.Y) != len(b.X) {
				t.Fatalf("%d bytes: a batch of %d×%d with %d and %d tokens", n, b.B, b.T, len(b.X), len(b.Y))
			}
			x, y = s.tok.Decode(x, b.X), s.tok.Decode(y, b.Y)
		}
		if string(x) != string(text[:n-1]) || string(y) != string(text[1:]) {
			t.Errorf("%d bytes: %d inputs and %d targets", n, len(x), len(y))
		}
	}
}

// A model that does not fit is refused with the field that most of the memory goes to.
func TestRoomFor(t *testing.T) {
	c := model.Config{Vocab: 128256, Width: 4096, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128, FFN: 14336, Seq: 131072, RopeTheta: 5e5, NormEps: 1e-5}
	small := c
	small.Layers = 1
	for _, x := range []struct {
		c            model.Config
		beyond, free int64
		says         string
	}{
		{c, 0, 1 << 36, ""},
		{c, 0, math.MaxInt64, ""},
		{c, 0, 1 << 34, "num_hidden_layers 32 (26.00 GiB)"},
		{c, 1 << 40, 1 << 36, "max_position_embeddings 131072"},
		{small, 0, 1 << 30, "vocab_size 128256"},
	} {
		err := roomFor(x.c, x.beyond, x.free)
		if (err == nil) != (x.says == "") || err != nil && !strings.Contains(err.Error(), x.says) {
			t.Errorf("free %d: %v, want %q", x.free, err, x.says)
		}
	}
	if freeMemory() < 1 {
		t.Error("this test runs without memory")
	}
}

// sized is an engine of which only the size is known.
type sized func(c model.Config, batch int) model.Need

func (s sized) Need(c model.Config, _ model.Options, batch int, train bool) model.Need {
	return s(c, batch)
}

// Decoding takes keys and values of the whole text, and the engine's room for a part of a prompt; a second copy of the
// parameters, as engines that compute in bfloat16 have, counts.
func TestDecodeNeed(t *testing.T) {
	c := model.Config{Vocab: 100, Width: 10, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 6, FFN: 40, Seq: 8192, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	p := int64(c.Params())
	for seq, rows := range map[int]int64{5: 5, 128: 128, 4096: 128} {
		e := sized(func(c model.Config, batch int) model.Need {
			return model.Need{Params: 6 * p, Acts: int64(1000 * c.Seq * batch)}
		})
		if got, want := decodeNeed(e, c, model.Options{}, seq), 2*p+1000*rows+int64(2*4*3*seq*12); got != want {
			t.Errorf("%d tokens: %d bytes, want %d", seq, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"5GB": 5e9, "500 mb": 5e8, "2GiB": 2 << 30, "1.5KB": 1500, "17": 17, "17B": 17, "": 0, "GB": 0, "-1GB": 0, "0": 0, "NaN": 0, "1e30GB": 0, "5TB": 0} {
		got, err := parseSize(s)
		if got != want || (err == nil) != (want > 0) || err != nil && proc.ExitCode(err) != proc.ExitUsage {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
}

// A tokenizer may be a little smaller than the model, never larger.
func TestFits(t *testing.T) {
	tok, err := tokenizer.New("bytes")
	if err != nil {
		t.Fatal(err)
	}
	for vocab, ok := range map[int]bool{255: false, 256: true, 270: true, 300: false, 32000: false} {
		if err := fits(model.Config{Vocab: vocab}, tok); (err == nil) != ok {
			t.Errorf("vocabulary %d: %v", vocab, err)
		}
	}
}

// Weights with a hole are not imported: no run could start from them. The tensor is named.
func TestImportRefusesNaN(t *testing.T) {
	dir := t.TempDir()
	c := model.Config{Vocab: 256, Width: 24, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 6, FFN: 40, Seq: 64, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]float32{"nan": float32(math.NaN()), "inf": float32(math.Inf(-1))} {
		w := model.NewFlat(l)
		w.Data[l.Tensors()[2].Off+5] = bad
		src, out := filepath.Join(dir, name), filepath.Join(dir, name+"-out")
		if err := hf.Save(t.Context(), src, w, hf.SaveOptions{DType: hf.F32}); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"import": importFolder(t.Context(), src, out), "export": exportFolder(t.Context(), src, out, hf.SaveOptions{DType: hf.BF16})} {
			if !errors.Is(err, hf.ErrFormat) || proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), l.Tensors()[2].Name) {
				t.Errorf("%s of %s: %v", what, name, err)
			}
		}
		if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written: %v", name, err)
		}
	}
	w, src := model.NewFlat(l), filepath.Join(dir, "large") // finite, but not in bfloat16
	w.Data[l.Tensors()[2].Off+5] = -math.MaxFloat32
	if err := hf.Save(t.Context(), src, w, hf.SaveOptions{DType: hf.F32}); err != nil {
		t.Fatal(err)
	}
	if err := importFolder(t.Context(), src, filepath.Join(dir, "large-f32")); err != nil {
		t.Error(err)
	}
	if err := exportFolder(t.Context(), src, filepath.Join(dir, "large-bf16"), hf.SaveOptions{DType: hf.BF16}); !errors.Is(err, hf.ErrFormat) ||
		!strings.Contains(err.Error(), l.Tensors()[2].Name+" holds -3.4028235e+38, which is not finite in BF16") {
		t.Errorf("export of a value that bfloat16 does not have: %v", err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(proc.ErrInterrupted)
	if err := importFolder(ended, filepath.Join(dir, "nan"), filepath.Join(dir, "x")); !errors.Is(err, proc.ErrInterrupted) {
		t.Errorf("an interrupted import: %v", err)
	}
}
