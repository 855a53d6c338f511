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
	"sn3/model/kern"
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
	spare   []float32 // memory for the next e: one that is no longer valid
	pending *Pending
	compute Compute
	workers free[worker]
}

// Use sets what Begin computes with; without it, one thread and portable kernels. The payload and e are the same for any.
func (f *Feedback) Use(c Compute) {
	f.compute = c
	f.codec.Use(c)
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
		f.e = kern.Alloc[float32](f.layout.Params())
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
// and writes payload and new e to the free slot before it returns. Nothing changes until Confirm. start and end are read by as many
// goroutines at once as Use allows.
func (f *Feedback) Begin(start, end model.Weights, w chain.Window, k int) (*Pending, error) {
	if f.pending != nil {
		return nil, ErrPending
	}
	if start.Layout().Hash() != f.layout.Hash() || end.Layout().Hash() != f.layout.Hash() {
		return nil, fmt.Errorf("compress window %d: weights of another layout", w)
	}
	e := f.spare
	if f.spare = nil; e == nil {
		e = kern.Alloc[float32](len(f.e))
	}
	payload, raw, err := f.compress(start, end, e, k)
	if err != nil {
		f.spare = e
		return nil, fmt.Errorf("compress window %d: %w", w, err)
	}
	p := &Pending{f: f, seq: f.seq + 1, window: w, raw: raw, payload: payload, e: e}
	if err := f.files.replace(slotName(p.seq), p.encode); err != nil {
		f.spare = e
		return nil, fmt.Errorf("save pending payload in %s (is the disk full?): %w", f.files.dir, err)
	}
	f.pending = p
	return p, nil
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
	f.seq, f.e, f.spare, f.pending = p.seq, p.e, f.e, nil
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
	f.spare, f.pending = p.e, nil
	return nil
}
