package bls

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	curve "github.com/consensys/gnark-crypto/ecc/bls12-381"
)

// The public key of drand's quicknet and its signature of round 1000.
const (
	quicknetKey = "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb" +
		"5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
	quicknet1000 = "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVerify(t *testing.T) {
	key, sig := unhex(t, quicknetKey), unhex(t, quicknet1000)
	if err := Verify(key, 1000, sig); err != nil {
		t.Error(err)
	}
	if err := Verify(key, 1001, sig); !errors.Is(err, ErrInvalid) {
		t.Errorf("round 1001 with the signature of 1000: %v", err)
	}
	_, _, g1, g2 := curve.Generators()
	other := g2.Bytes()
	if err := Verify(other[:], 1000, sig); !errors.Is(err, ErrInvalid) {
		t.Errorf("with another key: %v", err)
	}
	wrong := g1.Bytes()
	if err := Verify(key, 1000, wrong[:]); !errors.Is(err, ErrInvalid) {
		t.Errorf("another point: %v", err)
	}
}

// One form per point: what an encoder would not write is refused, and so is what lies outside the subgroup.
func TestForms(t *testing.T) {
	_, _, g1, g2 := curve.Generators()
	sig, key := g1.Bytes(), g2.Bytes()
	raw1, raw2 := g1.RawBytes(), g2.RawBytes()
	for name, b := range map[string][]byte{
		"none": nil, "short": sig[1:], "long": append(bytes.Clone(sig[:]), 0), "uncompressed": raw1[:], "uncompressed, cut": raw1[:SignatureLen],
		"infinity": infinity(SignatureLen), "infinity with a bit": append([]byte{0xe0}, make([]byte, SignatureLen-1)...), "no flag": append([]byte{sig[0] &^ 0x80}, sig[1:]...),
		"x is the modulus":                          unhex(t, "9a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"),
		"x = 4, on the curve, outside the subgroup": append([]byte{0x80}, append(make([]byte, SignatureLen-2), 4)...),
	} {
		if _, err := Signature(b); !errors.Is(err, ErrInvalid) {
			t.Errorf("signature, %s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"none": nil, "short": key[1:], "long": append(bytes.Clone(key[:]), 0), "uncompressed": raw2[:], "uncompressed, cut": raw2[:PublicLen],
		"infinity": infinity(PublicLen), "a point of G1": append(bytes.Clone(sig[:]), sig[:]...),
		"x = 2, on the curve, outside the subgroup": append([]byte{0x80}, append(make([]byte, PublicLen-2), 2)...),
	} {
		if _, err := Public(b); !errors.Is(err, ErrInvalid) {
			t.Errorf("public key, %s: %v", name, err)
		}
	}
	if _, err := Signature(sig[:]); err != nil {
		t.Error(err)
	}
	if _, err := Public(key[:]); err != nil {
		t.Error(err)
	}
}

func infinity(n int) []byte { return append([]byte{0xc0}, make([]byte, n-1)...) }

// Nothing but the one signature of a round verifies: there is nothing to choose, and no bytes panic.
func FuzzVerify(f *testing.F) {
	key, sig := unhex(f, quicknetKey), unhex(f, quicknet1000)
	f.Add(sig)
	f.Add(infinity(SignatureLen))
	f.Add(key)
	f.Add(append([]byte{sig[0] ^ 0x20}, sig[1:]...)) // the other root: −signature
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := Verify(key, 1000, b); (err == nil) != bytes.Equal(b, sig) {
			t.Fatalf("%x: %v", b, err)
		}
		b = append(b, make([]byte, PublicLen)...)[:PublicLen]
		if p, err := Public(b); err == nil {
			if c := p.Bytes(); !bytes.Equal(c[:], b) {
				t.Fatalf("%x is another form of %x", b, c)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	key, sig := unhex(b, quicknetKey), unhex(b, quicknet1000)
	for b.Loop() {
		if err := Verify(key, 1000, sig); err != nil {
			b.Fatal(err)
		}
	}
}
