package main

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/internal/simnet"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/tokenizer"
	"sn3/scripts/localnet/netdir"
)

// folder writes a dataset as sn3 data pack does.
func folder(dir string, p *data.Packed) error {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		return err
	}
	for _, o := range p.Objects {
		if err := os.WriteFile(filepath.Join(dir, o.Key), o.Data, 0o600); err != nil {
			return err
		}
	}
	pin := data.Pin{Manifest: p.Spec.Manifest, Root: p.Spec.Root}
	return os.WriteFile(filepath.Join(dir, data.PinFile), pin.Encode(), 0o600)
}

func words(n int) []byte { return bytes.Repeat([]byte("the miner sends a payload to stake .\n"), n) }

// bpe is a dataset in tokens of a vocabulary of 300.
func bpe(train, held int) (*data.Packed, error) {
	file, err := simnet.BPE(append(words(1), "and waits for the window that a validator selected by gain"...), 300)
	if err != nil {
		return nil, err
	}
	p, _, err := simnet.Packed(&data.Corpus{Train: words(train), HeldOut: words(held)}, file)
	return p, err
}

// datasets writes those of the scripts below dir: bytes, bpe, bad (with a spoiled object), few (with too little to train on),
// and a preset for them, mine.json.
func datasets(dir string) error {
	plain, err := data.Pack(&data.Corpus{Train: words(100), HeldOut: words(100)})
	if err != nil {
		return err
	}
	small, err := bpe(100, 2000)
	if err != nil {
		return err
	}
	for name, p := range map[string]*data.Packed{"bytes": plain, "bpe": small, "few": small, "bad": small} {
		if err := folder(filepath.Join(dir, name), p); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bad", small.Objects[1].Key), nil, 0o600); err != nil {
		return err
	}
	p, err := preset.Open("small")
	if err != nil {
		return err
	}
	mine := bytes.Replace(p.Text(), []byte(`"vocab": 4096`), []byte(`"vocab": 300`), 1)
	return os.WriteFile(filepath.Join(dir, "mine.json"), mine, 0o600)
}

// A folder is opened with all its objects in the order in which they are to be uploaded: what names others last.
func TestOpenData(t *testing.T) {
	p, err := bpe(100, 100)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := folder(dir, p); err != nil {
		t.Fatal(err)
	}
	d, err := openData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.keys); n != len(p.Objects)+1 || d.keys[n-1] != data.PinFile || d.keys[n-2] != data.Key(p.Spec.Manifest) || d.spec.Root != p.Spec.Root {
		t.Errorf("%v of %+v", d.keys, d.spec)
	}
	if err := d.verify(t.Context(), voice{}); err != nil {
		t.Error(err)
	}
	tok, err := d.tokenizer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	line := words(1)
	if x, want := d.bytesPerToken(), float64(len(line))/float64(len(tok.Encode(nil, line))+1); math.Abs(x-want) > 1e-9 {
		t.Errorf("%.2f bytes a token, want about %.2f", x, want)
	}
	if err := os.Remove(filepath.Join(dir, p.Objects[0].Key)); err != nil { // the tokenizer
		t.Fatal(err)
	}
	if err := d.verify(t.Context(), voice{}); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("without its tokenizer: %v", err)
	}
}

// What does not hold a window's samples is refused with the figure that is short; one sample more will do.
func TestEnough(t *testing.T) {
	run, err := preset.Run("local", 24)
	if err != nil {
		t.Fatal(err)
	}
	samples := uint32(3 * run.Train.InnerSteps * run.Train.Batch) // two miners and the idle seat
	at := func(train, held uint32) error {
		m := &data.Manifest{Vocab: 256}
		seq := uint32(run.Model.Seq)
		m.Shards[data.Train], m.Shards[data.HeldOut] = []data.Shard{{Tokens: train*seq + 1}}, []data.Shard{{Tokens: held*seq + 1}}
		return (&source{manifest: m}).enough(run, 2)
	}
	if err := at(samples, evalSet); err != nil {
		t.Error(err)
	}
	for _, err := range []error{at(samples-1, evalSet), at(samples, evalSet-1)} {
		if !errors.Is(err, data.ErrTooSmall) || proc.ExitCode(err) != proc.ExitRefused {
			t.Errorf("%v", err)
		}
	}
}

