package timelock

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// Compact lengths at the edges of their forms, from the SCALE specification.
func TestCompact(t *testing.T) {
	for n, want := range map[int]string{0: "00", 1: "04", 63: "fc", 64: "0101", 16383: "fdff", 16384: "02000100", 1<<30 - 1: "feffffff", 1 << 30: "0300000040", 1<<32 - 1: "03ffffffff"} {
		b := appendCompact(nil, n)
		if got := hex.EncodeToString(b); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
		r := reader{b: append(b, 7)}
		if got := r.compact(); got != n || r.bad || len(r.b) != 1 {
			t.Errorf("%s reads as %d (%+v)", want, got, r)
		}
	}
	for name, s := range map[string]string{"none": "", "0 in two bytes": "0100", "63 in two bytes": "fd00", "63 in four bytes": "fe000000", "16383 in four bytes": "feff0000",
		"1 in five bytes": "0301000000", "2^30-1 in five bytes": "03ffffff3f", "six bytes": "07ffffffff01", "cut after 1 of 2": "01", "cut after 3 of 4": "020001", "cut after 4 of 5": "03000000"} {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		r := reader{b: b}
		if got := r.compact(); !r.bad {
			t.Errorf("%s (%s) reads as %d", name, s, got)
		}
	}
}

func TestPayloadRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		vector := rapid.SliceOfN(rapid.Uint16(), 0, 300)
		p := WeightsPayload{[32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "hotkey")), vector.Draw(r, "uids"), vector.Draw(r, "values"), rapid.Uint64().Draw(r, "key")}
		b := p.Encode()
		got, err := Parse(b)
		if err != nil || !reflect.DeepEqual(got, p) {
			r.Fatalf("%+v, %v", got, err)
		}
		p.Hotkey = [32]byte{}
		if got, err := ParseV3(b[33:]); err != nil || !reflect.DeepEqual(got, p) {
			r.Fatalf("v3: %+v, %v", got, err)
		}
	})
}

func TestPayloadRefuses(t *testing.T) {
	good := WeightsPayload{UIDs: []uint16{1, 2}, Values: []uint16{3, 4}, VersionKey: 5}.Encode()
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	at := func(i int, b byte) []byte {
		m := bytes.Clone(good)
		m[i] = b
		return m
	}
	for name, b := range map[string][]byte{
		"none": nil, "a byte more": append(bytes.Clone(good), 0), "a hotkey of 31 bytes": append([]byte{31 << 2}, good[2:]...), "a hotkey said to have 33 bytes": append([]byte{33 << 2}, good[1:]...), "a hotkey of 33 bytes": append([]byte{33 << 2, 0}, good[1:]...),
		"more uids than bytes": at(33, 63<<2), "a vector of gigabytes": append(append(bytes.Clone(good[:33]), 3, 255, 255, 255, 255), good[34:]...),
		"a long form of 2": append(append(bytes.Clone(good[:33]), 2<<2|1, 0), good[34:]...), "hotkey's length in a long form": append([]byte{32<<2 | 1, 0}, good[1:]...),
	} {
		if p, err := Parse(b); !errors.Is(err, ErrPayload) || !reflect.DeepEqual(p, WeightsPayload{}) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for n := range good {
		if p, err := Parse(good[:n]); !errors.Is(err, ErrPayload) {
			t.Errorf("first %d bytes: %+v, %v", n, p, err)
		}
	}
}

// No bytes panic, and what parses has this one form.
func FuzzParse(f *testing.F) {
	f.Add(WeightsPayload{}.Encode())
	f.Add(WeightsPayload{UIDs: []uint16{1, 2}, Values: make([]uint16, 70), VersionKey: 1 << 60}.Encode())
	f.Add(append([]byte{1, 0}, 3, 0, 0, 0, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := Parse(b); err == nil && !bytes.Equal(p.Encode(), b) {
			t.Fatalf("%x is another form of %+v", b, p)
		}
		if p, err := ParseV3(b); err == nil && !bytes.Equal(p.appendV3(nil), b) {
			t.Fatalf("%x is another form of %+v", b, p)
		}
	})
}
