package state

import (
	"slices"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/preset"
)

// No bytes as a transaction or beacon panic the machine, and every transaction gets a code.
func FuzzFinalize(f *testing.F) {
	f.Add(tx(f, 0, 0, register()))
	f.Add(tx(f, 0, 0, local.SetWeights{Weights: []chain.Weight{{UID: 3, Value: 7}}}))
	f.Add(tx(f, 4, 0, register()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := machine(t)
		s.CheckTx(raw)
		for range 2 {
			if r := s.Finalize(Block{Height: s.Height() + 1, Beacons: []Beacon{{Signature: raw}, {Round: 1, Signature: raw}}, Txs: [][]byte{raw, nil, raw}}); len(r.Codes) != 3 {
				t.Fatal("a transaction got no code")
			}
		}
	})
}

// opOf reads an operation off fuzzed bytes, sensible or not.
func opOf(b []byte) local.Op {
	at := func(i int) byte { return b[i%len(b)] }
	who := chain.Coldkey(account0(int(at(1) % 8)))
	amount := chain.Amount(at(2)) << (at(3) % 64)
	switch at(0) % 12 {
	case 5:
		round, _ := local.RevealRounds(1, 10, 1)
		return local.CommitWeights{Round: round + chain.Round(at(1)%64), Version: local.TimelockVersion - uint16(at(2)%2), Commit: slices.Repeat(b, 300)[:300]}
	case 0:
		return local.Transfer{To: who, Amount: amount}
	case 1:
		return local.Register{Coldkey: who}
	case 2:
		return local.Publish{Record: chain.Record{Locator: b, Body: b}}
	case 3:
		return local.Publish{Record: chain.Record{Body: chain.SubmissionBody{Window: chain.Window(at(1) % 4), Shard: chain.Shard(at(2) % 2)}.Encode()}}
	case 11:
		return local.AddStake{Hotkey: chain.Hotkey(who), Amount: amount}
	case 6:
		return local.RemoveStake{Hotkey: chain.Hotkey(who), Amount: amount - chain.Amount(at(4)%2)} // 0 - 1: all
	case 7:
		return local.SetTake{Hotkey: chain.Hotkey(who), Take: uint16(amount)}
	case 8:
		x := paramTable[int(at(1))%len(paramTable)]
		return local.SetParam{Name: x.name, Value: uint64(amount)}
	case 9:
		return local.Upgrade{Version: min(uint64(at(1)%4), NewestRules), At: chain.Block(at(2))}
	case 10:
		return local.Register{Coldkey: who, Limit: amount}
	}
	var row []chain.Weight
	for i := 1; i+2 < len(b) && i < 30; i += 3 {
		row = append(row, chain.Weight{UID: chain.UID(b[i]), Value: uint16(b[i+1])<<8 | uint16(b[i+2])})
	}
	return local.SetWeights{Weights: row}
}

// Well-signed operations of every kind in any order: money is conserved and nothing panics through two epochs.
func FuzzOps(f *testing.F) {
	f.Add([]byte{4, 2, 255, 255, 3, 1, 1}, byte(5))
	f.Add([]byte{11, 1, 200, 22, 4, 6, 1, 200, 20, 4, 6, 1, 0, 0, 1, 4}, byte(3+128))
	f.Add([]byte{8, 3, 0, 0, 0, 8, 9, 255, 55, 0, 9, 2, 12, 0, 0}, byte(3))
	f.Add([]byte{7, 0, 1, 9, 0, 10, 5, 200, 40, 5}, byte(3+128))
	f.Add([]byte{0, 1, 9, 63, 0, 2, 1, 0, 1, 1, 2, 3, 2, 9, 9, 9, 3, 1, 1, 1}, byte(4))
	f.Fuzz(func(t *testing.T, b []byte, size byte) {
		g := genesis(t)
		g.Rules, g.Params.CommitReveal = 1+uint64(size/128), size%2 == 0
		s, err := New(g)
		if err != nil {
			t.Fatal(err)
		}
		n := int(size%12) + 2
		nonce := map[int]uint64{}
		for len(b) >= n && s.Height() < 40 {
			who := int(b[n-1] % 8)
			raw, err := local.SignTx("test", nonce[who], opOf(b[:n-1]), local.Signer{Key: key(who)})
			b = b[n:]
			if err != nil {
				continue // longer than a transaction may be
			}
			if code := next(s, raw.Encode()).Codes[0]; code == local.CodeNonce || code == local.CodeSignature || code == local.CodeMalformed {
				t.Fatalf("a well-signed transaction got code %d", code)
			}
			if _, nonce[who] = s.Account(chain.Coldkey(account0(who))); s.Audit() != nil {
				t.Fatalf("block %d: %v", s.Height(), s.Audit())
			}
		}
		until(s, 2*s.run.Tempo)
		audit(t, s)
	})
}

func TestGenesisRefuses(t *testing.T) {
	for name, f := range map[string]func(*Genesis){
		"no run": func(g *Genesis) { g.Run = nil }, "another network": func(g *Genesis) { g.Network = "other" }, "no block time": func(g *Genesis) { g.BlockTimeMS = 0 },
		"no seats": func(g *Genesis) { g.Params.MaxSeats = 0 }, "more seats than fit": func(g *Genesis) { g.Params.MaxSeats = 3 }, "one window": func(g *Genesis) { g.Params.KeepWindows = 1 },
		"a wrapping span": func(g *Genesis) { g.Params.KeepWindows = 1 << 60 }, "average above 1": func(g *Genesis) { g.Params.BondsMovingAverage = 1_000_001 },
		"no beacon key": func(g *Genesis) { g.BeaconKey = nil }, "a beacon key off the curve": func(g *Genesis) { g.BeaconKey = make([]byte, 96) },
		"a hotkey in two seats": func(g *Genesis) { g.Seats = append(g.Seats, g.Seats[0]) }, "stakes overflow": func(g *Genesis) { g.Seats[0].Stake = maxIssued }, "more coins than can be": func(g *Genesis) { g.Accounts[0].Balance = g.Params.MaxSupply },
		"balances overflow": func(g *Genesis) { g.Accounts[0].Balance = 1 << 63 },
	} {
		g := genesis(t)
		f(g)
		if _, err := New(g); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func benchGenesis(b *testing.B, miners int) *Genesis {
	b.Helper()
	g := genesis(b)
	r, err := preset.Run("local", 8)
	if err != nil {
		b.Fatal(err)
	}
	r.Network, r.Tempo = "test", 1<<40
	g.Run = r.Encode()
	g.Params.MaxSeats = 512
	for i := len(g.Seats); i < miners; i++ {
		g.Seats = append(g.Seats, Seat{Hotkey: chain.Hotkey{byte(i), byte(i >> 8), 1}})
	}
	return g
}

// An empty block, phase boundaries included, of a subnet whose seats all have a full record.
func BenchmarkEmptyBlock(b *testing.B) {
	for name, seats := range map[string]int{"30 seats": 30, "256 seats": 256} {
		b.Run(name, func(b *testing.B) {
			s, err := New(benchGenesis(b, seats))
			if err != nil {
				b.Fatal(err)
			}
			for _, x := range s.seats {
				s.records[x.Hotkey] = chain.Published{Hotkey: x.Hotkey, Record: chain.Record{Locator: make([]byte, chain.MaxLocator), Body: make([]byte, chain.MaxBody)}}
			}
			for b.Loop() {
				next(s)
			}
		})
	}
}
