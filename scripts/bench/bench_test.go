package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sn3/internal/proc"
	"sn3/model"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "work" { // a worker of what is tested in this process
		main()
	}
	testscript.Main(m, map[string]func(){"bench": main})
}

// The program as one types it, without torch.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(e *testscript.Env) error {
		e.Setenv("HOME", e.WorkDir)
		if cache, err := os.UserCacheDir(); err == nil && os.Getenv("GOCACHE") == "" { // else go tool pprof is built anew
			e.Setenv("GOCACHE", filepath.Join(cache, "go-build"))
		} else {
			e.Setenv("GOCACHE", os.Getenv("GOCACHE"))
		}
		e.Setenv("TMPDIR", filepath.Join(e.WorkDir, "tmp"))
		scripts, err := filepath.Abs("..")
		if err != nil {
			return err
		}
		e.Setenv("SCRIPTS", scripts)
		return os.MkdirAll(filepath.Join(e.WorkDir, "tmp"), 0o755)
	}})
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		v                 []float64
		median, low, high float64
	}{{[]float64{3}, 3, 3, 3}, {[]float64{4, 1}, 2.5, 1, 4}, {[]float64{9, 1, 5}, 5, 1, 9}} {
		kept := slices.Clone(c.v)
		if r := (Row{}).spread(c.v); r.Median != c.median || r.Low != c.low || r.High != c.high || r.Rounds != len(c.v) || !slices.Equal(c.v, kept) {
			t.Errorf("%v: %+v", c.v, r)
		}
	}
}

func TestRowSaysWhetherAGoalIsReached(t *testing.T) {
	r := Row{Case: "8m f32", By: "sn3", Threads: 2, Unit: "tokens/s", Of: "torch compile", Share: 1.2, Goal: 1.1, Memory: 3 << 20}.spread([]float64{7123.4, 7001, 8000})
	for _, want := range []string{"7123 tokens/s", "2t", "(7001–8000)", "1.20 of torch compile, goal 1.10: reached", "3 MB"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("%q lacks %q", r, want)
		}
	}
	r.Goal = 1.5
	if !strings.Contains(r.String(), "missed by 20 %") {
		t.Error(r)
	}
	r.Others = 0.5
	if s := r.String(); !strings.Contains(s, "not judged") || !strings.Contains(s, "50 % of a core") {
		t.Error(s)
	}
	for x, want := range map[float64]string{0.01234: "0.01234", 1.5: "1.500", 123456: "123456", 0: "0", math.Inf(1): "+Inf", -25.5: "-25.50"} {
		if got := figure(x); got != want {
			t.Errorf("%v is written %q, want %q", x, got, want)
		}
	}
}

func TestParseBenchmarks(t *testing.T) {
	out := "goos: linux\nBenchmarkCodec100M/begin-2         \t       3\t  2.97 GB/s\t 9.5 bits/value\t 40.25 min-ms\nBenchmarkCodec100M/aggregate+root\t3\t5e7 ns/op\r\n" +
		"BenchmarkOther 3 1 ns/op\nBenchmarkX/y-2 3 no ns/op\nPASS\n"
	want := []timing{{"begin", 40.25}, {"aggregate+root", 50}}
	if got := parseBenchmarks([]byte(out)); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	var all timings
	all.add(want)
	all.add(want[1:])
	if !slices.Equal(all.names, []string{"begin", "aggregate+root"}) || len(all.ms["aggregate+root"]) != 2 {
		t.Errorf("%+v", all)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want float64
	}{{[]float64{1, 2}, []float64{1.5, 2}, 0.5}, {nil, nil, math.Inf(1)}, {[]float64{1}, []float64{1, 2}, math.Inf(1)}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%v, %v: %v", c.a, c.b, got)
		}
	}
	if nan := distance([]float64{math.NaN(), 1}, []float64{1, 1}); nan <= 1e9 {
		t.Errorf("NaN is near: %v", nan)
	}
}

// Losses that differ are an error whatever the speed.
func TestParity(t *testing.T) {
	h := &heat{b: &bench{quiet: true}, cs: []*contender{{w: &worker{ready: ready{Losses: []float64{8, 7}}}}, {by: "peer", w: &worker{ready: ready{Losses: []float64{8, 7.001}}}}}}
	if err := h.parity(0.01); err != nil {
		t.Error(err)
	}
	if err := h.parity(1e-4); !errors.Is(err, errWork) || !strings.Contains(err.Error(), "peer") {
		t.Error(err)
	}
}

