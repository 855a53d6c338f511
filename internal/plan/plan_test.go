package plan

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/preset"
	"sn3/internal/spec"
	"sn3/model"
)

func request(t interface {
	Helper()
	Fatal(args ...any)
}, name string) Request {
	t.Helper()
	run, err := preset.Run(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Name: name, Run: run, Options: model.Options{Threads: 2}}
}

const gib = 1 << 30

// What must be there whatever the engine says: the figures of a miner of the 1b preset by hand.
func TestMinerByHand(t *testing.T) {
	r := request(t, "1b")
	r.Options.MicroBatch = 1
	p := Make(r)
	const params = 1_235_814_400
	got := map[string]int64{}
	for _, l := range append(append([]Line{}, p.Memory...), p.Disk...) {
		got[l.Name] = l.Bytes
	}
	for name, want := range map[string]float64{
		"engine: parameters":                       4 * params,
		"engine: gradients":                        4 * params,
		"engine: optimizer moments":                8 * params,
		"newest three models and the next":         16 * params,
		"proxy to train on while θ is on its way":  4 * params,
		"error feedback, old and pending":          8 * params,
		"error feedback: two slots and a new one":  12 * params,
		"optimizer moments, and their replacement": 16 * params,
		"model, and its replacement":               8 * params,
	} {
		if x := float64(got[name]); x < want || x > 1.03*want {
			t.Errorf("%s: %.0f, want about %.0f", name, x, want)
		}
	}
	if p.Params != params || Sum(p.Up) > 25<<20 || Sum(p.Down) < 15*Sum(p.Up) {
		t.Errorf("%d parameters, %d up, %d down", p.Params, Sum(p.Up), Sum(p.Down))
	}
	r.Wait = true
	if d := Sum(p.Memory) - Sum(Make(r).Memory); d != 4*params {
		t.Errorf("waiting for θ saves %d bytes, want the proxy", d)
	}
}

// And those of a validator of the local preset, whose samples are 129 bytes and whose votes name 40.
func TestValidatorByHand(t *testing.T) {
	r := request(t, "local")
	miner := Make(r)
	r.Validator = true
	p := Make(r)
	const f32 = 4 * 885_888
	payload := miner.Up[0].Bytes
	for name, x := range map[string]struct{ got, want int64 }{
		"mirrored":         {p.Up[0].Bytes, 40 * payload},
		"checkpoint, up":   {p.Up[1].Bytes, f32 / 4},
		"to score":         {p.Down[0].Bytes, 40 * payload},
		"samples":          {p.Down[1].Bytes, 129 * (32 + 16*2*40)},
		"on disk":          {Sum(p.Disk), 2*f32 + 16*40*payload + f32},
		"memory of models": {p.Memory[len(p.Memory)-2].Bytes, 2 * f32},
	} {
		if x.got != x.want {
			t.Errorf("%s: %d bytes, want %d", name, x.got, x.want)
		}
	}
}

// halving is an engine whose activations are half as large in bfloat16.
type halving struct{ model.Engine }

func (halving) Need(_ model.Config, o model.Options, _ int, _ bool) model.Need {
	if o.Precision == model.BF16 {
		return model.Need{Acts: gib}
	}
	return model.Need{Acts: 2 * gib}
}

// The last advice is the precision, with all others before it; a validator, whose losses it would change, is not given it.
func TestPrecisionIsAdvised(t *testing.T) {
	r := request(t, "local")
	r.Engine = halving{}
	for validator, want := range map[bool]string{false: "with --micro-batch 1 --threads 1 --gap wait --precision bf16 it fits", true: "no flag makes it fit"} {
		r.Validator = validator
		err := Make(r).Check(Machine{Memory: 1900 << 20, Disk: Unknown})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("validator %v: %v, want %q", validator, err, want)
		}
	}
}

