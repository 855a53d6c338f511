package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The codec is measured by its own benchmark: compression without the disk write is not something that the package offers to
// others. It runs from the sources, so this command needs the go tool and the repository.
const (
	codecPackage   = "./gradients"
	codecBenchmark = "BenchmarkCodec100M"
	codecMillions  = 100 // what that benchmark is about
)

// codecRun is the compiled benchmark.
type codecRun struct{ binary string }

// buildCodec compiles the benchmark into dir.
func buildCodec(ctx context.Context, dir string) (codecRun, error) {
	c := codecRun{filepath.Join(dir, "gradients.test")}
	out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", c.binary, codecPackage).CombinedOutput()
	if err != nil {
		return c, fmt.Errorf("build the codec's benchmark (start bench in the repository, with the go tool on the PATH): %w: %.300s", err, out)
	}
	return c, nil
}

// timing is one line of a benchmark.
type timing struct {
	name string // of the sub-benchmark
	ms   float64
}

// once makes one round.
func (c codecRun) once(ctx context.Context, threads int) ([]timing, error) {
	cmd := exec.CommandContext(ctx, c.binary, "-test.run", "^$", "-test.bench", "^"+codecBenchmark+"$", "-test.benchtime", "3x", "-test.cpu", strconv.Itoa(threads))
	cmd.Dir = codecPackage
	var said tail
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w: %s", codecBenchmark, err, &said)
	}
	r := parseBenchmarks(out)
	if len(r) == 0 {
		return nil, fmt.Errorf("run %s: it measured nothing; is it still in %s?", codecBenchmark, codecPackage)
	}
	return r, nil
}

// parseBenchmarks reads what go test prints: the metric min-ms, the shortest of the runs, or else the mean time.
func parseBenchmarks(out []byte) (r []timing) {
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		_, name, sub := strings.Cut(f[0], "/")
		if i := strings.LastIndexByte(name, '-'); i > 0 && strings.Trim(name[i+1:], "0123456789") == "" {
			name = name[:i] // the threads
		}
		unit := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			unit[f[i+1]], _ = strconv.ParseFloat(f[i], 64) // 0 is no figure
		}
		ms := unit["min-ms"]
		if ms == 0 {
			ms = unit["ns/op"] / 1e6
		}
		if sub && ms > 0 {
			r = append(r, timing{name, ms})
		}
	}
	return r
}

// timings collects rounds by name, in the order of the first.
type timings struct {
	names []string
	ms    map[string][]float64
}

func (t *timings) add(round []timing) {
	if t.ms == nil {
		t.ms = map[string][]float64{}
	}
	for _, x := range round {
		if _, ok := t.ms[x.name]; !ok {
			t.names = append(t.names, x.name)
		}
		t.ms[x.name] = append(t.ms[x.name], x.ms)
	}
}

// codec measures compression and aggregation of 100 million parameters.
func (b *bench) codec() error {
	dir, remove, err := scratch()
	if err != nil {
		return err
	}
	defer remove()
	c, err := buildCodec(b.ctx, dir)
	if err != nil {
		return err
	}
	b.section("codec", "%d million float32, k 64 of 4096", codecMillions)
	var all timings
	for range b.rounds {
		r, err := c.once(b.ctx, b.threads)
		if err != nil {
			return err
		}
		all.add(r)
	}
	for _, name := range all.names {
		b.add(Row{Case: name, By: "sn3", Threads: b.threads, Unit: "ms"}.spread(all.ms[name]))
	}
	return nil
}
