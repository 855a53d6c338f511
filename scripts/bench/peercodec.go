package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// codecTasks pairs the sub-benchmarks of BenchmarkCodec100M with what torch does, and how many times as fast they should be.
var codecTasks = []struct {
	ours, torch string
	goal        float64
}{{"begin", "compress", 4}, {"aggregate", "aggregate", 3}}

// peerCodec compares compression, and 15 payloads made into one vector.
func (b *bench) peerCodec(p *python) error {
	ours, err := buildCodec(b.ctx, p.dir)
	if err != nil {
		return err
	}
	millions := b.flags.Float64("millions")
	b.section("peers", "codec: %d million float32 by us, %g by torch, k 64 of 4096", codecMillions, millions)
	var cs []*contender
	defer func() { (&heat{cs: cs}).close() }()
	for _, t := range codecTasks {
		for _, block := range []string{"0", "1024"} {
			w, err := start(b.ctx, p.tuned(b.threads), p.bin, filepath.Join(p.dir, "codec.py"), t.torch, fmt.Sprint(millions), block, fmt.Sprint(b.threads))
			if err != nil {
				return err
			}
			cs = append(cs, &contender{by: "torch " + t.torch + map[string]string{"0": "", "1024": " in blocks"}[block], w: w, turns: 1})
		}
	}
	var all timings
	for range b.rounds {
		if err := interleave(b.ctx, 1, b.wait, cs); err != nil {
			return err
		}
		r, err := ours.once(b.ctx, b.threads)
		if err != nil {
			return err
		}
		all.add(r)
	}
	best := map[string]Row{}
	for i, c := range cs {
		r := c.row("100M "+codecTasks[i/2].torch, "ms", b.threads)
		b.add(r)
		if was, ok := best[codecTasks[i/2].torch]; !ok || r.Low < was.Low {
			best[codecTasks[i/2].torch] = r
		}
	}
	return b.codecRows(&all, best, millions)
}

// codecRows adds ours; a share is of speed, so that more is better as everywhere.
func (b *bench) codecRows(all *timings, best map[string]Row, millions float64) error {
	found := 0
	for _, name := range all.names {
		r := Row{Case: name, By: "sn3", Threads: b.threads, Unit: "ms"}.spread(all.ms[name])
		for _, t := range codecTasks {
			if strings.EqualFold(name, t.ours) && millions == codecMillions {
				theirs := best[t.torch]
				r.Share, r.Of, r.Goal = theirs.Low/r.Low, "the speed of "+theirs.By, t.goal // ours are the shortest of several runs
				r.Others = theirs.Others
				found++
			}
		}
		b.add(r)
	}
	if found != len(codecTasks) && millions == codecMillions {
		return fmt.Errorf("compare the codec: %s has not the parts that torch does: %v", codecBenchmark, all.names)
	}
	return nil
}