// A node of the local preset takes what was measured for it: about 180 MiB.
func TestLocalAsMeasured(t *testing.T) {
	for _, validator := range []bool{false, true} {
		r := request(t, "local")
		r.Validator = validator
		if n := Sum(Make(r).Memory); n < 130<<20 || n > 230<<20 {
			t.Errorf("validator %v: %d MiB", validator, n>>20)
		}
	}
}

// source is a delta of normal noise.
type source struct{ r *rand.Rand }

func (s source) Chunk(_ int, dst []float32) error {
	for i := range dst {
		dst[i] = float32(s.r.NormFloat64())
	}
	return nil
}

// The expected payload is what the codec makes of noise, at every density, and no more than it may be.
func TestPayloadBytes(t *testing.T) {
	l, err := model.NewLayout(model.Config{Vocab: 512, Width: 256, Layers: 2, Heads: 4, KVHeads: 4, HeadDim: 64, FFN: 512, Seq: 64, RopeTheta: 1e4, NormEps: 1e-5})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []int{16, 64, 512, 1024, 2000} {
		var b bytes.Buffer
		st, err := gradients.NewCodec(l).Encode(&b, source{rand.New(rand.NewPCG(1, 2))}, k, func(int, []uint16, []float32) {})
		if err != nil {
			t.Fatal(err)
		}
		run := &chain.Run{Payload: chain.PayloadSpec{K: []chain.KStep{{K: k}}}}
		kept, size := payloadBytes(run, int64(l.Params()), int64(l.Chunks()))
		if math.Abs(float64(kept)/float64(st.Kept)-1) > 0.03 || math.Abs(float64(size)/float64(b.Len())-1) > 0.04 {
			t.Errorf("k %d: %d values in %d bytes, planned %d in %d", k, st.Kept, b.Len(), kept, size)
		}
	}
}

// Chunks are counted without making a layout.
func TestChunks(t *testing.T) {
	for _, name := range []string{"local", "8m"} {
		l, err := model.NewLayout(spec.Config(request(t, name).Run.Model))
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		for _, x := range l.Tensors() {
			n += chunksOf(x)
		}
		if n != int64(l.Chunks()) {
			t.Errorf("%s: %d chunks, want %d", name, n, l.Chunks())
		}
	}
}

// What does not fit is refused with what would: the largest micro-batch that fits; then fewer threads, waiting, bf16; else the
// preset that fits.
func TestAdvice(t *testing.T) {
	for _, c := range []struct {
		name      string
		preset    string
		validator bool
		memory    int64
		want      []string
	}{
		{"it fits", "local", false, gib, nil},
		{"whole batches of 160m", "160m", false, 24 * gib, []string{"a miner of 160m needs", "24.0 GiB are free", "with --micro-batch ", " it fits"}},
		{"hardly 160m", "160m", false, 8 * gib, []string{"with --micro-batch 1 it fits"}},
		{"1b without the proxy", "1b", false, 56 * gib, []string{"with --micro-batch 1 --threads 1 --gap wait it fits"}},
		{"8b on a small machine", "8b", false, 24 * gib, []string{"no flag makes it fit", "GiB are missing in any case", "the largest preset that fits is 160m"}},
		{"70b to score", "70b", true, 64 * gib, []string{"a validator of 70b", "no flag makes it fit", "the largest preset that fits is 1b"}},
		{"nothing fits", "local", false, 10 << 20, []string{"none of the presets does either"}},
		{"nobody knows", "70b", false, Unknown, nil},
	} {
		r := request(t, c.preset)
		r.Validator = c.validator
		p := Make(r)
		err := p.Check(Machine{Memory: c.memory, Disk: Unknown})
		var small *TooSmall
		if errors.As(err, &small) != (c.want != nil) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, err, want)
			}
		}
	}
}

