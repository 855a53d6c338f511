package timelock

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"testing"

	curve "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"pgregory.net/rapid"

	"sn3/chain/bls"
)

// beacon is a key pair for tests: its secret, its public key.
type beacon struct {
	x      *big.Int
	public []byte
}

func newBeacon(x int64) beacon {
	var p curve.G2Affine
	p.ScalarMultiplicationBase(big.NewInt(x))
	b := p.Bytes()
	return beacon{big.NewInt(x), b[:]}
}

func (b beacon) sign(t testing.TB, round uint64) []byte {
	t.Helper()
	m, err := bls.Message(round)
	if err != nil {
		t.Fatal(err)
	}
	var s curve.G1Affine
	s.ScalarMultiplication(&m, b.x)
	raw := s.Bytes()
	if err := bls.Verify(b.public, round, raw[:]); err != nil {
		t.Fatal(err)
	}
	return raw[:]
}

func sealed(t testing.TB, b beacon, round uint64, plain []byte) []byte {
	t.Helper()
	s, err := Seal(b.public, round, plain, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever is sealed is opened by the signature of its round and by no other, and nobody's randomness makes it longer.
func TestRoundTrip(t *testing.T) {
	one, two := newBeacon(3), newBeacon(5)
	rapid.Check(t, func(r *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(r, "plain")
		round := rapid.Uint64().Draw(r, "round")
		seed := rapid.SliceOfN(rapid.Byte(), 76, 76).Draw(r, "randomness")
		s, err := Seal(one.public, round, plain, bytes.NewReader(seed))
		if err != nil {
			r.Fatal(err)
		}
		if len(s) != len(plain)+Overhead {
			r.Fatalf("%d bytes of %d", len(s), len(plain))
		}
		got, err := Open(one.sign(t, round), s)
		if err != nil || !bytes.Equal(got, plain) {
			r.Fatalf("opened %x, %v", got, err)
		}
		for name, sig := range map[string][]byte{"the next round": one.sign(t, round+1), "another beacon": two.sign(t, round)} {
			if got, err := Open(sig, s); !errors.Is(err, ErrSealed) || got != nil {
				r.Fatalf("%s: %x, %v", name, got, err)
			}
		}
	})
}

// A sealed text has one form: no bit can be changed, nothing be added or left out.
func TestOneForm(t *testing.T) {
	b := newBeacon(7)
	sig, s := b.sign(t, 9), sealed(t, b, 9, []byte("weights"))
	if _, err := Open(sig, s); err != nil {
		t.Fatal(err)
	}
	for i := range len(s) + 8 {
		at, bit := i, i%8
		if i >= len(s) {
			at = 0 // whose bits are the flags of U's form
		}
		m := bytes.Clone(s)
		m[at] ^= 1 << bit
		if plain, err := Open(sig, m); !errors.Is(err, ErrSealed) || plain != nil {
			t.Errorf("bit %d of byte %d changed: %q, %v", bit, at, plain, err)
		}
	}
	for n := range s {
		if _, err := Open(sig, s[:n]); !errors.Is(err, ErrSealed) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
	const body = bls.PublicLen + 2*(8+keyLen)
	longer := func(at int, lengths ...int) []byte { // a zero byte put in, and lengths that say so
		m := slices.Insert(bytes.Clone(s), at, 0)
		for _, l := range lengths {
			binary.LittleEndian.PutUint64(m[l:], binary.LittleEndian.Uint64(m[l:])+1)
		}
		return m
	}
	inf := append([]byte{0xc0}, make([]byte, bls.PublicLen-1)...)
	for name, m := range map[string][]byte{
		"none":                    nil,
		"a byte more":             append(bytes.Clone(s), 0),
		"a byte more in V":        longer(bls.PublicLen+8+keyLen, bls.PublicLen),
		"a byte more in W":        longer(body, bls.PublicLen+8+keyLen),
		"a byte more in the body": longer(len(s)-8-len(suite), body),
		"a byte more in the text": longer(body+16+len("weights")+tagLen, body, body+8),
		"a longer nonce":          longer(len(s)-8-len(suite), body, body+16+len("weights")+tagLen),
		"a longer cipher name":    longer(len(s), len(s)-8-len(suite)),
		"U is infinity":           append(inf, s[bls.PublicLen:]...),
	} {
		if plain, err := Open(sig, m); !errors.Is(err, ErrSealed) || plain != nil {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
	for name, sig := range map[string][]byte{"none": nil, "short": sig[1:], "long": append(bytes.Clone(sig), 0), "infinity": append([]byte{0xc0}, make([]byte, 47)...), "no point": make([]byte, 48)} {
		if plain, err := Open(sig, s); !errors.Is(err, ErrSignature) || plain != nil {
			t.Errorf("signature, %s: %q, %v", name, plain, err)
		}
	}
}

// FullIdent: a text that would open under a U of another exponent than H(σ ‖ key) is refused, or U could be chosen.
func TestExponentIsChecked(t *testing.T) {
	b := newBeacon(11)
	sig, s := b.sign(t, 4), sealed(t, b, 4, []byte("weights"))
	c, ok := parse(s)
	point, err := bls.Signature(sig)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	was, err := mask(&point, &c.u)
	if err != nil {
		t.Fatal(err)
	}
	u := commitment(big.NewInt(12345))
	is, err := mask(&point, &u)
	if err != nil {
		t.Fatal(err)
	}
	ub, v := u.Bytes(), xor(xor(c.v, was), is)
	forged := bytes.Clone(s)
	copy(forged, ub[:])
	copy(forged[bls.PublicLen+8:], v[:])
	if plain, err := Open(sig, forged); !errors.Is(err, ErrSealed) || plain != nil {
		t.Errorf("opened to %q, %v", plain, err)
	}
}

func TestSealRefuses(t *testing.T) {
	b := newBeacon(13)
	for name, key := range map[string][]byte{"none": nil, "short": b.public[1:], "infinity": append([]byte{0xc0}, make([]byte, 95)...)} {
		if s, err := Seal(key, 1, nil, rand.Reader); !errors.Is(err, bls.ErrInvalid) || s != nil {
			t.Errorf("public key, %s: %x, %v", name, s, err)
		}
	}
	if s, err := Seal(b.public, 1, nil, io.LimitReader(rand.Reader, 75)); !errors.Is(err, io.ErrUnexpectedEOF) || s != nil {
		t.Errorf("75 bytes of randomness: %x, %v", s, err)
	}
	if s, err := Seal(b.public, 1, nil, io.LimitReader(rand.Reader, 76)); err != nil || len(s) != Overhead {
		t.Errorf("76 bytes of randomness: %x, %v", s, err)
	}
}

func (c *ciphertext) encode(sig, public []byte, round uint64, plain []byte) ([]byte, error) {
	s, err := bls.Signature(sig)
	if err != nil {
		return nil, err
	}
	m, err := mask(&s, &c.u)
	if err != nil {
		return nil, err
	}
	p, err := bls.Public(public)
	if err != nil {
		return nil, err
	}
	q, err := bls.Message(round)
	if err != nil {
		return nil, err
	}
	sigma := xor(c.v, m)
	return seal(&p, &q, sigma, xor(c.w, sha256.Sum256(sigma[:])), c.nonce, plain)
}

// No bytes panic; what opens is what Seal would have written.
func FuzzOpen(f *testing.F) {
	b := newBeacon(17)
	sig := b.sign(f, 6)
	for _, n := range []int{0, 1, 40} {
		s := sealed(f, b, 6, make([]byte, n))
		f.Add(sig, s)
		f.Add(sig, s[:len(s)-1])
		f.Add(sig[1:], s)
	}
	f.Fuzz(func(t *testing.T, sig, s []byte) {
		plain, err := Open(sig, s)
		if err != nil {
			if plain != nil || !errors.Is(err, ErrSealed) && !errors.Is(err, ErrSignature) {
				t.Fatalf("%x, %v", plain, err)
			}
			return
		}
		if bls.Verify(b.public, 6, sig) != nil {
			return // both sides made up: the caller's to refuse
		}
		c, _ := parse(s)
		if again, err := c.encode(sig, b.public, 6, plain); err != nil || !bytes.Equal(again, s) {
			t.Fatalf("%x is another form of %x, %v", s, again, err)
		}
	})
}

var payloadSizes = []int{16, 64, 256}

func benchPayload(n int) []byte {
	return WeightsPayload{UIDs: make([]uint16, n), Values: make([]uint16, n)}.Encode()
}

func BenchmarkSeal(b *testing.B) {
	key := newBeacon(19)
	for _, n := range payloadSizes {
		plain := benchPayload(n)
		b.Run(fmt.Sprintf("weights=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Seal(key.public, 1, plain, rand.Reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	key := newBeacon(19)
	sig := key.sign(b, 1)
	for _, n := range payloadSizes {
		s := sealed(b, key, 1, benchPayload(n))
		b.Run(fmt.Sprintf("weights=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(sig, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
