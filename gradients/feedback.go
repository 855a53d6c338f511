package gradients

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"sn3/chain"
	"sn3/model"
)

// ErrPending: Begin was called while a payload is neither confirmed nor discarded.
var ErrPending = errors.New("gradients: a payload is pending; confirm or discard it first")

// Feedback is a miner's error feedback e: what was learned and not sent yet (Seide et al., Interspeech 2014; decay β as in
// SparseLoCo, arXiv 2508.15706). It changes in transactions that survive a crash at any point: Begin writes payload and new
// e to the second of two slots, Confirm makes that slot the valid one, Discard drops it. Not safe for concurrent use; one
// process per folder.
type Feedback struct {
	files   folder
	layout  *model.Layout
	codec   *Codec
	beta    float32
	seq     uint64    // of the confirmed slot; 0: e is zero
	e       []float32 // chunk order
	pending *Pending
}

// OpenFeedback opens or makes the folder. A payload that a crash left pending is in Pending.
func OpenFeedback(dir string, l *model.Layout, beta float32) (*Feedback, error) {
	return openFeedback(dir, l, beta, func(string, string) error { return nil })
}

func openFeedback(dir string, l *model.Layout, beta float32, before func(op, path string) error) (*Feedback, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make feedback folder: %w", err)
	}
	f := &Feedback{files: folder{dir, before}, layout: l, codec: NewCodec(l), beta: beta}
	if err := f.load(); err != nil {
		if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read error feedback: %w; delete %s to start with an empty one", err, dir)
		}
		return nil, fmt.Errorf("read error feedback: %w", err)
	}
	return f, nil
}

// load reads the confirmed slot, which must be there, and the one after it, which may be.
func (f *Feedback) load() (err error) {
	if f.seq, err = f.files.readHead(); err != nil {
		return err
	}
	if f.seq == 0 {
		f.e = make([]float32, f.layout.Params())
	} else {
		p, err := f.readSlot(f.seq)
		if err != nil {
			return err
		}
		f.e = p.e
	}
	f.pending, err = f.readSlot(f.seq + 1)
	if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
		return nil // the slot before the confirmed one, or none
	}
	return err
}

// Pending is a payload on disk that is neither confirmed nor discarded yet.
type Pending struct {
	f       *Feedback
	seq     uint64
	window  chain.Window
	raw     []byte
	payload *Payload
	e       []float32
	doubt   bool // Confirm failed: the disk may say confirmed
}

// Pending is the payload to settle, or nil.
func (f *Feedback) Pending() *Pending { return f.pending }

// Window is the window that the payload is for.
func (p *Pending) Window() chain.Window { return p.window }

// Payload is what receivers decode.
func (p *Pending) Payload() *Payload { return p.payload }

// Bytes are the payload's bytes.
func (p *Pending) Bytes() io.ReaderAt { return bytes.NewReader(p.raw) }

// Size is their number.
func (p *Pending) Size() int64 { return int64(len(p.raw)) }

// Sum is their SHA-256.
func (p *Pending) Sum() chain.Hash { return sha256.Sum256(p.raw) }

// Stats counts what the payload carries.
func (p *Pending) Stats() Stats { return p.payload.Stats() }

// Begin compresses what was learned in window w:
//
//  1. Δ = start − end
//  2. e <- βe + Δ
//  3. payload = top-k, 2-bit of e
//  4. e <- e − decode(payload): exactly what receivers will add is taken out
//
// and writes payload and new e to the free slot before it returns. Nothing changes until Confirm.
func (f *Feedback) Begin(start, end model.Weights, w chain.Window, k int) (*Pending, error) {
	if f.pending != nil {
		return nil, ErrPending
	}
	if start.Layout().Hash() != f.layout.Hash() || end.Layout().Hash() != f.layout.Hash() {
		return nil, fmt.Errorf("compress window %d: weights of another layout", w)
	}
	src := &delta{start: start, end: end, e: make([]float32, len(f.e)), old: f.e, beta: f.beta, layout: f.layout}
	var raw bytes.Buffer
	_, err := f.codec.Encode(&raw, src, k, func(i int, idx []uint16, val []float32) { // 3
		at := src.e[f.layout.Chunk(i).Start:]
		for j, x := range idx {
			at[x] -= val[j] // 4
		}
	})
	if err != nil {
		return nil, fmt.Errorf("compress window %d: %w", w, err)
	}
	payload, err := f.codec.Open(bytes.NewReader(raw.Bytes()), int64(raw.Len()))
	if err != nil {
		return nil, fmt.Errorf("compress window %d: own payload: %w", w, err)
	}
	p := &Pending{f: f, seq: f.seq + 1, window: w, raw: raw.Bytes(), payload: payload, e: src.e}
	if err := f.files.replace(slotName(p.seq), p.encode); err != nil {
		return nil, fmt.Errorf("save pending payload in %s (is the disk full?): %w", f.files.dir, err)
	}
	f.pending = p
	return p, nil
}

// delta is the source of Begin: chunk i of βe + Δ, kept in e.
type delta struct {
	start, end model.Weights
	layout     *model.Layout
	old, e     []float32
	beta       float32
	buf        [model.ChunkSize]float32
}

// Chunk implements Source.
func (d *delta) Chunk(i int, dst []float32) error {
	c, r := d.layout.Chunk(i), model.ChunkRange{From: i, To: i + 1}
	if err := d.start.Read(dst, r); err != nil {
		return err
	}
	end := d.buf[:c.Len]
	if err := d.end.Read(end, r); err != nil {
		return err
	}
	for j := range dst {
		dst[j] = float32(d.beta*d.old[c.Start+j]) + (dst[j] - end[j]) // 1, 2
	}
	copy(d.e[c.Start:], dst)
	return nil
}

// Confirm makes the pending slot the valid one: the payload counts as sent. After an error it can be called again.
func (p *Pending) Confirm() error {
	f := p.f
	if f.pending != p {
		return fmt.Errorf("confirm payload of window %d: it is not pending", p.window)
	}
	if err := f.files.writeHead(p.seq); err != nil {
		p.doubt = true
		return fmt.Errorf("confirm payload of window %d: %w", p.window, err)
	}
	f.seq, f.e, f.pending = p.seq, p.e, nil
	return nil
}

// Discard drops the pending slot: e is what it was before Begin, and what was learned in the window is lost. After an error it
// can be called again; it may also follow a Confirm that failed.
func (p *Pending) Discard() error {
	f := p.f
	if f.pending != p {
		return fmt.Errorf("discard payload of window %d: it is not pending", p.window)
	}
	var err error
	if p.doubt {
		err = f.files.writeHead(f.seq)
	}
	if err == nil {
		err = f.files.remove(slotName(p.seq))
	}
	if err != nil {
		return fmt.Errorf("discard payload of window %d: %w", p.window, err)
	}
	f.pending = nil
	return nil
}