// The same dataset may have moved; another one is refused.
func TestDataMoved(t *testing.T) {
	p, err := bpe(100, 100)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := folder(dir, p); err != nil {
		t.Fatal(err)
	}
	d, err := openData(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := config{data: d, set: map[string]bool{"data": true}}
	if err := sameSettings(c, netdir.Settings{Data: "/elsewhere", Dataset: p.Spec.Manifest.String()}); err != nil {
		t.Error(err)
	}
	if err := sameSettings(c, netdir.Settings{Data: dir, Dataset: p.Spec.Root.String()}); err == nil {
		t.Error("another dataset in the same folder was taken")
	}
}

// The count models of a text are the same whatever tokens it is cut into, as far as they predict the same bytes from the same
// context, and on bytes they are those of the dataset itself.
func TestBaselines(t *testing.T) {
	text := func(n int) []byte { // no two lines alike
		var b bytes.Buffer
		for i := range n {
			b.Write(words(1)[:20+i%17])
			b.WriteByte(byte('a' + i*i%26))
		}
		return b.Bytes()
	}
	c := &data.Corpus{Train: text(4000), HeldOut: text(700)}
	file, err := simnet.BPE(c.Train, 280)
	if err != nil {
		t.Fatal(err)
	}
	inTokens, _, err := simnet.Packed(c, file)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := data.Pack(c)
	if err != nil {
		t.Fatal(err)
	}
	var got [2]data.Baselines
	for i, p := range []*data.Packed{plain, inTokens} {
		d, err := data.Open(t.Context(), data.From(p), p.Spec, data.ReadOptions{Seq: 64})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := tokenizer.New("bytes")
		if i == 1 {
			tok, err = tokenizer.Parse(file)
		}
		if err != nil {
			t.Fatal(err)
		}
		set, err := d.HeldOut(t.Context(), []byte("seed"), int(d.Samples(data.HeldOut)))
		if err != nil {
			t.Fatal(err)
		}
		if got[i], err = baselines(t.Context(), d, tok, set); err != nil {
			t.Fatal(err)
		}
		if x := bytesPerToken(tok, set); i == 0 && x != 1 || i == 1 && x < 1.5 {
			t.Errorf("%.2f bytes a token", x)
		}
	}
	for _, x := range [][2]float64{{got[0].Order0, got[1].Order0}, {got[0].Bigram, got[1].Bigram}, {got[0].Order2, got[1].Order2}} {
		if math.Abs(x[0]-x[1]) > 0.02 || x[0] < 0.1 {
			t.Errorf("%.4f nats per byte in bytes, %.4f in tokens", x[0], x[1])
		}
	}
}

// The first token is context, whatever its length; what has no bytes gives none.
func TestInBytes(t *testing.T) {
	tok, err := tokenizer.New("bytes")
	if err != nil {
		t.Fatal(err)
	}
	b := inBytes(tok, 'a', []int32{'b', 'c'})
	if b.T != 2 || b.X[0] != 'a' || b.Y[0] != 'b' || b.Y[1] != 'c' {
		t.Errorf("%+v", b)
	}
	file, err := simnet.BPE(bytes.Repeat([]byte("abc abc "), 3), 259)
	if err != nil {
		t.Fatal(err)
	}
	if tok, err = tokenizer.Parse(file); err != nil {
		t.Fatal(err)
	}
	eos, _ := tok.EOS()
	long := tok.Encode(nil, []byte("abc"))[0]
	for _, c := range []struct {
		first int32
		rest  []int32
		x, y  []int32
	}{
		{long, []int32{'d'}, nil, nil},
		{eos, []int32{'d', eos}, []int32{0}, []int32{'d'}},
		{eos, []int32{eos}, []int32{}, []int32{}},
	} {
		b := inBytes(tok, c.first, c.rest)
		if c.x == nil { // all but the last byte of the context are not predicted
			known := len(tok.Decode(nil, []int32{long}))
			if len(b.Y) != known || b.Y[known-1] != 'd' || known > 1 && b.Y[0] != -100 {
				t.Errorf("%+v", b)
			}
			continue
		}
		if !equal(b, c.x, c.y) {
			t.Errorf("%+v", b)
		}
	}
}

func equal(b model.Batch, x, y []int32) bool {
	return bytes.Equal(asBytes(b.X), asBytes(x)) && bytes.Equal(asBytes(b.Y), asBytes(y)) && b.T == max(1, len(x))
}

func asBytes(ids []int32) []byte {
	out := make([]byte, len(ids))
	for i, id := range ids {
		out[i] = byte(id)
	}
	return out
}
