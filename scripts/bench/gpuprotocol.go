package main

import (
	"errors"
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
)

const (
	sentEach = 64 // values that a chunk sends
	senders  = 15 // payloads that are aggregated
)

// protocol times what works on a whole model between windows, against a copy on the card in the same run.
func (g *gpuBench) protocol() error {
	n := int64(g.flags.Int("values")) / model.ChunkSize * model.ChunkSize
	if n < model.ChunkSize {
		return fmt.Errorf("--values must be at least %d", model.ChunkSize)
	}
	return g.on(func(x *lab) error {
		p, err := newProtocolRoom(x, n)
		if err != nil {
			return fmt.Errorf("make room for %d values (fewer with --values): %w", n, err)
		}
		took, err := x.time(func() error { return x.Copy(p.theta, p.start, 4*n) })
		if err != nil {
			return err
		}
		g.out.Copy = GPUKernel{Kernel: "copy", Calls: 1, Seconds: took, Bytes: 8 * float64(n)}.rated(g.sheet, 0)
		g.kernelLine(g.out.Copy)
		for _, k := range p.kernels() {
			f, err := x.kernel(k.name, [3]int{k.grid, 1, 1}, k.args...)
			if err != nil {
				return err
			}
			if k.name == "compress" { // again and again it finds less to send
				if err := errors.Join(f(), p.check(x)); err != nil {
					return err
				}
			}
			took, err := x.time(f)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			line := GPUKernel{Kernel: k.name, Calls: 1, Seconds: took, Bytes: k.bytes}.rated(g.sheet, 0)
			line.OfCopy = line.Rate / g.out.Copy.Rate
			g.out.Protocol = append(g.out.Protocol, line)
			g.kernelLine(line)
		}
		return nil
	})
}

func (g *gpuBench) kernelLine(k GPUKernel) {
	g.say("  %-24s %9.3f ms %9s %-8s %s %s", k.Kernel, 1e3*k.Seconds, figure(k.Rate), k.Unit, share("of the data sheet", k.OfSheet), share("of a copy", k.OfCopy))
}

func share(of string, x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %% %s", 100*x, of)
}

// protocolRoom is what the protocol's kernels work on: n values in chunks, what senders send of them, a delta.
type protocolRoom struct {
	n, chunks, sent                                                       int64
	e, start, end, theta, copies, begin, room, parts, place, clip, length cuda.Ptr
	idx, codes, scales, counts, val, old                                  cuda.Ptr
}

func newProtocolRoom(x *lab, n int64) (*protocolRoom, error) {
	p := &protocolRoom{n: n, chunks: n / model.ChunkSize}
	p.sent = p.chunks * sentEach
	begin, room, place, length := []int64{0}, []int64{0}, []int64{}, []int32{}
	for i := range p.chunks {
		begin, room = append(begin, (i+1)*model.ChunkSize), append(room, (i+1)*sentEach)
		place, length = append(place, i*model.ChunkSize, model.ChunkSize, 0), append(length, model.ChunkSize)
	}
	parts := []int64{}
	for s := range int64(senders) {
		for _, at := range room {
			parts = append(parts, s*p.sent+at)
		}
	}
	clip := make([]float32, senders)
	for i := range clip {
		clip[i] = 1
	}
	var err error
	keep := func(to *cuda.Ptr, make func() (cuda.Ptr, error)) {
		if err == nil {
			*to, err = make()
		}
	}
	for _, v := range []*cuda.Ptr{&p.e, &p.start, &p.end, &p.theta} {
		keep(v, func() (cuda.Ptr, error) { return x.noise(n) })
	}
	for _, v := range []struct {
		to    *cuda.Ptr
		bytes int64
	}{{&p.copies, 2 * n}, {&p.idx, 2 * senders * p.sent}, {&p.codes, senders * p.sent}, {&p.scales, senders * p.chunks}, {&p.counts, 4 * p.chunks}, {&p.val, 4 * p.sent}, {&p.old, 4 * p.sent}} {
		keep(v.to, func() (cuda.Ptr, error) { return x.room(v.bytes) })
	}
	for _, v := range []struct {
		to *cuda.Ptr
		v  []int64
	}{{&p.begin, begin}, {&p.room, room}, {&p.parts, parts}, {&p.place, place}} {
		keep(v.to, func() (cuda.Ptr, error) { return put(x, v.v, 8) })
	}
	keep(&p.clip, func() (cuda.Ptr, error) { return put(x, clip, 4) })
	keep(&p.length, func() (cuda.Ptr, error) { return put(x, length, 4) })
	return p, err
}

// check is after the first compress: every chunk has sent what it may. The other senders then send the same.
func (p *protocolRoom) check(x *lab) error {
	counts := make([]int32, p.chunks)
	if err := cuda.Get(x.Context, counts, p.counts); err != nil {
		return err
	}
	for i, c := range counts {
		if c != sentEach {
			return fmt.Errorf("compress: chunk %d sends %d values, want %d", i, c, sentEach)
		}
	}
	var err error
	for s := int64(1); s < senders; s++ {
		err = errors.Join(err, x.Copy(p.idx.Add(2*s*p.sent), p.idx, 2*p.sent), x.Copy(p.codes.Add(s*p.sent), p.codes, p.sent), x.Copy(p.scales.Add(s*p.chunks), p.scales, p.chunks))
	}
	return err
}

// protocolKernel is a kernel to time, and the bytes that it has to read and write.
type protocolKernel struct {
	name  string
	grid  int
	args  []any
	bytes float64
}

// kernels in an order in which each finds what it reads.
func (p *protocolRoom) kernels() []protocolKernel {
	n, sent, chunks := float64(p.n), float64(p.sent), int(p.chunks)
	return []protocolKernel{
		{"feedback", int((p.n + 255) / 256), []any{p.e, p.e, p.start, p.end, p.n, float32(0.95)}, 16 * n},
		{"compress", chunks, []any{p.e, p.begin, p.room, p.idx, p.codes, p.scales, p.counts}, 4*n + (2+1+8)*sent},
		{"decode", chunks, []any{p.val, p.codes, p.scales, p.room}, 5 * sent},
		{"outer_step", chunks, []any{p.theta, p.theta, p.begin, p.parts, p.idx, p.codes, p.scales, p.clip, chunks, senders, float32(1e-3), float32(senders)}, 8*n + 3*senders*sent},
		{"round_chunks", chunks, []any{p.copies, p.theta, p.place, p.place, p.length}, 6 * n},
		{"move_chunks", chunks, []any{p.end, p.theta, p.place, p.place, p.length}, 8 * n},
		{"delta_apply", chunks, []any{p.theta, p.copies, p.old, p.place, p.place, p.room, p.idx, p.val, float32(0.5)}, (2 + 4 + 8 + 4 + 2) * sent},
		{"delta_undo", chunks, []any{p.theta, p.copies, p.old, p.place, p.place, p.room, p.idx}, (2 + 4 + 4 + 2) * sent},
	}
}
