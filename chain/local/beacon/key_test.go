package beacon

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local/beacon/group"
)

func TestKeyEncoding(t *testing.T) {
	for _, n := range []int{1, 2, 7, MaxMembers} {
		_, key, _ := deal(t, n, Quorum(n))
		b := key.Encode()
		got, err := ParseKey(b)
		if err != nil || !reflect.DeepEqual(got, key) || !bytes.Equal(got.Encode(), b) {
			t.Errorf("%d members: %v", n, err)
		}
		if want := 11 + PublicLen + n*(MemberKeyLen+PublicLen); len(b) != want {
			t.Errorf("%d members: %d bytes, want %d", n, len(b), want)
		}
		if err := key.Check(); err != nil {
			t.Errorf("%d members: %v", n, err)
		}
	}
}

// People and tools see keys in hex.
func TestKeyText(t *testing.T) {
	_, key, _ := deal(t, 2, 2)
	b, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	var got Key
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(&got, key) {
		t.Errorf("%s is read as %+v, %v", b, got, err)
	}
	if want := hex.EncodeToString(key.Members[1][:]); !bytes.Contains(b, []byte(want)) {
		t.Errorf("%s has no %s", b, want)
	}
	for _, bad := range []string{"", "00", string(bytes.Repeat([]byte("x"), 2*MemberKeyLen)), string(bytes.Repeat([]byte("0"), 2*MemberKeyLen+2))} {
		if err := new(MemberKey).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is a member key", bad)
		}
		if err := new(PublicKey).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is a public key", bad)
		}
	}
}

// clone is a copy of a key to spoil.
func clone(k *Key) *Key {
	c := *k
	c.Members, c.PublicShares = slices.Clone(k.Members), slices.Clone(k.PublicShares)
	return &c
}