func TestTask(t *testing.T) {
	task, err := newTask("local", 2, 16)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := task.save(dir); err != nil {
		t.Fatal(err)
	}
	got, w, b, err := openTask(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Config != task.Config || got.LR != task.LR || b.B != 2 || b.T != 16 || len(b.X) != 32 || len(b.Y) != 32 || slices.Equal(b.X, b.Y) {
		t.Errorf("%+v, batch %+v", got, b)
	}
	want := model.NewFlat(w.Layout())
	want.Init(1)
	if !slices.Equal(w.Data, want.Data) {
		t.Error("other weights were read than written")
	}
	for _, x := range slices.Concat(b.X, b.Y) {
		if x < 0 || int(x) >= task.Vocab {
			t.Fatalf("token %d of %d", x, task.Vocab)
		}
	}
	if err := os.Truncate(filepath.Join(dir, batchFile), 100); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := openTask(dir); err == nil {
		t.Error("a batch that is too short was read")
	}
	if o := task.optimizer(); o.Validate() != nil || o.Rate(0) != task.LR || o.Rate(1e6) != task.LR {
		t.Errorf("%v, rates %v and %v", o.Validate(), o.Rate(0), o.Rate(1e6))
	}
	if err := task.plain(); proc.ExitCode(err) != proc.ExitUsage {
		t.Errorf("a tied model is one that torch can be asked for: %v", err)
	}
	if big, err := newTask("8m", 0, 0); err != nil || big.plain() != nil || big.Batch != 8 || big.Seq != 256 || big.FFN != 1024 {
		t.Errorf("8m: %+v, %v", big, err)
	}
}

// Our side of the protocol: ready, then an answer a request, until the input ends.
func TestWorkServes(t *testing.T) {
	task, err := newTask("local", 1, 8)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := task.save(dir); err != nil {
		t.Fatal(err)
	}
	for _, j := range []job{{Task: "step", Dir: dir, Threads: 1, Precision: model.F32}, {Task: "gemm", Form: "tn", M: 5, N: 40, K: 7, Threads: 1}} {
		var out bytes.Buffer
		if err := j.serve(context.Background(), strings.NewReader("{\"n\":2}\n{\"n\":1}\nnonsense\n"), &out); err != nil {
			t.Fatal(err)
		}
		s := bufio.NewScanner(&out)
		var r ready
		var lines []reply
		for i := 0; s.Scan(); i++ {
			var x reply
			to := any(&x)
			if i == 0 {
				to = &r
			}
			if err := json.Unmarshal(s.Bytes(), to); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				lines = append(lines, x)
			}
		}
		if r.Error != "" || !strings.HasPrefix(r.What, "sn3 ") || j.Task == "step" && len(r.Losses) != task.Warm {
			t.Errorf("%s: %+v", j.Task, r)
		}
		if len(lines) != 3 || lines[0].Seconds <= 0 || lines[0].Work != 2*lines[1].Work || lines[1].Memory <= 0 || lines[2].Error == "" {
			t.Errorf("%s: %+v", j.Task, lines)
		}
	}
	var out bytes.Buffer
	if err := (job{Task: "step", Dir: "nowhere"}).serve(context.Background(), strings.NewReader(""), &out); err != nil || !strings.Contains(out.String(), "nowhere") {
		t.Errorf("%v, %s", err, &out)
	}
}

func TestProductForms(t *testing.T) {
	for _, c := range gemmCases() {
		for _, f := range strings.Fields(c.forms) {
			if len(f) != 2 || strings.Trim(f, "nt") != "" {
				t.Errorf("%s: form %q", c.name, f)
			}
		}
	}
}

// Of a folder's sizes some are shown: dense at the beginning, and always the last one.
func TestSampled(t *testing.T) {
	for _, c := range []struct {
		at   []float64
		want []int
	}{
		{nil, nil},
		{[]float64{8}, []int{0}},
		{[]float64{8, 16, 260, 500, 520, 600}, []int{0, 2, 4, 5}},
		{[]float64{1000, 1300, 1400, 1900}, []int{0, 2, 3}},
	} {
		if got := sampled(c.at); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.at, got, c.want)
		}
	}
}

// Every file of a node's folder belongs to one part.
func TestFolderPart(t *testing.T) {
	for rel, want := range map[string]string{"sn3.db": "machine", "sn3.db.sync": "rest", "data/blockstore.db/000001.log": "blocks", "data/state.db/x": "states",
		"data/cs.wal/wal": "log", "data/cs.wal2": "rest", "snapshots/500.sn3c": "snapshots", "genesis.sn3.json": "rest"} {
		if got := folderPart(rel); got != want {
			t.Errorf("%s is of %s, want %s", rel, got, want)
		}
	}
}
