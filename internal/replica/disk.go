package replica

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"path/filepath"

	"sn3/chain"
	"sn3/model"
)

// stateFile holds θ between runs: magic, run hash, window u64, root, transition, then f32 LE in chunk order, then SHA-256 of
// all before it. It is only ever replaced whole.
const (
	stateFile  = "theta.sn3"
	stateMagic = "sn3theta1"
)

// writeAtomic writes a file so that a crash at any point leaves the old or the new one: temporary file, fsync, rename,
// fsync of the folder. Without durable the fsyncs are left out, and a power cut may leave anything. The temporary file of a
// crash is overwritten next time, so one path has one writer at a time.
func writeAtomic(path string, durable bool, fill func(io.Writer) error) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	w := bufio.NewWriterSize(f, 1<<18)
	err = fill(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", filepath.Base(path), err), os.Remove(tmp)) // makes room on a full disk
	}
	if !durable {
		return nil
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

func (r *Replica) saveState(s *state) error {
	return writeAtomic(filepath.Join(r.cfg.Dir, stateFile), true, func(w io.Writer) error {
		sum := sha256.New()
		out := io.MultiWriter(w, sum)
		head := append([]byte(stateMagic), r.run[:]...)
		head = binary.BigEndian.AppendUint64(head, uint64(s.window))
		head = append(head, s.root[:]...)
		head = append(head, s.transition[:]...)
		if _, err := out.Write(head); err != nil {
			return err
		}
		if err := writeFloats(out, s.theta.Data); err != nil {
			return err
		}
		_, err := w.Write(sum.Sum(nil))
		return err
	})
}

func writeFloats(w io.Writer, v []float32) error {
	buf := make([]byte, 0, 1<<16)
	for len(v) > 0 {
		n := min(len(v), cap(buf)/4)
		buf = buf[:0]
		for _, x := range v[:n] {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		v = v[n:]
	}
	return nil
}

// checkFolder refuses a folder that another run has used: its error feedback and moments would poison this one.
func (r *Replica) checkFolder() error {
	f, err := os.Open(filepath.Join(r.cfg.Dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read saved model: %w", err)
	}
	defer f.Close()
	head := make([]byte, len(stateMagic)+32)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:len(stateMagic)]) != stateMagic {
		return nil // damaged: loadState sets it aside
	}
	if other := chain.Hash(head[len(stateMagic):]); other != r.run {
		return fmt.Errorf("%w: %s is of run %s, the network runs %s; give this node another folder", ErrOtherRun, f.Name(), other.Short(), r.run.Short())
	}
	return nil
}

// loadState reads the saved state; nil if there is none. A damaged file is set aside and reported: the node then starts from
// a checkpoint.
func (r *Replica) loadState() (*state, error) {
	path := filepath.Join(r.cfg.Dir, stateFile)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read saved model: %w", err)
	}
	defer f.Close()
	s, err := r.readState(bufio.NewReaderSize(f, 1<<18), sha256.New())
	if err != nil {
		r.cfg.Log.Warn("saved model is damaged; starting without it", "reason", err)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return nil, fmt.Errorf("set damaged model aside: %w", err)
		}
		return nil, nil
	}
	return s, nil
}

func (r *Replica) readState(in io.Reader, sum hash.Hash) (*state, error) {
	body := io.TeeReader(in, sum)
	head := make([]byte, len(stateMagic)+32+8+32+32)
	if _, err := io.ReadFull(body, head); err != nil {
		return nil, err
	}
	rest := head[len(stateMagic):]
	if string(head[:len(stateMagic)]) != stateMagic || !bytes.Equal(rest[:32], r.run[:]) {
		return nil, errors.New("of another version")
	}
	s := &state{window: chain.Window(binary.BigEndian.Uint64(rest[32:])), root: chain.Hash(rest[40:72]),
		transition: chain.Hash(rest[72:104]), theta: model.NewFlat(r.layout)}
	if err := readFloats(body, s.theta.Data); err != nil {
		return nil, err
	}
	want := sum.Sum(nil)
	tail := make([]byte, sha256.Size+1)
	if n, err := io.ReadFull(in, tail); n != sha256.Size || !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("wrong length")
	}
	if !bytes.Equal(tail[:sha256.Size], want) {
		return nil, errors.New("checksum differs")
	}
	root, err := r.cfg.Compute.Root(s.theta)
	if err != nil {
		return nil, err
	}
	if root != s.root {
		return nil, errors.New("state root differs")
	}
	return s, nil
}

func readFloats(r io.Reader, v []float32) error {
	buf := make([]byte, 1<<16)
	for len(v) > 0 {
		n := min(len(v), len(buf)/4)
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

// initial is θ_{-1}: the model that the run's seed gives.
func (r *Replica) initial() (*state, error) {
	s := &state{window: chain.NoWindow, theta: model.NewFlat(r.layout)}
	s.theta.Init(r.cfg.Run.Seed)
	root, err := r.cfg.Compute.Root(s.theta)
	if err != nil {
		return nil, fmt.Errorf("hash initial model: %w", err)
	}
	s.root = root
	return s, nil
}

// WriteStream is WriteFile for what fill writes.
func WriteStream(path string, fill func(io.Writer) error) error { return writeAtomic(path, true, fill) }

// WriteFile replaces a file so that a crash at any point leaves the old or the new one.
func WriteFile(path string, b []byte) error { return writeBytes(path, b) }

func writeBytes(path string, b []byte) error {
	return writeAtomic(path, true, func(w io.Writer) error { _, err := w.Write(b); return err })
}