// The advice is true: with the flags it names the plan fits, and no earlier change would have done. A plan that fits is never
// refused.
func TestAdviceIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := request(t, rapid.SampledFrom([]string{"local", "160m", "1b"}).Draw(t, "preset"))
		r.Validator = rapid.Bool().Draw(t, "validator")
		r.Options.MicroBatch = rapid.IntRange(0, 8).Draw(t, "micro")
		p := Make(r)
		need := Sum(p.Memory)
		m := Machine{Memory: int64(float64(need) * rapid.Float64Range(0.2, 1.2).Draw(t, "share")), Disk: Unknown}
		err := p.Check(m)
		if (err == nil) != (need <= m.Memory) {
			t.Fatalf("%d needed, %d there: %v", need, m.Memory, err)
		}
		if err == nil {
			return
		}
		for _, c := range p.changes() {
			fits := Sum(Make(c.Request).Memory) <= m.Memory
			if said := strings.Contains(err.Error(), "with "+c.flags+" it fits"); said != fits {
				t.Fatalf("%s fits %v: %v", c.flags, fits, err)
			}
			if fits {
				return
			}
		}
		if !strings.Contains(err.Error(), "no flag makes it fit") {
			t.Fatal(err)
		}
	})
}

// sized is an engine that says what it takes.
type sized struct {
	model.Engine
	asked *[]int
}

func (s sized) Need(_ model.Config, o model.Options, batch int, train bool) model.Need {
	*s.asked = append(*s.asked, batch)
	n := model.Need{Params: 1, Acts: 100}
	if train {
		n.Grads, n.Moments = 10, 20
	}
	if o.Precision == model.BF16 {
		n.Acts = 50
	}
	return n
}

// An engine that knows is asked, for the batches that it will get.
func TestSizer(t *testing.T) {
	var asked []int
	r := request(t, "local")
	r.Engine = sized{nil, &asked}
	if p := Make(r); p.Memory[0].Bytes != 1 || p.Memory[1].Bytes != 10 || p.Memory[2].Bytes != 20 || p.Memory[3].Bytes != 100 {
		t.Errorf("%+v", p.Memory)
	}
	r.Validator = true
	if p := Make(r); p.Memory[0].Bytes != 1 || p.Memory[1].Bytes != 100 {
		t.Errorf("%+v", p.Memory)
	}
	if len(asked) != 2 || asked[0] != r.Run.Train.Batch || asked[1] != JudgeBatch {
		t.Errorf("asked for batches of %v", asked)
	}
}

// An engine on cards says what it takes of this machine; the node's own parts stay.
func TestHost(t *testing.T) {
	r := request(t, "1b")
	cpu := Make(r)
	r.Host = func(model.Config) model.Need { return model.Need{Moments: 7} }
	p := Make(r)
	if p.Memory[0].Name != "engine: optimizer moments" || p.Memory[0].Bytes != 7 || Sum(p.Memory[1:]) != Sum(cpu.Memory[4:]) {
		t.Errorf("%+v", p.Memory)
	}
}

// What is on disk already need not be written a second time: a restart on a nearly full disk is not refused.
func TestDisk(t *testing.T) {
	p := Make(request(t, "40m"))
	need := Sum(p.Disk)
	for _, c := range []struct {
		disk, used int64
		ok         bool
	}{{need, 0, true}, {need - 1, 0, false}, {need / 4, need * 3 / 4, false}, {need/4 + 1, need * 3 / 4, true}, {0, need, true}, {0, 2 * need, true}, {Unknown, 0, true}} {
		err := p.Check(Machine{Memory: Unknown, Disk: c.disk, Used: c.used})
		if (err == nil) != c.ok || err != nil && (!strings.Contains(err.Error(), "more on disk") || !strings.Contains(err.Error(), "put --dir on another disk")) {
			t.Errorf("%d free, %d used of %d: %v", c.disk, c.used, need, err)
		}
	}
}

