package gradients

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"sn3/chain"
	"sn3/model"
)

// Files of a feedback folder: two slots of payload + error feedback, and the number of the confirmed one.
const (
	slotMagic = "SN3F1"
	headFile  = "head"
	slotHead  = len(slotMagic) + 32 + 8 + 8 + 8
)

// ErrPending: Begin was called while a payload is neither confirmed nor discarded.
var ErrPending = errors.New("gradients: a payload is pending; confirm or discard it first")

// Feedback is a miner's error feedback e: what was learned and not sent yet (Seide et al., Interspeech 2014; decay β as in
// CCLoco, arXiv 2508.15706). It changes in transactions that survive a crash at any point: Begin writes payload and new e to
// the second of two slots, Confirm makes that slot the valid one, Discard drops it.
type Feedback struct {
	dir     string
	layout  *model.Layout
	codec   *Codec
	beta    float32
	seq     uint64    // of the confirmed slot; 0: e is zero
	e       []float32 // chunk order
	pending *Pending
	step    func(string) // called before each file operation; crash tests stop there
}

// OpenFeedback opens or makes the folder. A payload that a crash left pending is in Pending.
func OpenFeedback(dir string, l *model.Layout, beta float32) (*Feedback, error) {
	return openFeedback(dir, l, beta, func(string) {})
}

func openFeedback(dir string, l *model.Layout, beta float32, step func(string)) (*Feedback, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make feedback folder: %w", err)
	}
	f := &Feedback{dir: dir, layout: l, codec: NewCodec(l), beta: beta, e: make([]float32, l.Params()), step: step}
	b, err := os.ReadFile(filepath.Join(dir, headFile))
	switch {
	case err == nil && len(b) == 8:
		f.seq = binary.BigEndian.Uint64(b)
	case err == nil:
		return nil, fmt.Errorf("read feedback: %s is damaged; delete the folder to start with empty error feedback", headFile)
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("read feedback: %w", err)
	}
	if f.seq > 0 {
		p, err := f.readSlot(f.seq)
		if err != nil {
			return nil, fmt.Errorf("read feedback: %w; delete the folder to start with empty error feedback", err)
		}
		f.e = p.e
	}
	if p, err := f.readSlot(f.seq + 1); err == nil {
		f.pending = p
	}
	return f, nil
}

// Pending is a payload on disk that is neither confirmed nor discarded yet.
type Pending struct {
	f       *Feedback
	seq     uint64
	window  chain.Window
	raw     []byte
	payload *Payload
	e       []float32
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
	if err := f.replace(slotName(p.seq), p.encode); err != nil {
		return nil, fmt.Errorf("save pending payload (is the disk full?): %w", err)
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

// Confirm makes the pending slot the valid one: the payload counts as sent.
func (p *Pending) Confirm() error {
	f := p.f
	if f.pending != p {
		return fmt.Errorf("confirm payload of window %d: it is not pending", p.window)
	}
	if err := f.replace(headFile, func(w io.Writer) error {
		_, err := w.Write(binary.BigEndian.AppendUint64(nil, p.seq))
		return err
	}); err != nil {
		return fmt.Errorf("confirm payload of window %d: %w", p.window, err)
	}
	f.seq, f.e, f.pending = p.seq, p.e, nil
	return nil
}

// Discard drops the pending slot: its content stays in the error feedback as it was before Begin, without the new Δ.
func (p *Pending) Discard() error {
	f := p.f
	if f.pending != p {
		return fmt.Errorf("discard payload of window %d: it is not pending", p.window)
	}
	f.step("remove slot")
	if err := os.Remove(filepath.Join(f.dir, slotName(p.seq))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("discard payload of window %d: %w", p.window, err)
	}
	f.pending = nil
	return nil
}

func slotName(seq uint64) string { return fmt.Sprintf("slot-%d", seq%2) }

// encode writes a slot: magic, layout hash, seq, window, payload length, payload, e as little-endian f32, SHA-256 of all.
func (p *Pending) encode(w io.Writer) error {
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	hash := p.f.layout.Hash()
	b := append([]byte(slotMagic), hash[:]...)
	b = binary.BigEndian.AppendUint64(b, p.seq)
	b = binary.BigEndian.AppendUint64(b, uint64(p.window))
	b = binary.BigEndian.AppendUint64(b, uint64(len(p.raw)))
	b = append(b, p.raw...)
	for _, x := range p.e {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	if _, err := out.Write(b); err != nil {
		return err
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

func (f *Feedback) readSlot(seq uint64) (*Pending, error) {
	b, err := os.ReadFile(filepath.Join(f.dir, slotName(seq)))
	if err != nil {
		return nil, err
	}
	hash := f.layout.Hash()
	if len(b) < slotHead+sha256.Size || string(b[:len(slotMagic)]) != slotMagic || !bytes.Equal(b[5:37], hash[:]) {
		return nil, errors.New("slot of another model or version")
	}
	body, tail := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], tail) {
		return nil, errors.New("slot is damaged")
	}
	p := &Pending{f: f, seq: binary.BigEndian.Uint64(b[37:]), window: chain.Window(binary.BigEndian.Uint64(b[45:]))}
	n := binary.BigEndian.Uint64(b[53:])
	rest := body[slotHead:]
	if p.seq != seq || n > uint64(len(rest)) || uint64(len(rest))-n != uint64(4*f.layout.Params()) {
		return nil, errors.New("slot does not hold what is wanted")
	}
	p.raw = rest[:n]
	p.e = make([]float32, f.layout.Params())
	for i := range p.e {
		p.e[i] = math.Float32frombits(binary.LittleEndian.Uint32(rest[int(n)+4*i:]))
	}
	p.payload, err = f.codec.Open(bytes.NewReader(p.raw), int64(n))
	return p, err
}

// replace writes a file so that a crash leaves the old or the new one: temporary file, fsync, rename, fsync of the folder.
func (f *Feedback) replace(name string, fill func(io.Writer) error) error {
	path := filepath.Join(f.dir, name)
	f.step("create " + name)
	t, err := os.CreateTemp(f.dir, ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	if err = fill(t); err == nil {
		f.step("sync " + name)
		err = t.Sync()
	}
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	f.step("rename " + name)
	if err := os.Rename(t.Name(), path); err != nil {
		return err
	}
	f.step("sync folder")
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
