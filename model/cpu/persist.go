package cpu

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// savedMagic starts the saved optimizer: magic, layout hash, step u64 BE, m and v as little-endian f32, SHA-256 of all.
const savedMagic = "sn3adam1"

// ErrFormat: the bytes are not a saved optimizer of this model and version.
var ErrFormat = errors.New("cpu: not a saved optimizer of this model")

// Save implements model.Persister.
func (t *Trainer) Save(w io.Writer) error {
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	hash := t.net.layout.Hash()
	b := append([]byte(savedMagic), hash[:]...)
	b = binary.BigEndian.AppendUint64(b, t.step)
	for _, s := range [][]float32{t.m, t.v} {
		for _, x := range s {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		if _, err := out.Write(b); err != nil {
			return fmt.Errorf("save optimizer: %w", err)
		}
		b = b[:0]
	}
	if _, err := w.Write(sum.Sum(nil)); err != nil {
		return fmt.Errorf("save optimizer: %w", err)
	}
	return nil
}

// Load implements model.Persister; on an error nothing is changed.
func (t *Trainer) Load(r io.Reader) error {
	const head = len(savedMagic) + 32 + 8
	want := head + 8*len(t.m) + sha256.Size
	b, err := io.ReadAll(io.LimitReader(r, int64(want)+1))
	if err != nil {
		return fmt.Errorf("load optimizer: %w", err)
	}
	hash := t.net.layout.Hash()
	if len(b) != want || string(b[:len(savedMagic)]) != savedMagic || !bytes.Equal(b[len(savedMagic):len(savedMagic)+32], hash[:]) {
		return ErrFormat
	}
	body := b[:want-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return fmt.Errorf("%w: checksum differs", ErrFormat)
	}
	t.step = binary.BigEndian.Uint64(b[len(savedMagic)+32:])
	rest := body[head:]
	for _, s := range [][]float32{t.m, t.v} {
		for i := range s {
			s[i] = math.Float32frombits(binary.LittleEndian.Uint32(rest[4*i:]))
		}
		rest = rest[4*len(s):]
	}
	return nil
}
