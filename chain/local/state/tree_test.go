package state

import (
	"crypto/sha256"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

// rootOf is the definition, computed from scratch.
func rootOf(entries map[string]string, keys []string, depth int) chain.Hash {
	switch len(keys) {
	case 0:
		return chain.Hash{}
	case 1:
		k, v := sha256.Sum256([]byte(keys[0])), sha256.Sum256([]byte(entries[keys[0]]))
		return sha256.Sum256(slices.Concat([]byte{0}, k[:], v[:]))
	}
	var side [2][]string
	for _, k := range keys {
		h := sha256.Sum256([]byte(k))
		b := h[depth/8] >> (7 - depth%8) & 1
		side[b] = append(side[b], k)
	}
	l, r := rootOf(entries, side[0], depth+1), rootOf(entries, side[1], depth+1)
	return sha256.Sum256(slices.Concat([]byte{1}, l[:], r[:]))
}

// Whatever was set and taken out on the way, the root is that of what is there.
func TestTreeIsItsEntries(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var tr tree
		entries := map[string]string{}
		for range rapid.IntRange(0, 60).Draw(rt, "operations") {
			k := rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 0, 3, -1).Draw(rt, "key")
			if rapid.IntRange(0, 2).Draw(rt, "delete") == 0 {
				delete(entries, k)
				tr.set(k, nil)
			} else {
				v := rapid.String().Draw(rt, "value")
				entries[k] = v
				tr.set(k, []byte(v))
			}
			if rapid.Bool().Draw(rt, "ask") {
				if got, want := tr.sum(), rootOf(entries, slices.Collect(maps.Keys(entries)), 0); got != want {
					rt.Fatalf("root %s, want %s of %v", got.Short(), want.Short(), entries)
				}
			}
		}
		if got, want := tr.sum(), rootOf(entries, slices.Collect(maps.Keys(entries)), 0); got != want {
			rt.Fatalf("root %s, want %s of %v", got.Short(), want.Short(), entries)
		}
	})
}

func BenchmarkTree(b *testing.B) {
	var tr tree
	key := func(i int) string { return accountKey(chain.Coldkey{byte(i), byte(i >> 8), byte(i >> 16)}) }
	for i := range 100_000 {
		tr.set(key(i), []byte{1})
	}
	tr.sum()
	i := 0
	for b.Loop() { // 300 of 100,000 entries changed, as a full block does
		for range 300 {
			i = (i + 7919) % 100_000
			tr.set(key(i), []byte{byte(i), byte(i >> 8)})
		}
		tr.sum()
	}
}
