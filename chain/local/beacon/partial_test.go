package beacon

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local/beacon/group"
)

// deal shares a secret as a dealer that everybody trusts would: what a key looks like without a DKG.
func deal(t testing.TB, n, threshold int) (secret []byte, key *Key, shares []Share) {
	t.Helper()
	poly := make([]group.Scalar, threshold)
	for i := range poly {
		poly[i] = group.HashScalar("test", []byte{byte(n), byte(threshold), byte(i)})
	}
	secret = group.AppendScalar(nil, &poly[0])
	pub, err := Public(secret)
	if err != nil {
		t.Fatal(err)
	}
	key = &Key{From: 100, Threshold: threshold, Public: PublicKey(pub)}
	g := group.BaseG1()
	for i := range n {
		y, x := group.Eval(poly, place(i)), group.HashScalar("member", []byte{byte(i)})
		share := Share{key.From, i, y.Bytes()}
		pub, err := Public(share.Secret[:])
		if err != nil {
			t.Fatal(err)
		}
		m := group.MulG1(&g, &x)
		key.Members = append(key.Members, m.Bytes())
		key.PublicShares = append(key.PublicShares, PublicKey(pub))
		shares = append(shares, share)
	}
	return secret, key, shares
}

func sign(t testing.TB, r chain.Round, shares []Share) []Partial {
	t.Helper()
	var out []Partial
	for _, s := range shares {
		p, err := PartialSign(s, r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// Every threshold of members, in any order, makes the bytes that one signer with the whole secret would make, and that
// Verify accepts. One member less makes nothing, even where it pretends to be enough.
func TestCombine(t *testing.T) {
	for _, c := range []struct{ n, t int }{{1, 1}, {2, 2}, {3, 2}, {4, 3}, {7, 5}, {5, 1}} {
		secret, key, shares := deal(t, c.n, c.t)
		want, err := Sign(secret, 123)
		if err != nil {
			t.Fatal(err)
		}
		partials := sign(t, 123, shares)
		rapid.Check(t, func(rt *rapid.T) {
			ps := rapid.Permutation(partials).Draw(rt, "order")
			got, err := Combine(c.t, ps[:c.t])
			if err != nil || !bytes.Equal(got, want) {
				rt.Fatalf("%d of %d: %x, %v", c.t, c.n, got, err)
			}
			less := ps[:c.t-1]
			if _, err := Combine(c.t, slices.Concat(less, less)); !errors.Is(err, ErrTooFew) {
				rt.Fatalf("%d of %d with %d, each twice: %v", c.t, c.n, len(less), err)
			}
			if got, err := Combine(len(less), less); len(less) > 0 && (err != nil || bytes.Equal(got, want)) {
				rt.Fatalf("%d of %d as if it were enough: %x, %v", len(less), c.n, got, err)
			}
		})
		if err := Verify(key.Public[:], 123, want); err != nil {
			t.Error(err)
		}
		for i, p := range partials {
			if err := VerifyPartial(key.PublicShares[i], 123, p); err != nil {
				t.Errorf("partial of %d: %v", i, err)
			}
			if err := VerifyPartial(key.PublicShares[i], 124, p); !errors.Is(err, ErrBeacon) {
				t.Errorf("partial of %d for another round: %v", i, err)
			}
			if c.t > 1 && VerifyPartial(key.PublicShares[(i+1)%c.n], 123, p) == nil {
				t.Errorf("partial of %d verifies as another member's", i)
			}
		}
	}
}

// Any secret is possible for who has one share less than the threshold: there is a polynomial through them and it.
func TestSharesBelowThresholdSayNothing(t *testing.T) {
	_, _, shares := deal(t, 7, 5)
	for guess := range byte(3) {
		secret := group.HashScalar("guess", []byte{guess})
		// the share of member 6 that would go with the guess and shares 0 to 3: solve Σ λ_i·s_i = guess for it
		xs := []uint64{1, 2, 3, 4, 7}
		l := group.Lagrange(xs)
		rest := secret
		for i := range 4 {
			s := group.NewReader(shares[i].Secret[:]).Scalar()
			s.Mul(&s, &l[i])
			rest.Sub(&rest, &s)
		}
		rest.Div(&rest, &l[4])
		fake := append(slices.Clone(shares[:4]), Share{Index: 6, Secret: rest.Bytes()})
		got, err := Combine(5, sign(t, 9, fake))
		if err != nil {
			t.Fatal(err)
		}
		if want, err := Sign(group.AppendScalar(nil, &secret), 9); err != nil || !bytes.Equal(got, want) {
			t.Errorf("guess %d does not go with four shares of five: %v", guess, err)
		}
	}
}

func TestKeyCombineNamesTheBad(t *testing.T) {
	secret, key, shares := deal(t, 7, 5)
	want, err := Sign(secret, 55)
	if err != nil {
		t.Fatal(err)
	}
	good, other := sign(t, 55, shares), sign(t, 56, shares)
	as := func(p Partial, i int) Partial { p.Index = i; return p }
	infinity, junk := as(good[0], 1), as(good[0], 2)
	infinity.Signature = [SignatureLen]byte{0xc0}
	junk.Signature[20] ^= 1
	for name, c := range map[string]struct {
		ps  []Partial
		bad []int
		ok  bool
	}{
		"all":                         {good, nil, true},
		"just enough":                 {good[2:], nil, true},
		"too few":                     {good[:4], nil, false},
		"nobody":                      {nil, nil, false},
		"two bad":                     {slices.Concat([]Partial{other[3], junk}, good[:2], good[4:]), []int{2, 3}, true},
		"three bad":                   {slices.Concat([]Partial{other[0], infinity, junk}, good[3:]), []int{0, 1, 2}, false},
		"another member's":            {slices.Concat([]Partial{as(good[1], 0)}, good[1:]), []int{0}, true},
		"bad, then right":             {slices.Concat([]Partial{other[0]}, good), []int{0}, true},
		"bad twice":                   {slices.Concat([]Partial{other[0], junk, other[0]}, good[1:2], good[3:]), []int{0, 2}, true},
		"no members":                  {slices.Concat([]Partial{as(good[0], 7), as(good[0], -1), as(good[0], 63), as(good[0], 7)}, good), []int{-1, 7, 63}, true},
		"one of too many is nothing":  {slices.Concat([]Partial{as(good[0], 7)}, good[:4]), []int{7}, false},
		"one and the same five times": {[]Partial{good[0], good[0], good[0], good[0], good[0]}, nil, false},
	} {
		before := fmt.Sprint(c.ps)
		sig, bad, err := key.Combine(55, c.ps)
		if !slices.Equal(bad, c.bad) || (err == nil) != c.ok || c.ok && !bytes.Equal(sig, want) || !c.ok && (!errors.Is(err, ErrTooFew) || sig != nil) {
			t.Errorf("%s: %x, bad %v, %v", name, sig, bad, err)
		}
		if fmt.Sprint(c.ps) != before {
			t.Errorf("%s: the caller's list was changed", name)
		}
	}
}

// A member without a share of its own (its public share is infinity) has no partial that verifies, and stops nobody.
func TestPublicShareAtInfinity(t *testing.T) {
	_, key, shares := deal(t, 4, 3)
	key.PublicShares[1] = PublicKey{0xc0}
	if _, err := ParseKey(key.Encode()); err != nil {
		t.Error(err)
	}
	p := Partial{1, [SignatureLen]byte{0xc0}}
	if err := VerifyPartial(key.PublicShares[1], 5, p); !errors.Is(err, ErrBeacon) {
		t.Errorf("infinity as a signature: %v", err)
	}
	if _, err := PartialSign(Share{Index: 1}, 5); !errors.Is(err, ErrBeacon) {
		t.Errorf("a share of zero signs: %v", err)
	}
	ps := sign(t, 5, []Share{shares[0], shares[2], shares[3]})
	if _, bad, err := key.Combine(5, append([]Partial{p}, ps...)); err != nil || !slices.Equal(bad, []int{1}) {
		t.Errorf("combine: bad %v, %v", bad, err)
	}
}

func TestQuorum(t *testing.T) {
	for n := 1; n <= MaxMembers; n++ {
		q := Quorum(n)
		if q > n || 3*q <= 2*n || 3*(q-1) > 2*n {
			t.Errorf("%d of %d is not the least above two thirds", q, n)
		}
	}
}

func TestShareFile(t *testing.T) {
	_, _, shares := deal(t, 4, 3)
	b, err := shares[2].Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseShare(b); err != nil || got != shares[2] {
		t.Errorf("%v, %v", got, err)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 0x40
		// the round and the index are what they are; a key that has them otherwise does not know the share
		if got, err := ParseShare(damaged); (i < len(shareMagic) || i > len(shareMagic)+8) && !errors.Is(err, group.ErrFormat) {
			t.Errorf("byte %d damaged: %v, %v", i, got, err)
		}
	}
	if _, err := (Share{}).Encode(); !errors.Is(err, ErrBeacon) {
		t.Errorf("a share of zero: %v", err)
	}
}

func FuzzParsePartial(f *testing.F) {
	f.Add(Partial{3, [SignatureLen]byte{0xc0}}.Encode())
	f.Add(make([]byte, PartialLen+1))
	f.Add(append([]byte{MaxMembers}, make([]byte, SignatureLen)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePartial(b)
		if want := len(b) == PartialLen && b[0] < MaxMembers; (err == nil) != want {
			t.Fatalf("%x: %v", b, err)
		}
		if err == nil && !bytes.Equal(p.Encode(), b) {
			t.Fatalf("%x is written %x", b, p.Encode())
		}
	})
}

func FuzzParseShare(f *testing.F) {
	_, _, shares := deal(f, 2, 1)
	b, err := shares[1].Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseShare(b)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is written %x, %v", b, again, err)
		}
	})
}

func BenchmarkPartial(b *testing.B) {
	for _, n := range []int{4, 16, 64} {
		_, key, shares := deal(b, n, Quorum(n))
		ps := sign(b, 7, shares)
		b.Run(fmt.Sprintf("sign/%d", n), func(b *testing.B) {
			for b.Loop() {
				sign(b, 7, shares[:1])
			}
		})
		b.Run(fmt.Sprintf("verify/%d", n), func(b *testing.B) {
			for b.Loop() {
				if err := VerifyPartial(key.PublicShares[0], 7, ps[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("combine/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := Combine(key.Threshold, ps); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("combine-and-verify/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := key.Combine(7, ps); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