// The cache of pages is part of what a disk must hold, and the first to be given up: the advice is true.
func TestCache(t *testing.T) {
	r := request(t, "local")
	bare := Sum(Make(r).Disk)
	r.Cache = 2 * gib
	p := Make(r)
	if got := Sum(p.Disk) - bare; got != r.Cache {
		t.Fatalf("the cache counts as %d bytes", got)
	}
	err := p.Check(Machine{Memory: Unknown, Disk: gib})
	var mib int64
	if err == nil {
		t.Fatal("2 GiB of cache fit on 1 GiB")
	}
	_, after, _ := strings.Cut(err.Error(), "with --data-cache ")
	if _, serr := fmt.Sscanf(after, "%d it fits", &mib); serr != nil {
		t.Fatal(err)
	}
	r.Cache = mib << 20
	if err := Make(r).Check(Machine{Memory: Unknown, Disk: gib}); err != nil || gib-Sum(Make(r).Disk) > 1<<20 {
		t.Errorf("with %d MiB of cache: %v, %d bytes unused", mib, err, gib-Sum(Make(r).Disk))
	}
	if err := p.Check(Machine{Memory: Unknown, Disk: bare + 10<<20}); err == nil || !strings.Contains(err.Error(), "put --dir on another disk") {
		t.Errorf("too little for any cache: %v", err)
	}
}

// A tokenizer takes memory and disk by its vocabulary; bytes take none.
func TestTokenizerCounts(t *testing.T) {
	find := func(lines []Line) (n int64) {
		for _, l := range lines {
			if strings.HasPrefix(l.Name, "tokenizer") {
				n += l.Bytes
			}
		}
		return n
	}
	bytes, llama := Make(request(t, "local")), Make(request(t, "1b"))
	if find(bytes.Memory)+find(bytes.Disk) != 0 || find(llama.Memory) < 100<<20 || find(llama.Memory) > 200<<20 || find(llama.Disk) < 17<<20 {
		t.Errorf("bytes %d and %d, Llama 3 %d and %d", find(bytes.Memory), find(bytes.Disk), find(llama.Memory), find(llama.Disk))
	}
}

// No descriptor that is not refused outright makes a size overflow into one that fits.
func TestAbsurdSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := request(t, "local")
		m := &r.Run.Model
		m.Width, m.Layers, m.FFN = 1<<rapid.IntRange(0, 17).Draw(t, "width"), 1<<rapid.IntRange(0, 12).Draw(t, "layers"), 1<<rapid.IntRange(0, 20).Draw(t, "ffn")
		m.Heads, m.HeadDim, m.Seq = 1<<rapid.IntRange(2, 12).Draw(t, "heads"), 1<<rapid.IntRange(1, 12).Draw(t, "dim"), 1<<rapid.IntRange(0, 20).Draw(t, "seq")
		r.Run.Train.Batch, r.Run.Train.InnerSteps = 1<<rapid.IntRange(0, 20).Draw(t, "batch"), 1<<rapid.IntRange(0, 20).Draw(t, "h")
		r.Run.Rules.Gather, r.Run.Keep = 1<<rapid.IntRange(4, 20).Draw(t, "gather"), 1<<rapid.IntRange(4, 40).Draw(t, "keep")
		r.Validator = rapid.Bool().Draw(t, "validator")
		if spec.Check(r.Run) != nil {
			return
		}
		p := Make(r)
		for _, lines := range [][]Line{p.Memory, p.Disk, p.Up, p.Down} {
			for _, l := range lines {
				if l.Bytes < 0 || l.Bytes > Sum(lines) {
					t.Fatalf("%s: %d of %d", l.Name, l.Bytes, Sum(lines))
				}
			}
		}
		if Sum(p.Memory) < 4*p.Params {
			t.Fatalf("%d parameters in %d bytes", p.Params, Sum(p.Memory))
		}
	})
}

