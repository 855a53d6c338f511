package state

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

// Over random histories every account's balance as of every block that can be asked for is what it was then, also after a
// restart from what was stored, and what is kept does not grow.
func TestBalanceAt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, d := machine(t), disk{}
		was := map[chain.Block]map[chain.Coldkey]chain.Amount{}
		see := func() {
			all := map[chain.Coldkey]chain.Amount{}
			for k, a := range s.accounts {
				all[k] = a.Balance
			}
			was[s.Height()] = all
		}
		see()
		span := s.run.Schedule.Length * chain.Block(s.params.KeepWindows)
		for range span + 40 {
			var txs [][]byte
			if rapid.IntRange(0, 7).Draw(rt, "busy") == 0 {
				txs = randomBlock(rt, s)
			}
			d.keep(t, next(s, txs...))
			see()
		}
		again, err := d.restore(s.gen)
		if err != nil {
			rt.Fatal(err)
		}
		for _, m := range []*State{s, again} {
			for b, all := range was {
				for k := range s.accounts {
					got, err := m.BalanceAt(k, b)
					if old := b+span < s.Height(); old != errors.Is(err, chain.ErrPruned) || !old && (err != nil || got != all[k]) {
						rt.Fatalf("block %d at height %d: %d (%v), it was %d", b, s.Height(), got, err, all[k])
					}
				}
			}
			if _, err := m.BalanceAt(chain.Coldkey{}, s.Height()+1); !errors.Is(err, chain.ErrNotYet) {
				rt.Fatalf("a block to come: %v", err)
			}
		}
		for range span + 1 {
			next(s)
		}
		for k, h := range s.journal.blocks {
			if len(h) > 1+int(2*span/s.run.Tempo) {
				rt.Fatalf("account %x keeps %d balances", k[:4], len(h))
			}
		}
		if n := chain.Block(len(s.journal.of)); n > span {
			rt.Fatalf("balances of %d blocks are kept", n)
		}
	})
}

func TestHistoryForms(t *testing.T) {
	for name, h := range map[string][]former{"equal accounts": {{chain.Coldkey{1}, 2}, {chain.Coldkey{1}, 3}}, "descending": {{chain.Coldkey{2}, 2}, {chain.Coldkey{1}, 3}}, "none": nil} {
		if _, err := decodeHistory(encodeHistory(h)); !errors.Is(err, errForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodeHistory(make([]byte, 41)); !errors.Is(err, errForm) {
		t.Errorf("a cut entry: %v", err)
	}
}
