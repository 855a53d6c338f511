package gradients

import (
	"encoding/binary"
	"fmt"
	"slices"

	"sn3/model"
)

// taskChunks is how many chunks a goroutine compresses at a time.
const taskChunks = 64

// worker is what one goroutine needs to compress, reused.
type worker struct {
	picker
	start, end [model.ChunkSize]float32 // copies, where weights cannot show their values
}

// compression is one Begin: Δ and the old e become the new e and a payload. Chunks are independent of each other, so they are
// compressed in any order; the values that they keep go to places as if every chunk kept all it may, and move together afterwards.
type compression struct {
	f          *Feedback
	start, end reader
	e          []float32 // becomes the new error feedback
	p          *Payload
	count      []uint16 // values that chunk i keeps
}

// compress makes the payload and its bytes, and fills e.
func (f *Feedback) compress(start, end model.Weights, e []float32, k int) (*Payload, []byte, error) {
	if k < 1 || k > model.ChunkSize {
		return nil, nil, fmt.Errorf("k %d is not in 1..%d", k, model.ChunkSize)
	}
	n := f.layout.Chunks()
	c := &compression{f: f, start: newReader(start), end: newReader(end), e: e, count: make([]uint16, n),
		p: &Payload{codec: f.codec, k: k, start: make([]int, n+1), scales: make([]byte, n)}}
	for i := range n {
		c.p.start[i+1] = c.p.start[i] + Keep(k, f.layout.Chunk(i).Len)
	}
	c.p.idx, c.p.codes = make([]uint16, c.p.start[n]), make([]byte, c.p.start[n])
	err := each(f.compute, groups(f.layout, taskChunks), &f.workers, func(w *worker, i int) error {
		w.kern = f.compute.kernels()
		for r := group(f.layout, taskChunks, i); r.From < r.To; r.From++ {
			if err := c.chunk(w, r.From); err != nil {
				return fmt.Errorf("chunk %d: %w", r.From, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	c.gather()
	c.p.norm = c.p.measure()
	raw, err := c.p.bytes(f.compute)
	c.p.size = int64(len(raw))
	return c.p, raw, err
}

// chunk compresses chunk i:
//
//  1. Δ = start − end, e <- βe + Δ
//  2. keep the largest, quantise
//  3. e <- e − what receivers decode
func (c *compression) chunk(w *worker, i int) error {
	start, err := c.start.chunk(i, &w.start)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	end, err := c.end.chunk(i, &w.end)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	at := c.f.layout.Chunk(i)
	v, kern := w.dense[:at.Len], w.kern
	most := kern.Feedback(v, c.f.e[at.Start:at.Start+at.Len], start, end, c.f.beta, &w.top) // 1
	from := c.p.start[i]
	sym, err := w.pick(at.Len, c.p.start[i+1]-from, most) // 2
	if err != nil {
		return err
	}
	copy(c.p.idx[from:], sym.idx)
	copy(c.p.codes[from:], sym.codes)
	c.p.scales[i], c.count[i] = sym.scale, uint16(len(sym.idx))
	var level [4]float32
	for code := range level {
		level[code] = value(sym.scale, byte(code))
	}
	for j, x := range sym.idx {
		w.dense[x] -= level[sym.codes[j]&3] // 3
	}
	kern.Stream(c.e[at.Start:at.Start+at.Len], v)
	return nil
}

// gather closes the gaps that chunks with fewer values than they may keep left.
func (c *compression) gather() {
	p, to := c.p, 0
	for i, n := range c.count {
		from := p.start[i]
		if from != to {
			copy(p.idx[to:], p.idx[from:from+int(n)])
			copy(p.codes[to:], p.codes[from:from+int(n)])
			p.start[i] = to
		}
		to += int(n)
	}
	p.start[len(c.count)] = to
	p.idx, p.codes = p.idx[:to], p.codes[:to]
}

// bytes is what WriteTo writes, segments side by side.
func (p *Payload) bytes(c Compute) ([]byte, error) {
	l := p.codec.layout
	segments := make([][]byte, p.codec.segments())
	all := p.codec.tables(p.k)
	err := each(c, len(segments), new(free[bitWriter]), func(w *bitWriter, s int) error {
		*w = bitWriter{buf: w.buf[:0]}
		var t *table
		for r := group(l, segmentChunks, s); r.From < r.To; r.From++ {
			t = all.of(r.From, t)
			putChunk(w, t, p.symbols(r.From))
		}
		w.flush()
		segments[s] = slices.Clone(w.buf)
		return nil
	})
	out := p.codec.head(p.k)
	for _, s := range segments {
		out = append(out, s...)
	}
	for _, s := range segments {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
	}
	return out, err
}

// symbols is chunk i as it is coded.
func (p *Payload) symbols(i int) symbols {
	from, to := p.start[i], p.start[i+1]
	return symbols{p.idx[from:to], p.codes[from:to], p.scales[i]}
}
