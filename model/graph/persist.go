package graph

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// savedMagic starts the saved optimizer, in the format of model/cpu so that a miner may change its engine: magic, layout hash,
// step u64 BE, m and v as little-endian f32, SHA-256 of all.
const savedMagic = "sn3adam1"

// ErrFormat: the bytes are not a saved optimizer of this model and version.
var ErrFormat = errors.New("graph: not a saved optimizer of this model")

// Save implements model.Persister.
func (t *Trainer) Save(w io.Writer) error {
	hash := t.l.Hash()
	b := append([]byte(savedMagic), hash[:]...)
	b = binary.BigEndian.AppendUint64(b, t.step)
	for _, s := range [][]float32{t.m, t.v} {
		for _, x := range s {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	sum := sha256.Sum256(b)
	if _, err := w.Write(append(b, sum[:]...)); err != nil {
		return fmt.Errorf("save optimizer: %w", err)
	}
	return nil
}

// Load implements model.Persister; on an error nothing is changed.
func (t *Trainer) Load(r io.Reader) error {
	hash := t.l.Hash()
	head := append([]byte(savedMagic), hash[:]...)
	want := len(head) + 8 + 8*len(t.m) + sha256.Size
	b, err := io.ReadAll(io.LimitReader(r, int64(want)+1))
	if err != nil {
		return fmt.Errorf("load optimizer: %w", err)
	}
	if len(b) != want || !bytes.HasPrefix(b, head) {
		return ErrFormat
	}
	if sum := sha256.Sum256(b[:want-sha256.Size]); !bytes.Equal(sum[:], b[want-sha256.Size:]) {
		return fmt.Errorf("%w: checksum differs", ErrFormat)
	}
	b = b[len(head):]
	t.step, b = binary.BigEndian.Uint64(b), b[8:]
	for _, s := range [][]float32{t.m, t.v} {
		for i := range s {
			s[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		b = b[4*len(s):]
	}
	return nil
}
