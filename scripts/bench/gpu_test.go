package main

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/roofline"
	"sn3/model/gpu/standin"
)

// benchGPU runs bench gpu with a driver and returns its report and tables.
func benchGPU(t *testing.T, driver string, args ...string) (r GPUReport, page string, err error) {
	t.Helper()
	t.Setenv("SN3_CUDA", driver)
	t.Setenv("SN3_CUBLASLT", driver)
	dir := t.TempDir()
	file, tables := filepath.Join(dir, "r.json"), filepath.Join(dir, "r.md")
	err = run(append([]string{"bench", "gpu", "--shapes", "local", "--batch", "2", "--seq", "8", "--values", "20000", "--products", "40x48x32", "--rounds", "1", "--python", "",
		"--json", file, "--markdown", tables}, args...))
	raw, e := os.ReadFile(file)
	if e != nil {
		t.Fatalf("%v (%v)", e, err)
	}
	if e := json.Unmarshal(raw, &r); e != nil {
		t.Fatal(e)
	}
	md, e := os.ReadFile(tables)
	if e != nil {
		t.Fatal(e)
	}
	return r, string(md), err
}

// A whole run on the stand-in: what is printed follows from what was counted and timed.
func TestBenchGPU(t *testing.T) {
	standin.Only(t, "a run that takes a second")
	r, page, err := benchGPU(t, standin.Library(t), "--card", "H100")
	if err != nil || len(r.Errors) != 0 || len(r.Models) != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	h100, _ := roofline.Named("H100")
	m := r.Models[0]
	task, err := cardTask("local", 2, 8)
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 1e-9*math.Abs(want)) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("tokens/s", m.PerSecond, 2*8/m.Step.Median)
	near("FLOP a token", m.FLOP, roofline.FLOPsPerToken(task.Config))
	near("MFU", m.MFU, m.FLOP*2*8/m.Step.Median/989e12)
	arena := memory.Request{Model: task.Config, Plan: m.Plan, Recompute: m.Recompute, Ranks: 1, MicroBatch: m.MicroBatch}.Arena().Size
	if m.Arena != arena || m.Driver <= 0 || m.Driver > arena {
		t.Errorf("%d bytes by the plan, want %d; %d by the driver", m.Arena, arena, m.Driver)
	}
	p, err := roofline.Predict(h100, memory.Request{Model: task.Config, Plan: m.Plan, Recompute: m.Recompute, Ranks: 1, MicroBatch: m.MicroBatch}, m.Batch)
	if err != nil || m.Predicted == nil || m.Predicted.MFU != p.MFU || m.Predicted.Seconds != p.Seconds {
		t.Errorf("predicted %+v, want %+v (%v)", m.Predicted, p, err)
	}
	checkTrace(t, m, h100)
	checkProtocol(t, r, h100)
	for _, want := range []string{"| local | " + string(m.Plan) + ", ", "| adamw | 1 |", "| compress | 1 |", "| 40×48×32 | tn | gemm_tn_64 |", "No PyTorch beside it: it was not asked for", "- MFU: "} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

