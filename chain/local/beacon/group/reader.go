package group

import (
	"encoding/binary"
	"errors"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
)

// ErrFormat: bytes that are not the one encoding of what is read from them.
var ErrFormat = errors.New("beacon: malformed bytes")

// Reader takes an encoding apart. After the first thing that is not there or not canonical everything it gives is zero,
// and Done says so.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader reads b, which it does not change.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Bytes are the next n bytes, part of what is read.
func (r *Reader) Bytes(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// Byte is the next byte.
func (r *Reader) Byte() byte { return r.Bytes(1)[0] }

// Uint16 is the next big-endian number of two bytes.
func (r *Reader) Uint16() uint16 { return binary.BigEndian.Uint16(r.Bytes(2)) }

// Uint64 is the next big-endian number of eight bytes.
func (r *Reader) Uint64() uint64 { return binary.BigEndian.Uint64(r.Bytes(8)) }

// Const expects these bytes.
func (r *Reader) Const(want string) { r.Must(string(r.Bytes(len(want))) == want) }

// Must records whether what was read is as it must be.
func (r *Reader) Must(ok bool) { r.bad = r.bad || !ok }

// OK tells whether all was well so far: ask before anything is allocated by a number that was read.
func (r *Reader) OK() bool { return !r.bad }

// Len is how many bytes are left.
func (r *Reader) Len() int { return len(r.b) }

// Scalar is a number below the order.
func (r *Reader) Scalar() Scalar {
	var s Scalar
	r.Must(s.SetBytesCanonical(r.Bytes(ScalarLen)) == nil)
	return s
}

// G1 is a compressed point of the subgroup, not infinity.
func (r *Reader) G1() G1 {
	var p G1
	if b := r.Bytes(G1Len); r.OK() {
		n, err := p.SetBytes(b)
		r.Must(err == nil && n == G1Len && !p.IsInfinity())
	}
	return p
}

// G2 is a compressed point of the subgroup, not infinity.
func (r *Reader) G2() G2 {
	p := r.G2OrInfinity()
	r.Must(!p.IsInfinity())
	return p
}

// G2OrInfinity is a compressed point of the subgroup.
func (r *Reader) G2OrInfinity() G2 {
	var p G2
	if b := r.Bytes(G2Len); r.OK() {
		n, err := p.SetBytes(b)
		r.Must(err == nil && n == G2Len)
	}
	return p
}

// Done is ErrFormat if anything was wrong, or if bytes are left.
func (r *Reader) Done() error {
	if r.bad || len(r.b) > 0 {
		return ErrFormat
	}
	return nil
}

// AppendScalar appends the bytes that Reader.Scalar takes.
func AppendScalar(b []byte, s *Scalar) []byte {
	x := s.Bytes()
	return append(b, x[:]...)
}

// AppendG1 appends the bytes that Reader.G1 takes.
func AppendG1(b []byte, p *bls.G1Affine) []byte {
	x := p.Bytes()
	return append(b, x[:]...)
}

// AppendG2 appends the bytes that Reader.G2 takes.
func AppendG2(b []byte, p *bls.G2Affine) []byte {
	x := p.Bytes()
	return append(b, x[:]...)
}
