package node

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

// packed writes an archive of some entries.
func packed(t testing.TB, list map[string]string, chunk uint32) []byte {
	t.Helper()
	var b bytes.Buffer
	p, err := newPack(&b, []byte(`{"network":"x"}`), chunk)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range slices.Sorted(maps.Keys(list)) {
		if err := p.put([]byte(k), []byte(list[k])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.finish(chain.Hash{1}, 7, chain.Hash{2}, 3); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpacked reads it through a file.
func unpacked(t testing.TB, raw []byte) (map[string]string, *archive, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := openArchive(path)
	if err != nil {
		return nil, nil, err
	}
	defer a.close()
	got := map[string]string{}
	return got, a, a.each(func(k, v []byte) error {
		got[string(k)] = string(v)
		return nil
	})
}

// What is packed is what is unpacked, wherever chunks end; the same entries give the same bytes.
func TestArchiveRoundTrip(t *testing.T) {
	entry := rapid.MapOfN(rapid.StringN(1, -1, 40), rapid.StringN(0, -1, 900), 1, 30)
	rapid.Check(t, func(rt *rapid.T) {
		list, chunk := entry.Draw(rt, "entries"), uint32(rapid.IntRange(leastChunk, 1000).Draw(rt, "chunk"))
		raw := packed(t, list, chunk)
		got, a, err := unpacked(t, raw)
		if err != nil || !maps.Equal(got, list) || string(a.genesis) != `{"network":"x"}` || a.height != 7 || a.rules != 3 || a.entries != uint64(len(list)) {
			rt.Fatalf("%v; %d entries of %d, %+v", err, len(got), len(list), a.manifest)
		}
		if !bytes.Equal(raw, packed(t, list, chunk)) {
			rt.Fatal("another archive of the same entries")
		}
	})
}

// A file that misses a byte, has one more, or has one altered is refused.
func TestArchiveRefuses(t *testing.T) {
	list := map[string]string{"a": "1", "bb": "22", "c": string(make([]byte, 700))}
	raw := packed(t, list, 256)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x40
		got, a, err := unpacked(t, bad)
		if err == nil { // what nobody can check without the network: the genesis, and what the manifest says of the state
			said := *a.manifest
			said.genesis, said.height, said.appHash, said.rules = chain.Hash{1}, 7, chain.Hash{2}, 3
			whole, _, err := unpacked(t, raw)
			if err != nil || !maps.Equal(got, whole) || !bytes.Equal(said.encode(), raw[len(raw)-4-len(said.encode()):len(raw)-4]) {
				t.Errorf("byte %d: %v", i, err)
			}
		} else if !errors.Is(err, ErrArchive) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, _, err := unpacked(t, raw[:i]); !errors.Is(err, ErrArchive) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, _, err := unpacked(t, append(bytes.Clone(raw), 0)); !errors.Is(err, ErrArchive) {
		t.Errorf("a byte more: %v", err)
	}
}

// Entries out of order, twice, or more than announced are refused though every chunk has its hash.
func TestUnpackOrder(t *testing.T) {
	for name, keys := range map[string][]string{"swapped": {"b", "a"}, "twice": {"a", "a"}, "good": {"a", "b"}} {
		var b bytes.Buffer
		p, err := newPack(&b, nil, 256)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if err := p.put([]byte(k), nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.finish(chain.Hash{1}, 7, chain.Hash{2}, 3); err != nil {
			t.Fatal(err)
		}
		if _, _, err := unpacked(t, b.Bytes()); (err == nil) != (name == "good") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing that a peer or a file says panics, and what is taken encodes to the same bytes.
func FuzzManifest(f *testing.F) {
	raw := packed(f, map[string]string{"k": "v"}, 256)
	f.Add(raw[len(raw)-4-manifestLen-32 : len(raw)-4])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(b)
		if err == nil && !bytes.Equal(m.encode(), b) {
			t.Fatal("two forms of one manifest")
		}
		if err != nil && !errors.Is(err, ErrArchive) {
			t.Fatal(err)
		}
	})
}

// The entries of chunks whose hashes are right may be anything.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0, 0, 1, 'x', 0, 1, 'b', 0, 0, 0, 0}, uint16(5))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16) {
		if len(stream) == 0 {
			return
		}
		chunk := leastChunk + uint32(cut)
		m := &manifest{chunk: chunk, size: uint64(len(stream)), entries: 2}
		for b := stream; len(b) > 0; b = b[min(len(b), int(chunk)):] {
			m.hashes = append(m.hashes, sha256.Sum256(b[:min(len(b), int(chunk))]))
		}
		u := unpack{m: m}
		for b := stream; len(b) > 0; b = b[min(len(b), int(chunk)):] {
			if err := u.add(b[:min(len(b), int(chunk))], func(k, v []byte) error { return nil }); err != nil {
				if !errors.Is(err, ErrArchive) {
					t.Fatal(err)
				}
				return
			}
		}
		if !u.done() || u.entries != 2 {
			t.Fatal("it is taken for whole")
		}
	})
}

// FuzzLight: what another node calls a light block never panics.
func FuzzLight(f *testing.F) {
	f.Add([]byte{})
	f.Add(shone(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := decodeLight(raw, "net"); err == nil && b.ValidateBasic("net") != nil {
			t.Fatal("taken, but wrong")
		}
	})
}
