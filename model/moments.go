package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// ErrMoments: the bytes are not saved moments of this model and version.
var ErrMoments = errors.New("model: not a saved optimizer of this model")

// momentsMagic starts saved moments: magic, layout hash, step u64 BE, m and v as little-endian f32 row-major in tensor order,
// SHA-256 of all (FORMAT.md, "Files of a node"). Every engine that keeps float32 moments writes these bytes, so that a miner
// may change its engine; one that keeps others takes a magic of its own, which this one refuses.
const momentsMagic = "sn3adam1"

// momentsHead is the length of what comes before m.
const momentsHead = len(momentsMagic) + sha256.Size + 8

// momentsPiece is how many values are converted at a time.
const momentsPiece = 128 << 10

// SaveMoments writes AdamW's moments m and v, row-major in tensor order, and the number of steps made.
func SaveMoments(w io.Writer, l *Layout, step uint64, m, v []float32) error {
	if len(m) != l.Params() || len(v) != l.Params() {
		return fmt.Errorf("save optimizer: %d and %d moments of %d parameters", len(m), len(v), l.Params())
	}
	return SaveMomentsBy(w, l, step, func(second bool, at int, dst []float32) error {
		copy(dst, pick(second, m, v)[at:])
		return nil
	})
}

// SaveMomentsBy is SaveMoments of moments that read gives: values from at on of m, or with second of v.
func SaveMomentsBy(w io.Writer, l *Layout, step uint64, read func(second bool, at int, dst []float32) error) error {
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	h := l.Hash()
	b := append(make([]byte, 0, 4*momentsPiece), momentsMagic...)
	b = binary.BigEndian.AppendUint64(append(b, h[:]...), step)
	_, err := out.Write(b)
	v := make([]float32, momentsPiece)
	for _, second := range []bool{false, true} {
		for at := 0; err == nil && at < l.Params(); at += momentsPiece {
			v := v[:min(momentsPiece, l.Params()-at)]
			if err = read(second, at, v); err != nil {
				break
			}
			b = b[:0]
			for _, x := range v {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
			_, err = out.Write(b)
		}
	}
	if err == nil {
		_, err = w.Write(sum.Sum(nil))
	}
	if err != nil {
		return fmt.Errorf("save optimizer: %w", err)
	}
	return nil
}

func pick(second bool, m, v []float32) []float32 {
	if second {
		return v
	}
	return m
}

// LoadMoments reads what SaveMoments wrote, to the end of r; on an error m and v are what they were. A file, or another
// io.ReadSeeker, is read twice, first to check it: the moments of a large model are not in memory a second time. If it cannot
// be read again, m and v are zero. What any other reader has is kept in memory until it is checked.
func LoadMoments(r io.Reader, l *Layout, m, v []float32) (step uint64, err error) {
	if len(m) != l.Params() || len(v) != l.Params() {
		return 0, fmt.Errorf("load optimizer: %d and %d moments of %d parameters", len(m), len(v), l.Params())
	}
	wrote := false
	step, err = LoadMomentsBy(r, l, func(second bool, at int, src []float32) error {
		wrote = true
		copy(pick(second, m, v)[at:], src)
		return nil
	})
	if err != nil && wrote {
		clear(m)
		clear(v)
	}
	return step, err
}

// LoadMomentsBy is LoadMoments of moments that write takes: values from at on of m, or with second of v. It takes nothing before all is
// checked; after an error it may have taken some.
func LoadMomentsBy(r io.Reader, l *Layout, write func(second bool, at int, src []float32) error) (step uint64, err error) {
	size := int64(momentsHead) + 8*int64(l.Params()) + sha256.Size
	src, ok := r.(io.ReadSeeker)
	if !ok {
		b, err := io.ReadAll(io.LimitReader(r, size+1))
		if err != nil {
			return 0, fmt.Errorf("load optimizer: %w", err)
		}
		src = bytes.NewReader(b)
	}
	if step, err = checkMoments(src, l, size); err != nil {
		return 0, err
	}
	if err := readMoments(src, l.Params(), write); err != nil {
		return 0, fmt.Errorf("load optimizer: %w", err)
	}
	return step, nil
}

// readMoments gives checked moments of n parameters to write, and leaves src at its end.
func readMoments(src io.ReadSeeker, n int, write func(second bool, at int, src []float32) error) error {
	b, v := make([]byte, 4*momentsPiece), make([]float32, momentsPiece)
	for _, second := range []bool{false, true} {
		for at := 0; at < n; at += momentsPiece {
			v := v[:min(momentsPiece, n-at)]
			if _, err := io.ReadFull(src, b[:4*len(v)]); err != nil {
				return err
			}
			for i := range v {
				v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
			}
			if err := write(second, at, v); err != nil {
				return err
			}
		}
	}
	_, err := src.Seek(sha256.Size, io.SeekCurrent)
	return err
}

// checkMoments refuses what is not exactly size bytes of saved moments of l, and leaves src after the head.
func checkMoments(src io.ReadSeeker, l *Layout, size int64) (step uint64, err error) {
	start, err := src.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, fmt.Errorf("load optimizer: %w", err)
	}
	end, err := src.Seek(0, io.SeekEnd)
	if err == nil && end-start != size {
		return 0, fmt.Errorf("%w: %d bytes, want %d", ErrMoments, end-start, size)
	}
	if err == nil {
		_, err = src.Seek(start, io.SeekStart)
	}
	sum, want, head := sha256.New(), [sha256.Size]byte{}, [momentsHead]byte{}
	if err == nil {
		_, err = io.ReadFull(src, head[:])
	}
	if err == nil {
		sum.Write(head[:])
		_, err = io.CopyN(sum, src, size-int64(momentsHead)-sha256.Size)
	}
	if err == nil {
		_, err = io.ReadFull(src, want[:])
	}
	if err == nil {
		_, err = src.Seek(start+int64(momentsHead), io.SeekStart)
	}
	h := l.Hash()
	switch {
	case err != nil:
		return 0, fmt.Errorf("load optimizer: %w", err)
	case string(head[:len(momentsMagic)]) != momentsMagic:
		return 0, fmt.Errorf("%w: unknown format %q", ErrMoments, head[:len(momentsMagic)])
	case !bytes.Equal(head[len(momentsMagic):][:len(h)], h[:]):
		return 0, fmt.Errorf("%w: made for another layout", ErrMoments)
	case !bytes.Equal(sum.Sum(nil), want[:]):
		return 0, fmt.Errorf("%w: checksum differs", ErrMoments)
	}
	return binary.BigEndian.Uint64(head[len(momentsMagic)+len(h):]), nil
}
