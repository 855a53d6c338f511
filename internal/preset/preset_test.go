package preset

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/spec"
)

// complete fills in what only a network knows.
func complete(r *chain.Run) *chain.Run {
	r.Network, r.Dataset = "n", chain.DatasetSpec{Locator: []byte{1, 'd'}, Manifest: chain.Hash{1}, Root: chain.Hash{2}}
	if r.Tokenizer == "" {
		r.Tokenizer = strings.Repeat("ab", 32)
	}
	return r
}

// Every preset becomes a valid run with what only a network knows, whatever the number of windows; its k and learning rate
// are defined for every window, and encoding gives it back.
func TestPresets(t *testing.T) {
	files, err := embedded.ReadDir("presets")
	if err != nil || len(files) != len(Names()) {
		t.Errorf("%d files, %d names, %v", len(files), len(Names()), err)
	}
	for _, name := range Names() {
		p, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Bytes != slices.Contains(Local(), name) {
			t.Errorf("%s: bytes %v", name, p.Bytes)
		}
		for _, windows := range []int{-1, 0, 1, 23, 24, 67, 1000} {
			if windows > 0 && !p.Bytes { // their warm-up alone is longer than some of these
				windows += 10_000
			}
			r, err := p.Run(windows)
			if err != nil {
				t.Fatal(err)
			}
			if err := complete(r).Validate(); err != nil {
				t.Errorf("%s, %d windows: %v", name, windows, err)
			}
			if want := max(windows, LeastWindows) * r.Train.InnerSteps; windows > 0 && r.Train.Total != want {
				t.Errorf("%s, %d windows: learning rate planned for %d steps", name, windows, r.Train.Total)
			}
			if p.Bytes && r.Tempo != 2*r.Schedule.Length {
				t.Errorf("%s: tempo %d, window %d blocks", name, r.Tempo, r.Schedule.Length)
			}
			for w := range chain.Window(100) {
				if k := r.Payload.At(w); k < 1 || k > 4096 {
					t.Errorf("%s: k %d in window %d", name, k, w)
				}
			}
			back, err := chain.ParseRun(r.Encode())
			if err != nil || back.Hash() != r.Hash() {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The descriptors of local networks are byte for byte those of the build before presets were files, but for the version of
// the descriptor itself. Another hash is another network.
func TestLocalRunsAreUnchanged(t *testing.T) {
	for _, c := range []struct {
		name    string
		windows int
		hash    string
	}{
		{"local", -1, "be83df25701f2bff45645785bc6a8387168060cf1ba3df689144a4d021553806"},
		{"local", 0, "be83df25701f2bff45645785bc6a8387168060cf1ba3df689144a4d021553806"},
		{"local", 1, "7e22251dfe2061a3fc431798aa98aadce811b31906999b9a6f2b07e2530439f6"},
		{"local", 30, "6062ab3afde0b3909b433f0b02e8d116b8aaa18dd447e90cbd485f345ad2da26"},
		{"local", 1000, "e59187a7dc6e1a5de1d29f312530c5c3b933a501585f8f5a3ed0486f7a3ee3e2"},
		{"wire", -1, "2d43645af86565ee8af05d5fe6f67b0cf2ce2d66a920cf023ef6621a5d21ec36"},
		{"wire", 24, "b9734032fac35a459423c788d5d0c837589b0dda84c123d6d2a8b10844a271f3"},
		{"wire", 1000, "50bedbcf1d1b678f5923c7d909c0f73c26bc53ad0b4618602f8815fb18ed37dc"},
	} {
		r, err := Run(c.name, c.windows)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Hash().String(); got != c.hash {
			t.Errorf("%s, %d windows: %s, want %s: %s", c.name, c.windows, got, c.hash, r.Encode())
		}
	}
}

// Parameter counts: local by hand in notes and README, 8m that of the bench, the Llamas as their model cards say.
func TestParameters(t *testing.T) {
	want := map[string]int64{"local": 885_888, "wire": 885_888, "small": 2_557_632, "8m": 8_391_936, "40m": 40_020_480, "160m": 162_220_800,
		"1b": 1_235_814_400, "8b": 8_030_261_248, "70b": 70_553_706_496}
	for _, name := range Names() {
		r, err := Run(name, 0)
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		for _, x := range spec.Config(r.Model).Tensors() {
			n += int64(x.Len())
		}
		if n != want[name] {
			t.Errorf("%s has %d parameters, want %d", name, n, want[name])
		}
	}
}

// The figures that the notes and the README give.
func TestFigures(t *testing.T) {
	local, err := Run("local", 24)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := Run("wire", 24)
	if err != nil {
		t.Fatal(err)
	}
	if m := local.Model; m.Vocab != 256 || m.Width != 128 || m.Layers != 4 || m.Heads != 4 || m.FFN != 384 || m.Seq != 128 || !m.Tied {
		t.Errorf("local: %+v", m)
	}
	if k := wire.Payload.At(0); k != 64 || wire.Payload.At(66) != 64 {
		t.Errorf("wire: k %d", k)
	}
	if wire.Model != local.Model {
		t.Error("wire trains another model than local")
	}
	if a, b := local.Outer.Alpha, wire.Outer.Alpha; math.Abs(a-1) > 0 || math.Abs(b-2) > 0 {
		t.Errorf("alpha %v, %v; the rule needs 1 at k 1024 and 2 at k 64", a, b)
	}
	if _, err := Run("huge", 24); err == nil || !strings.Contains(err.Error(), "[local wire small 8m 40m 160m 1b 8b 70b]") || !strings.Contains(err.Error(), "./huge.json") {
		t.Errorf("unknown preset: %v", err)
	}
}

// What Run gives belongs to the caller.
func TestRunsShareNothing(t *testing.T) {
	p, err := Open("1b")
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.Run(0)
	if err != nil {
		t.Fatal(err)
	}
	a.Payload.K[0].K, a.Model.Rope.Factor = 1, 1
	copy(p.Text(), "no JSON")
	b, err := p.Run(0)
	if err != nil || b.Payload.K[0].K != 64 || b.Model.Rope.Factor < 32 || p.Text()[0] != '{' {
		t.Errorf("%+v, %v", b, err)
	}
}

// A file that a user copied and changed is read as an embedded one is; its name carries its content.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.json")
	put := func(old, new string) {
		p, err := Open("local")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(p.Text()), old, new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("", "")
	p, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Run(24)
	if err != nil {
		t.Fatal(err)
	}
	if local, err := Run("local", 24); err != nil || r.Hash() != local.Hash() {
		t.Errorf("a copy of local is another run, %v", err)
	}
	put(`"width": 128`, `"width": 64`)
	q, err := Open(path)
	if err != nil || q.Name == p.Name || !strings.HasPrefix(q.Name, path+" (") {
		t.Errorf("%s and %s, %v", p.Name, q.Name, err)
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "no preset") {
		t.Errorf("a large file: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.json")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}

// Every way to get a preset wrong is refused with the name of what is wrong.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown field", `"seq": 128`, `"seq": 128, "dropout": 0`, "there is no field model.dropout; model has vocab, width"},
		{"unknown top field", `"rules"`, `"rulse"`, "there is no field rulse; a preset has about, model"},
		{"other capitals", `"lr": 0.002`, `"LR": 0.002`, "there is no field train.LR"},
		{"field of an element", `{"from": 0, "k": 1024}`, `{"from": 0, "keep": 1024}`, "there is no field payload.k.keep"},
		{"said twice", `"lr": 0.002`, `"lr": 0.002, "lr": 0.003`, "train.lr is said twice"},
		{"missing", `"beta1": 0.9, `, ``, "missing: train.beta1"},
		{"missing in an element", `{"from": 0, "k": 1024}`, `{"from": 0}`, "missing: payload.k.k"},
		{"missing part", `"rules": {"gather": 15, "shards": 1},`, ``, "missing: rules"},
		{"null", `"lr": 0.002`, `"lr": null`, "train.lr is null"},
		{"null part", `{"gather": 15, "shards": 1}`, `null`, "rules is null"},
		{"text for a number", `"lr": 0.002`, `"lr": "0.002"`, "train.lr"},
		{"list for an object", `{"gather": 15, "shards": 1}`, `[15, 1]`, "rules is of another kind"},
		{"fraction", `"inner_steps": 10`, `"inner_steps": 10.5`, "train.inner_steps"},
		{"overflow", `"lr": 0.002`, `"lr": 1e400`, "train.lr"},
		{"no JSON", `"rules"`, `rules`, "not JSON at byte"},
		{"cut", `  }` + "\n}\n", ``, "EOF"},
		{"trailing", `  }` + "\n}\n", "  }\n}\n{}", "something follows"},
		{"comment on nothing", `"train.lr":`, `"train.learning_rate":`, `why."train.learning_rate" explains a field that is not there`},
		{"comment twice", `"train.lr":`, `"model":`, `why."model" is said twice`},
		{"no about", `"about": "0.9`, `"about": "", "why": {"x": "`, "of another kind|about|why|not JSON"},
		{"heads", `"heads": 4, "kv_heads": 4`, `"heads": 4, "kv_heads": 3`, "4 heads are not a multiple of 3"},
		{"odd head", `"head_dim": 32`, `"head_dim": 31`, "head dimension 31"},
		{"no layers", `"layers": 4`, `"layers": 0`, "layers 0"},
		{"vocabulary", `"vocab": 256`, `"vocab": 4096`, `model.vocab is 4096, but the tokenizer "bytes" has 256`},
		{"tokenizer", `"tokenizer": "bytes"`, `"tokenizer": "llama"`, `tokenizer "llama"`},
		{"schedule", `"score_by": 4`, `"score_by": 1`, "deadline < score_by"},
		{"unknown schedule", `"schedule": "wsd"`, `"schedule": "linear"`, `"linear"`},
		{"decay with cosine", `"schedule": "wsd"`, `"schedule": "cosine"`, "train.decay 0.3 belongs to the schedule wsd"},
		{"warm-up into the decay", `"warmup": 50`, `"warmup": 500`, "train.warmup 500 ends after the learning rate begins to fall"},
		{"floor above the peak", `"min_lr": 0.1`, `"min_lr": 1.5`, "train.min_lr 1.5"},
		{"beta", `"beta2": 0.95`, `"beta2": 1`, "train.beta2 1"},
		{"negative", `"clip": 1`, `"clip": -1`, "train.clip is -1"},
		{"k", `"k": 1024`, `"k": 5000`, "k schedule entry 0"},
		{"feedback", `"beta": 0.95`, `"beta": 1.5`, "payload.beta 1.5"},
		{"winners", `"expected_winners": 4`, `"expected_winners": 40`, "score.expected_winners 40"},
		{"kept", `"keep_windows": 16`, `"keep_windows": 4`, "keep_windows 4"},
		{"rope", `"norm_eps": 1e-5`, `"norm_eps": 1e-5, "rope": {"type": "yarn", "factor": 2}`, `unknown rope scaling "yarn"`},
		{"rope's reach", `"norm_eps": 1e-5`, `"norm_eps": 1e-5, "rope": {"type": "llama3", "factor": 2, "low_freq": 1, "high_freq": 4, "original": 32}`, "model.seq 128 is longer than the 64"},
		{"rope of another type", `"norm_eps": 1e-5`, `"norm_eps": 1e-5, "rope": {"type": "linear", "factor": 2, "original": 32}`, "belong to the type \"llama3\""},
	} {
		p, err := Open("local")
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(p.Text()), c.old, c.new, 1)
		if text == string(p.Text()) {
			t.Errorf("%s: nothing to replace", c.name)
		}
		_, err = parse("mine", []byte(text))
		ok := false
		for want := range strings.SplitSeq(c.want, "|") {
			ok = ok || err != nil && strings.Contains(err.Error(), want)
		}
		if !ok || !strings.HasPrefix(err.Error(), "preset mine: ") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// A plan that a preset's warm-up does not fit into is refused, not cut.
func TestTooFewWindows(t *testing.T) {
	if _, err := Run("8b", 30); err == nil || !strings.Contains(err.Error(), "preset 8b for 30 windows: train.warmup 2000") {
		t.Error(err)
	}
}

// What parses is a valid run; nothing panics.
func FuzzParse(f *testing.F) {
	for _, n := range Names() {
		p, err := Open(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.Text())
	}
	f.Add([]byte(`{"payload": {"k": [[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse("fuzz", b)
		if err != nil {
			return
		}
		r, err := p.Run(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := complete(r).Validate(); err != nil {
			t.Fatal(err)
		}
	})
}
