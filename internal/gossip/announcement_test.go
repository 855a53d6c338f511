package gossip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

func TestAnnouncementGolden(t *testing.T) {
	b, err := Announcement{Window: 258, Hotkey: chain.Hotkey{1}, Digest: chain.Hash{2}, Locator: []byte("loc")}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := "534e334101" + "0000000000000102" + "01" + strings.Repeat("00", 31) + "02" + strings.Repeat("00", 31) + "03" + "6c6f63"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := (Announcement{Locator: make([]byte, chain.MaxLocator+1)}).Encode(); err == nil {
		t.Error("encoded a locator that no record can hold")
	}
}

func TestAnnouncementRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Announcement{Window: chain.Window(rapid.Uint64().Draw(t, "w")), Hotkey: chain.Hotkey(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hotkey")),
			Digest: chain.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest")), Locator: rapid.SliceOfN(rapid.Byte(), 0, chain.MaxLocator).Draw(t, "locator")}
		b, err := a.Encode()
		if err != nil || len(b) > MaxAnnouncement {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		got, err := Parse(b)
		if err != nil || got.Window != a.Window || got.Hotkey != a.Hotkey || got.Digest != a.Digest || !bytes.Equal(got.Locator, a.Locator) {
			t.Fatalf("%+v, want %+v; %v", got, a, err)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	good, err := Announcement{Locator: []byte("locator")}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	long := append(bytes.Clone(good[:head]), make([]byte, 200)...)
	long[head-1] = 200
	for name, change := range map[string]func([]byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"trailing":  func(b []byte) []byte { return append(b, 0) },
		"magic":     func(b []byte) []byte { b[3]++; return b },
		"version":   func(b []byte) []byte { b[4]++; return b },
		"length":    func(b []byte) []byte { b[head-1]--; return b },
		"too long":  func([]byte) []byte { return long },
	} {
		if _, err := Parse(change(bytes.Clone(good))); !errors.Is(err, ErrAnnouncement) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, a := range []Announcement{{}, {Window: 7, Hotkey: chain.Hotkey{1}, Digest: chain.Hash{2}, Locator: make([]byte, chain.MaxLocator)}} {
		b, err := a.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse(b)
		if err != nil {
			return
		}
		again, err := a.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("not canonical: %v", err)
		}
	})
}