// checkTrace: the kernels of a step are all there, and add up.
func checkTrace(t *testing.T, m GPUModel, card roofline.Card) {
	t.Helper()
	seconds, share, calls, flop := 0.0, 0.0, 0, 0.0
	for _, k := range m.Traced.Kernels {
		seconds, share, calls, flop = seconds+k.Seconds, share+k.Share, calls+k.Calls, flop+k.FLOP
		if k.Bytes <= 0 || k.Rate <= 0 || k.OfSheet <= 0 || k.Over <= 0 {
			t.Errorf("%+v", k)
		}
		if k.FLOP > 0 && math.Abs(k.OfSheet-k.FLOP/k.Seconds/card.FLOPs) > 1e-9*k.OfSheet {
			t.Errorf("%s reaches %v of the data sheet", k.Kernel, k.OfSheet)
		}
	}
	if math.Abs(seconds-m.Traced.Seconds) > 1e-9*seconds || math.Abs(share-1) > 1e-9 || calls != m.Traced.Launches || m.Traced.Host < seconds {
		t.Errorf("kernels take %v s in %d launches, the trace says %v in %d, the host %v", seconds, calls, m.Traced.Seconds, m.Traced.Launches, m.Traced.Host)
	}
	for _, name := range []string{"embed", "rmsnorm", "rmsnorm_add", "rope", "attention_32", "attention_delta", "attention_keys_32", "attention_queries_32", "swiglu",
		"swiglu_back_half", "cross_entropy_to", "loss_sum", "rmsnorm_back_half", "sum_rows", "embed_back", "squares", "clip", "adamw"} {
		if !slices.ContainsFunc(m.Traced.Kernels, func(k GPUKernel) bool { return k.Kernel == name }) {
			t.Errorf("%s is not among the kernels of a step", name)
		}
	}
	// counted at the products and at attention it is the definition's, but for what no product meets: the norms
	norms := 6 * float64((2*4+1)*128*m.Traced.Batch*m.Seq)
	if want := m.FLOP*float64(m.Traced.Batch*m.Seq) - norms; math.Abs(flop-want) > 0.1*want {
		t.Errorf("kernels have %g operations, the definition %g", flop, want)
	}
	if !slices.IsSortedFunc(m.Traced.Kernels, func(a, b GPUKernel) int { return map[bool]int{true: 1}[a.Seconds < b.Seconds] }) {
		t.Error("the slowest kernel is not the first")
	}
}

func checkProtocol(t *testing.T, r GPUReport, card roofline.Card) {
	t.Helper()
	n := float64(20000 / model.ChunkSize * model.ChunkSize)
	if r.Copy.Bytes != 8*n || math.Abs(r.Copy.OfSheet-r.Copy.Rate*1e9/card.Bytes) > 1e-9 {
		t.Errorf("%+v", r.Copy)
	}
	var names []string
	for _, k := range r.Protocol {
		names = append(names, k.Kernel)
		if k.Bytes <= 0 || math.Abs(k.OfCopy-k.Bytes/k.Seconds/1e9/r.Copy.Rate) > 1e-9*k.OfCopy {
			t.Errorf("%+v", k)
		}
	}
	if want := []string{"feedback", "compress", "decode", "outer_step", "round_chunks", "move_chunks", "delta_apply", "delta_undo"}; !slices.Equal(names, want) {
		t.Errorf("measured %v", names)
	}
	if len(r.Products) != 3 || len(r.Products[0].By) != 3 || r.Products[0].By[2].Kernel != "cublaslt_nt" || !strings.HasPrefix(r.Library, "cuBLASLt ") || r.Products[1].By[0].FLOP != 2*40*48*32 {
		t.Errorf("%+v", r.Products)
	}
}

// A card without a data sheet has no MFU, a shape that does not fit says so, and one that is unknown does not keep the rest from being measured.
func TestBenchGPUOfALittleCard(t *testing.T) {
	standin.Only(t, "a card of any memory")
	card := standin.Load(t)
	card.Set(t, "memory", "60000000")
	r, page, err := benchGPU(t, card.Path, "--shapes", "160m,nothing,local", "--seq", "8", "--batch", "1")
	if err == nil || len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "nothing") || len(r.Models) != 2 {
		t.Fatalf("%v: %+v", err, r)
	}
	if m := r.Models[0]; m.NotFit == "" || m.PerSecond != 0 || m.Traced.Launches != 0 || !strings.Contains(page, "| 160m | does not fit: plan ") {
		t.Errorf("%+v", m)
	}
	if m := r.Models[1]; m.NotFit != "" || !(m.PerSecond > 0) || m.MFU != 0 || m.Predicted != nil || m.Traced.Kernels[0].OfSheet != 0 || r.Card.Sheet != "" {
		t.Errorf("%+v", m)
	}
	if !strings.Contains(page, "**not measured**: models: nothing") {
		t.Error(page)
	}
}