// The table names every part and what there is.
func TestWrite(t *testing.T) {
	r := request(t, "160m")
	r.Options.MicroBatch = 4
	var b strings.Builder
	if err := Make(r).Write(&b, Machine{Memory: 16 * gib, Disk: Unknown, Used: 3 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a miner of 160m: 162,220,800 parameters, 30 steps of 32 sequences of 1024 tokens a window, micro-batches of 4, f32, threads 2",
		"engine: activations and scratch", "of 16.0 GiB free", "what this system does not tell, 3.0 MiB are there", "up, each window of 75 blocks"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// Free memory is what /proc/meminfo says, or the least that a control group of either version leaves, caches given back.
func TestLinuxMemory(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const info = "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n"
	for _, c := range []struct {
		name  string
		files fstest.MapFS
		want  int64
	}{
		{"nothing", fstest.MapFS{}, Unknown},
		{"no groups", fstest.MapFS{"proc/meminfo": file(info)}, 4000 << 10},
		{"garbage", fstest.MapFS{"proc/meminfo": file("MemAvailable: lots kB\n"), "proc/self/cgroup": file("\n:::\n0::\n7:memory\n")}, Unknown},
		{"no number", fstest.MapFS{"proc/meminfo": file("MemAvailable:\n")}, Unknown},
		{"too large", fstest.MapFS{"proc/meminfo": file("MemAvailable: 99999999999999999999 kB\n")}, Unknown},
		{"version 2, no limit", fstest.MapFS{"proc/meminfo": file(info), "proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("max\n"),
			"sys/fs/cgroup/a/b/memory.current": file("100\n")}, 4000 << 10},
		{"version 2, the group above", fstest.MapFS{"proc/meminfo": file(info), "proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("3000000\n"),
			"sys/fs/cgroup/a/b/memory.current": file("100\n"), "sys/fs/cgroup/a/memory.max": file("2000000\n"), "sys/fs/cgroup/a/memory.current": file("1500000\n"),
			"sys/fs/cgroup/a/memory.stat": file("anon 3\ninactive_file 400000\nactive_file 50000\n")}, 950_000},
		{"version 2, in a container", fstest.MapFS{"proc/meminfo": file(info), "proc/self/cgroup": file("0::/docker/of/the/host\n"),
			"sys/fs/cgroup/memory.max": file("1000\n"), "sys/fs/cgroup/memory.current": file("1\n")}, 999},
		{"version 2, started outside the container", fstest.MapFS{"proc/meminfo": file(info), "proc/self/cgroup": file("0::/../../x\n"),
			"sys/fs/cgroup/memory.max": file("1000\n"), "sys/fs/cgroup/memory.current": file("1\n")}, 999},
		{"version 1", fstest.MapFS{"proc/meminfo": file(info), "proc/self/cgroup": file("3:cpu,cpuacct:/\n4:memory:/jobs/1\n0::/\n"),
			"sys/fs/cgroup/memory/jobs/1/memory.limit_in_bytes": file("700000\n"), "sys/fs/cgroup/memory/jobs/1/memory.usage_in_bytes": file("300000\n"),
			"sys/fs/cgroup/memory/jobs/1/memory.stat": file("total_inactive_file 100000\n")}, 500_000},
		{"version 1, no limit", fstest.MapFS{"proc/meminfo": file(info), "proc/self/cgroup": file("4:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"), "sys/fs/cgroup/memory/memory.usage_in_bytes": file("5\n")}, 4000 << 10},
		{"used up", fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("10\n"), "sys/fs/cgroup/memory.current": file("20\n")}, 0},
	} {
		if got := linuxMemory(c.files); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// This machine is looked at below the nearest folder that exists; what a node's folder holds is counted.
func TestHere(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "node", "replica"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"a", "replica/b"} {
		if err := os.WriteFile(filepath.Join(dir, "node", f), make([]byte, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if m := Here(filepath.Join(dir, "node")); m.Used != 2000 || m.Memory == 0 || m.Disk == 0 {
		t.Errorf("%+v", m)
	}
	if err := os.Symlink("node", filepath.Join(dir, "link")); err != nil {
		t.Skip("no links here:", err)
	}
	if m := Here(filepath.Join(dir, "link")); m.Used != 2000 {
		t.Errorf("through a link: %+v", m)
	}
	if m := Here(filepath.Join(dir, "not", "there", "yet")); m.Used != 0 || m.Disk == 0 {
		t.Errorf("%+v", m)
	}
}
