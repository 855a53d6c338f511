package state

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
)

// What a proposer is told to leave out would fail; what it is left with uses up its nonce, and so does whatever waited for one
// that came later in the list.
func TestInOrder(t *testing.T) {
	pay := local.Transfer{To: chain.Coldkey{1}, Amount: 500}
	rapid.Check(t, func(rt *rapid.T) {
		s := machine(t)
		next(s, tx(t, 3, 0, pay))
		var list [][]byte
		have := map[int][]uint64{}
		for range rapid.IntRange(0, 12).Draw(rt, "transactions") {
			who, nonce := rapid.IntRange(3, 5).Draw(rt, "who"), rapid.Uint64Range(0, 5).Draw(rt, "nonce")
			list = append(list, tx(t, who, nonce, pay))
			have[who] = append(have[who], nonce)
		}
		list = append(list, []byte("junk"))
		want := 0
		for who, nonces := range have {
			n := nonceOf(s, who)
			for slices.Contains(nonces, n) {
				n++
				want++
			}
		}
		got := s.InOrder(list)
		if len(got) != want {
			rt.Fatalf("%d of %d transactions, want %d", len(got), len(list), want)
		}
		if r := next(s, got...); slices.Contains(r.Spent, false) {
			rt.Fatalf("they used up %v, codes %v", r.Spent, r.Codes)
		}
	})
}

// What does not have to wait comes in the order of the list.
func TestInOrderKeepsOrder(t *testing.T) {
	s, pay := machine(t), local.Transfer{To: chain.Coldkey{1}, Amount: 500}
	a0, a1, a2, b0, b1 := tx(t, 3, 0, pay), tx(t, 3, 1, pay), tx(t, 3, 2, pay), tx(t, 4, 0, pay), tx(t, 4, 1, pay)
	gap, other := tx(t, 5, 1, pay), tx(t, 3, 0, local.Transfer{To: chain.Coldkey{2}, Amount: 500})
	if got, want := s.InOrder([][]byte{a2, gap, b0, a1, a0, other, b1, b1}), [][]byte{b0, a0, a1, a2, b1}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%d: %x", len(got), got)
	}
}