func TestParseKeyRefuses(t *testing.T) {
	_, key, _ := deal(t, 4, 3)
	for name, spoil := range map[string]func(*Key){
		"threshold zero":       func(k *Key) { k.Threshold = 0 },
		"threshold of 5 in 4":  func(k *Key) { k.Threshold = 5 },
		"public at infinity":   func(k *Key) { k.Public = PublicKey{0xc0} },
		"public not a point":   func(k *Key) { k.Public[90] ^= 1 },
		"share not a point":    func(k *Key) { k.PublicShares[3][90] ^= 1 },
		"member at infinity":   func(k *Key) { k.Members[0] = MemberKey{0xc0} },
		"a member twice":       func(k *Key) { k.Members[3] = k.Members[0] },
		"no members":           func(k *Key) { k.Members, k.Threshold = nil, 0 },
		"more than may be":     func(k *Key) { _, k2, _ := deal(t, MaxMembers+1, 3); *k = *k2 },
		"member not in bounds": func(k *Key) { k.Members[1] = MemberKey{} },
	} {
		k := clone(key)
		spoil(k)
		if got, err := ParseKey(k.Encode()); !errors.Is(err, group.ErrFormat) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err := k.Check(); !errors.Is(err, ErrKey) {
			t.Errorf("%s: check: %v", name, err)
		}
	}
	b := key.Encode()
	for name, b := range map[string][]byte{"none": nil, "short": b[:len(b)-1], "long": append(bytes.Clone(b), 0), "version 2": append([]byte{2}, b[1:]...), "head only": b[:11]} {
		if _, err := ParseKey(b); !errors.Is(err, group.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Points that are points, but not of one secret, are seen; and so is a threshold that is too low for them.
func TestKeyCheck(t *testing.T) {
	_, key, _ := deal(t, 7, 5)
	_, other, _ := deal(t, 7, 4)
	for name, spoil := range map[string]func(*Key){
		"another public key":     func(k *Key) { k.Public = other.Public },
		"one share of another":   func(k *Key) { k.PublicShares[3] = other.PublicShares[3] },
		"one share at infinity":  func(k *Key) { k.PublicShares[0] = PublicKey{0xc0} },
		"two shares exchanged":   func(k *Key) { k.PublicShares[1], k.PublicShares[2] = k.PublicShares[2], k.PublicShares[1] },
		"threshold too low":      func(k *Key) { k.Threshold = 4 },
		"a share less":           func(k *Key) { k.PublicShares = k.PublicShares[:6] },
		"a member less":          func(k *Key) { k.Members = k.Members[:6] },
		"all shares of another":  func(k *Key) { k.PublicShares = other.PublicShares },
		"t = n, another public":  func(k *Key) { _, k2, _ := deal(t, 3, 3); *k = *k2; k.Public = other.Public },
		"one, not its own share": func(k *Key) { _, k2, _ := deal(t, 1, 1); *k = *k2; k.PublicShares[0] = other.Public },
	} {
		k := clone(key)
		spoil(k)
		if err := k.Check(); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, ok := key.Index(key.Members[4]); !ok || i != 4 {
		t.Errorf("index %d, %v", i, ok)
	}
	if i, ok := key.Index(MemberKey{1}); ok {
		t.Errorf("a stranger has index %d", i)
	}
	more := clone(key)
	more.Threshold = 6 // any polynomial of degree 4 is one of degree 5
	if err := more.Check(); err != nil {
		t.Errorf("threshold too high: %v", err)
	}
}

// A key signs from its round until the next one begins.
func TestKeysAt(t *testing.T) {
	_, key, _ := deal(t, 1, 1)
	rapid.Check(t, func(rt *rapid.T) {
		from := rapid.SliceOfNDistinct(rapid.Uint64Range(0, 40), 0, 6, rapid.ID[uint64]).Draw(rt, "from")
		slices.Sort(from)
		var ks Keys
		for _, f := range from {
			k := clone(key)
			k.From = chain.Round(f)
			next, err := ks.Add(k)
			if err != nil {
				rt.Fatal(err)
			}
			if _, err := next.Add(k); !errors.Is(err, ErrOrder) {
				rt.Fatalf("a second key from round %d: %v", f, err)
			}
			ks = next
		}
		for r := chain.Round(0); r <= 41; r++ {
			var want *Key
			for _, k := range ks {
				if k.From <= r {
					want = k
				}
			}
			if got, ok := ks.At(r); got != want || ok != (want != nil) {
				rt.Fatalf("at %d: %v, %v", r, got, ok)
			}
		}
		b, err := ks.Encode()
		if err != nil {
			rt.Fatal(err)
		}
		if got, err := ParseKeys(b); err != nil || !reflect.DeepEqual(got, ks) {
			rt.Fatalf("%v, %v", got, err)
		}
		if _, err := ParseKeys(append(b, 0)); !errors.Is(err, group.ErrFormat) {
			rt.Fatalf("a byte more: %v", err)
		}
	})
}

func TestKeysAddKeepsTheList(t *testing.T) {
	_, key, _ := deal(t, 1, 1)
	at := func(r chain.Round) *Key { k := clone(key); k.From = r; return k }
	base := append(make(Keys, 0, 4), at(1), at(5)) // with room for one more
	a, _ := base.Add(at(10))
	b, _ := base.Add(at(20))
	if a[2].From != 10 || b[2].From != 20 || len(base) != 2 {
		t.Errorf("lists share memory: %v %v", a[2].From, b[2].From)
	}
	swapped, err := Keys{at(5), at(1)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	same, err := Keys{at(5), at(5)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{swapped, same, {0, 1}, {0, 0, 0}, {0}, nil} {
		if ks, err := ParseKeys(b); !errors.Is(err, group.ErrFormat) {
			t.Errorf("%x...: %v, %v", b[:min(len(b), 10)], ks, err)
		}
	}
	if _, err := make(Keys, maxKeys+1).Encode(); err == nil {
		t.Error("more keys than can be counted")
	}
}

func FuzzParseKeys(f *testing.F) {
	_, a, _ := deal(f, 2, 1)
	_, b, _ := deal(f, 1, 1)
	b.From++
	two, err := Keys{a, b}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(two)
	f.Add([]byte{0, 0})
	f.Add(a.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseKey(b); err == nil && !bytes.Equal(k.Encode(), b) {
			t.Fatalf("key %x is written %x", b, k.Encode())
		}
		ks, err := ParseKeys(b)
		if err != nil {
			return
		}
		if again, err := ks.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("keys %x are written %x, %v", b, again, err)
		}
	})
}

func BenchmarkKeyCheck(b *testing.B) {
	_, key, _ := deal(b, MaxMembers, Quorum(MaxMembers))
	enc := key.Encode()
	b.Run("parse/64", func(b *testing.B) {
		for b.Loop() {
			if _, err := ParseKey(enc); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check/64", func(b *testing.B) {
		for b.Loop() {
			if err := key.Check(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