// What fails is named in the report and in the exit code, and does not keep the rest from being measured.
func TestBenchGPUGoesOn(t *testing.T) {
	standin.Only(t, "calls that fail")
	for part, fail := range map[string]string{"protocol: ": "cuEventRecord:3:719", "models: local: ": "cuMemHostAlloc:1:2"} {
		card := standin.Load(t)
		card.Set(t, "fail", fail)
		r, page, err := benchGPU(t, card.Path)
		if proc.ExitCode(err) != proc.ExitFailure || len(r.Errors) != 1 || !strings.HasPrefix(r.Errors[0], part) || !strings.Contains(page, "**not measured**: "+part) {
			t.Fatalf("%s: %v, %v", fail, err, r.Errors)
		}
		if (len(r.Protocol) == 8) != (part != "protocol: ") || len(r.Products) != 3 || (r.Models[0].PerSecond > 0) == (part != "protocol: ") {
			t.Errorf("%s: %+v", fail, r)
		}
		if left := card.Report(t).Left(); left != "" {
			t.Errorf("%s: left on the card: %s", fail, left)
		}
	}
}

// Without a driver or a card there is nothing to measure: refused, with what to do.
func TestBenchGPUWithoutACard(t *testing.T) {
	t.Setenv("SN3_CUDA", "/nowhere/libcuda.so")
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"": {proc.ExitRefused, "there is no NVIDIA driver"},
	} {
		if err := run(append([]string{"bench", "gpu"}, strings.Fields(line)...)); proc.ExitCode(err) != want.code || !strings.Contains(err.Error(), want.says) {
			t.Errorf("bench gpu %s: %d, %v", line, proc.ExitCode(err), err)
		}
	}
	t.Setenv("SN3_CUDA", standin.Library(t))
	for _, line := range []string{"--gpu 9", "--card GTX", "--gpu-memory 0", "--rounds 0", "--products 3x4"} {
		if err := run(append([]string{"bench", "gpu"}, strings.Fields(line)...)); proc.ExitCode(err) != proc.ExitUsage {
			t.Errorf("bench gpu %s: %d, %v", line, proc.ExitCode(err), err)
		}
	}
	for _, flag := range []string{"--json", "--markdown"} {
		if err := run([]string{"bench", "gpu", flag, "/nowhere/report"}); proc.ExitCode(err) != proc.ExitFailure || !strings.Contains(err.Error(), "/nowhere/") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// The worker beside torch trains on the card, from the same numbers as the one on the CPU.
func TestCardWorker(t *testing.T) {
	t.Setenv("SN3_CUDA", standin.Library(t))
	task, err := newTask("local", 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := task.save(dir); err != nil {
		t.Fatal(err)
	}
	var losses [2][]float64
	for i, j := range []job{{Task: "card", Dir: dir, Precision: model.BF16, MicroBatch: 1}, {Task: "step", Dir: dir, Precision: model.F32, Threads: 1}} {
		p, err := j.prepare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if losses[i] = p.ready.Losses; len(losses[i]) != task.Warm || p.work != 8 {
			t.Errorf("%+v", p)
		}
		if err := p.turn(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if off := distance(losses[0], losses[1]); !(off < 2e-2) {
		t.Errorf("losses %v on the card, %v on the CPU", losses[0], losses[1])
	}
}

// What torch computes beside us is the same model: grouped keys, tied matrices, scaled rotation, weights and batch as we write them. Needs
// a torch: SN3_TORCH names its interpreter.
func TestTorchOfTheCardIsOurModel(t *testing.T) {
	interpreter := os.Getenv("SN3_TORCH")
	if interpreter == "" {
		t.Skip("SN3_TORCH names no interpreter that has torch")
	}
	dir := t.TempDir()
	p := &python{dir: dir, bin: interpreter}
	if err := p.unpack(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]model.Config{
		"untied": {Vocab: 300, Width: 64, Layers: 2, Heads: 4, KVHeads: 4, HeadDim: 16, FFN: 96, Seq: 24, RopeTheta: 1e4, NormEps: 1e-5},
		"grouped": {Vocab: 300, Width: 64, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 32, FFN: 96, Seq: 24, Tied: true, RopeTheta: 5e5, NormEps: 1e-5,
			Rope: &model.RopeScaling{Type: "llama3", Factor: 32, LowFreq: 1, HighFreq: 4, Original: 16}},
	} {
		x, err := newTask("local", 2, c.Seq)
		if err != nil {
			t.Fatal(err)
		}
		x.Config, x.Vocab, x.LR = c, c.Vocab, 3e-3
		folder := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(folder, 0o700), x.save(folder)); err != nil {
			t.Fatal(err)
		}
		w, err := start(t.Context(), p.caches(), p.bin, filepath.Join(dir, "llamagpu.py"), folder, "eager", "cpu")
		if err != nil {
			t.Fatal(err)
		}
		ours, err := job{Task: "step", Dir: folder, Precision: model.F32, Threads: 1}.prepare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if off := distance(w.ready.Losses, ours.ready.Losses); !(off < 2e-2) {
			t.Errorf("%s: losses %v, ours %v", name, w.ready.Losses, ours.ready.Losses)
		}
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}
}

// The comparison itself, on the stand-in and on torch's CPU: rows, a ratio, and losses that agree. It is about neither's speed.
func TestTorchBesideUs(t *testing.T) {
	interpreter := os.Getenv("SN3_TORCH")
	if interpreter == "" {
		t.Skip("SN3_TORCH names no interpreter that has torch")
	}
	t.Setenv("SN3_CUDA", standin.Library(t))
	t.Setenv("SN3_CUBLASLT", "none")
	app := cli.App{Commands: []*cli.Command{gpuCommand([]cli.Flag{&cli.IntFlag{Name: "rounds", Value: 1}, &cli.IntFlag{Name: "threads", Value: 1}})}}
	app.Commands[0].Action = func(c *cli.Context) error {
		b, done, err := newBench(c)
		if err != nil {
			return err
		}
		defer done()
		g := &gpuBench{bench: b, out: &GPUReport{}}
		if err := g.open(); err != nil {
			return err
		}
		p := &python{dir: t.TempDir(), bin: interpreter}
		if err := errors.Join(p.unpack(), g.torchStep(p, "local", "cpu")); err != nil {
			return err
		}
		g.out.Torch = b.report.Rows
		last := b.report.Rows[len(b.report.Rows)-1]
		if len(b.report.Rows) < 2 || last.By != "sn3" || !(last.Share > 0) || !strings.HasPrefix(last.Of, "torch ") {
			t.Errorf("%+v", b.report.Rows)
		}
		if line := g.out.modelLine(GPUModel{Shape: "local"}); !strings.Contains(line, " of torch ") {
			t.Error(line)
		}
		return nil
	}
	if err := app.Run([]string{"bench", "gpu", "--seq", "16", "--batch", "2", "--steps", "1"}); err != nil {
		t.Fatal(err)
	}
}

// Weights are the same however they are read, and look like a model's.
func TestDrawnWeights(t *testing.T) {
	task, err := cardTask("local", 1, 8)
	if err != nil {
		t.Fatal(err)
	}
	w, err := fresh(task.Config)
	if err != nil {
		t.Fatal(err)
	}
	l := w.Layout()
	all := make([]float32, l.Params())
	if err := w.Read(all, l.All()); err != nil {
		t.Fatal(err)
	}
	ones, sum := 0, 0.0
	for i := range l.Chunks() {
		c := l.Chunk(i)
		part := make([]float32, c.Len)
		if err := w.Read(part, model.ChunkRange{From: i, To: i + 1}); err != nil || !slices.Equal(part, all[c.Start:c.Start+c.Len]) {
			t.Fatalf("chunk %d differs (%v)", i, err)
		}
	}
	for _, v := range all {
		if v == 1 {
			ones++
		} else {
			sum += float64(v) * float64(v)
		}
	}
	if dev := math.Sqrt(sum / float64(len(all)-ones)); ones != (2*4+1)*128 || dev < 0.019 || dev > 0.021 {
		t.Errorf("%d ones, deviation %v", ones, dev)
	}
	if w.Read(all[1:], l.All()) == nil {
		t.Error("a destination of the wrong size is taken")
	}
}
