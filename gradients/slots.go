package gradients

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"sn3/chain"
	"sn3/model"
	"sn3/model/kern"
)

// The files of a feedback folder (docs/FORMAT.md, "Error feedback"): two slots of payload and error feedback, and the number
// of the confirmed one.
const (
	headFile  = "head"
	headMagic = "SN3H1"
	headSize  = len(headMagic) + 8 + sha256.Size
	slotMagic = "SN3F1"
	slotHead  = len(slotMagic) + 32 + 8 + 8 + 8
	fileBuf   = 1 << 18
)

// errDamaged: a file is not what was written; a crash cannot do this, only a broken disk, an editor, or another model.
var errDamaged = errors.New("damaged, or of another model or version")

// folder changes files so that a crash at any point leaves each file as it was or as it shall be.
type folder struct {
	dir string
	// before is called before each operation with the file it concerns; a crash test fails from some point on.
	before func(op, path string) error
}

func (d folder) path(name string) string { return filepath.Join(d.dir, name) }

// replace writes a file: temporary file, fsync, rename, fsync of the folder. A temporary file that a crash leaves behind is
// overwritten by the next call.
func (d folder) replace(name string, fill func(io.Writer) error) error {
	path, tmp := d.path(name), d.path(name+".tmp")
	if err := d.before("create", tmp); err != nil {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, fileBuf)
	if err = fill(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = d.before("sync", tmp)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.before("rename", tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		if d.before("remove", tmp) == nil {
			err = errors.Join(err, os.Remove(tmp)) // makes room on a full disk
		}
		return err
	}
	return d.sync()
}

// remove deletes a file; that it is not there is no error.
func (d folder) remove(name string) error {
	if err := d.before("remove", d.path(name)); err != nil {
		return err
	}
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.sync()
}

func (d folder) sync() error {
	if err := d.before("sync folder", d.dir); err != nil {
		return err
	}
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readHead returns the number of the confirmed slot, 0 if nothing was ever confirmed.
func (d folder) readHead() (seq uint64, err error) {
	b, err := os.ReadFile(d.path(headFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if want := encodeHead(b); want == nil || !bytes.Equal(b, want) {
		return 0, fmt.Errorf("%s: %w", headFile, errDamaged)
	}
	return binary.BigEndian.Uint64(b[len(headMagic):]), nil
}

// writeHead makes seq the confirmed slot; 0 is no head, as in a new folder.
func (d folder) writeHead(seq uint64) error {
	if seq == 0 {
		return d.remove(headFile)
	}
	return d.replace(headFile, func(w io.Writer) error {
		_, err := w.Write(headOf(seq))
		return err
	})
}

// encodeHead gives the canonical form of a head that has b's number; nil if b has another length.
func encodeHead(b []byte) []byte {
	if len(b) != headSize {
		return nil
	}
	return headOf(binary.BigEndian.Uint64(b[len(headMagic):]))
}

func headOf(seq uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte(headMagic), seq)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func slotName(seq uint64) string { return fmt.Sprintf("slot-%d", seq%2) }

// encode writes a slot: magic, layout hash, seq, window, payload length, payload, e as little-endian f32, SHA-256 of all.
func (p *Pending) encode(w io.Writer) error {
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	layout := p.f.layout.Hash()
	head := append([]byte(slotMagic), layout[:]...)
	head = binary.BigEndian.AppendUint64(head, p.seq)
	head = binary.BigEndian.AppendUint64(head, uint64(p.window))
	head = binary.BigEndian.AppendUint64(head, uint64(len(p.raw)))
	if _, err := out.Write(head); err != nil {
		return err
	}
	if _, err := out.Write(p.raw); err != nil {
		return err
	}
	var buf [fileBuf]byte
	for e := p.e; len(e) > 0; {
		b := littleEndian(buf[:], e[:min(len(e), len(buf)/4)])
		if _, err := out.Write(b); err != nil {
			return err
		}
		e = e[len(b)/4:]
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

// readSlot reads slot seq. errDamaged and fs.ErrNotExist mean that there is no such slot; other errors are the disk's.
func (f *Feedback) readSlot(seq uint64) (*Pending, error) {
	file, err := os.Open(f.files.path(slotName(seq)))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	p, err := f.parseSlot(bufio.NewReaderSize(file, fileBuf), info.Size(), seq)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = errDamaged
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", slotName(seq), err)
	}
	return p, nil
}

func (f *Feedback) parseSlot(r io.Reader, size int64, seq uint64) (*Pending, error) {
	sum := sha256.New()
	body := io.TeeReader(r, sum)
	head := make([]byte, slotHead)
	if _, err := io.ReadFull(body, head); err != nil {
		return nil, err
	}
	layout := f.layout.Hash()
	p := &Pending{f: f, seq: binary.BigEndian.Uint64(head[37:]), window: chain.Window(binary.BigEndian.Uint64(head[45:]))}
	room := size - int64(slotHead) - int64(4*f.layout.Params()) - sha256.Size
	if string(head[:5]) != slotMagic || !bytes.Equal(head[5:37], layout[:]) || p.seq != seq || room < 0 || room > f.codec.MaxLen(model.ChunkSize) || binary.BigEndian.Uint64(head[53:]) != uint64(room) {
		return nil, errDamaged
	}
	p.raw, p.e = make([]byte, room), kern.Alloc[float32](f.layout.Params())
	if _, err := io.ReadFull(body, p.raw); err != nil {
		return nil, err
	}
	if err := readFloats(body, p.e); err != nil {
		return nil, err
	}
	if err := checkSum(r, sum); err != nil {
		return nil, err
	}
	var err error
	if p.payload, err = f.codec.Open(bytes.NewReader(p.raw), room); err != nil {
		return nil, errDamaged
	}
	return p, nil
}

func readFloats(r io.Reader, v []float32) error {
	var buf [4 * model.ChunkSize]byte
	for len(v) > 0 {
		n := min(len(v), model.ChunkSize)
		if _, err := io.ReadFull(r, buf[:4*n]); err != nil {
			return err
		}
		for i := range n {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(buf[4*i:]))
		}
		v = v[n:]
	}
	return nil
}

// checkSum compares the hash of what was read with the one that follows it.
func checkSum(r io.Reader, sum hash.Hash) error {
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(r, want); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return errDamaged
	}
	return nil
}
