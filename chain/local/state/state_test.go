package state

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"reflect"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/internal/preset"
)

func key(i int) *ecdsa.PrivateKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "state-test-%d", i))
	k, err := crypto.ToECDSA(sum[:])
	if err != nil {
		panic(err)
	}
	return k
}

func account0(i int) chain.Hotkey { return local.AccountOf(&key(i).PublicKey) }

var secret = func() []byte { s := sha256.Sum256([]byte("beacon")); s[0] = 0; return s[:] }()

// genesis has two validators (3:2), two miners, and balances for keys 0..5.
func genesis(t testing.TB) *Genesis {
	t.Helper()
	r, err := preset.Run("local", 8)
	if err != nil {
		t.Fatal(err)
	}
	r.Network = "test"
	pub, err := beacon.Public(secret)
	if err != nil {
		t.Fatal(err)
	}
	g := &Genesis{Network: "test", Run: r.Encode(), BlockTimeMS: 500, Params: DefaultParams(), BeaconKey: pub}
	g.Params.MaxSeats = 6
	for i, stake := range []chain.Amount{300, 200, 0, 0} {
		g.Seats = append(g.Seats, Seat{Hotkey: account0(i), Stake: stake * chain.RaoPerCoin, Permit: stake > 0})
	}
	for i := range 6 {
		g.Accounts = append(g.Accounts, Account{chain.Coldkey(account0(i)), 5 * chain.RaoPerCoin})
	}
	return g
}

func machine(t testing.TB) *State {
	t.Helper()
	s, err := New(genesis(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tx(t testing.TB, who int, nonce uint64, op local.Op) []byte {
	t.Helper()
	x, err := local.SignTx("test", nonce, op, key(who))
	if err != nil {
		t.Fatal(err)
	}
	return x.Encode()
}

// next makes a block without a beacon, which costs a pairing to verify.
func next(s *State, txs ...[]byte) Result { return s.Finalize(Block{Height: s.Height() + 1, Txs: txs}) }

func withBeacon(t *testing.T, s *State) Result {
	t.Helper()
	h := s.Height() + 1
	sig, err := beacon.Sign(secret, chain.Round(h-1))
	if err != nil {
		t.Fatal(err)
	}
	return s.Finalize(Block{Height: h, Beacon: sig})
}

func TestCodes(t *testing.T) {
	s := machine(t)
	next(s)
	rec := func(n int) chain.Record { return chain.Record{Locator: []byte("x"), Body: make([]byte, n)} }
	for _, c := range []struct {
		name string
		raw  []byte
		want local.Code
	}{
		{"garbage", []byte("garbage"), local.CodeMalformed},
		{"wrong nonce", tx(t, 5, 3, local.Transfer{To: chain.Coldkey{1}, Amount: 1}), local.CodeNonce},
		{"transfer", tx(t, 5, 0, local.Transfer{To: chain.Coldkey{1}, Amount: 1}), local.CodeOK},
		{"replay", tx(t, 5, 0, local.Transfer{To: chain.Coldkey{1}, Amount: 1}), local.CodeNonce},
		{"to oneself", tx(t, 5, 1, local.Transfer{To: chain.Coldkey(account0(5)), Amount: 1}), local.CodeSelfTransfer},
		{"too much", tx(t, 5, 2, local.Transfer{To: chain.Coldkey{1}, Amount: 1 << 62}), local.CodeFunds},
		{"record without seat", tx(t, 5, 3, local.Publish{Record: rec(1)}), local.CodeNotRegistered},
		{"record", tx(t, 2, 0, local.Publish{Record: rec(1)}), local.CodeOK},
		{"second record in a block", tx(t, 2, 1, local.Publish{Record: rec(1)}), local.CodeRateLimited},
		{"long record", tx(t, 3, 0, local.Publish{Record: rec(chain.MaxBody + 1)}), local.CodeRecord},
		{"weights of a miner", tx(t, 2, 2, local.SetWeights{}), local.CodeNoPermit},
		{"weights for nobody", tx(t, 0, 0, local.SetWeights{Weights: []chain.Weight{{UID: 60000, Value: 1}}}), local.CodeWeights},
		{"weights not ascending", tx(t, 0, 1, local.SetWeights{Weights: []chain.Weight{{UID: 3, Value: 1}, {UID: 2, Value: 1}}}), local.CodeWeights},
		{"weights", tx(t, 0, 2, local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 1}, {UID: 3, Value: 9}}}), local.CodeOK},
		{"register", tx(t, 5, 4, local.Register{}), local.CodeOK},
		{"register again", tx(t, 5, 5, local.Register{}), local.CodeOK},
		{"register poor", tx(t, 9, 0, local.Register{}), local.CodeFunds},
		{"last seat", tx(t, 4, 0, local.Register{}), local.CodeOK},
	} {
		if got := s.execute(c.raw); got != c.want {
			t.Errorf("%s: code %d, want %d (%v)", c.name, got, c.want, c.want.Err())
		}
	}
	if got := s.execute(tx(t, 9, 1, local.Register{})); got != local.CodeNoSeat {
		t.Errorf("no seat: code %d", got)
	}
	other, err := local.SignTx("elsewhere", 0, local.Register{}, key(9))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.execute(other.Encode()); got != local.CodeNetwork {
		t.Errorf("another network: code %d", got)
	}
}

// randomBlock draws a block of mostly sensible transactions.
func randomBlock(t *rapid.T, s *State) [][]byte {
	var txs [][]byte
	nonce := map[int]uint64{}
	for range rapid.IntRange(0, 6).Draw(t, "txs") {
		who := rapid.IntRange(0, 7).Draw(t, "who")
		if _, ok := nonce[who]; !ok {
			_, nonce[who] = s.Account(chain.Coldkey(account0(who)))
		}
		var op local.Op
		switch rapid.IntRange(0, 4).Draw(t, "op") {
		case 0:
			op = local.Transfer{To: chain.Coldkey(account0(rapid.IntRange(0, 7).Draw(t, "to"))), Amount: chain.Amount(rapid.Uint64().Draw(t, "amount") % 3e9)}
		case 1:
			op = local.Register{Coldkey: chain.Coldkey(account0(rapid.IntRange(0, 7).Draw(t, "cold")))}
		case 2:
			op = local.Publish{Record: chain.Record{Body: chain.SubmissionBody{Window: chain.Window(rapid.IntRange(0, 3).Draw(t, "w"))}.Encode()}}
		default:
			var row []chain.Weight
			for u := range chain.UID(6) {
				if rapid.Bool().Draw(t, "weight") {
					row = append(row, chain.Weight{UID: u, Value: uint16(rapid.IntRange(0, 65535).Draw(t, "value"))})
				}
			}
			op = local.SetWeights{Weights: row}
		}
		x, err := local.SignTx("test", nonce[who], op, key(who))
		if err != nil {
			t.Fatal(err)
		}
		nonce[who]++
		txs = append(txs, x.Encode())
	}
	return txs
}

// Nothing is created or lost: balances and stakes are genesis plus issued minus burned, whatever happens; and a machine
// restored from what was stored goes on exactly as the one that never stopped.
func TestConservedAndRestorable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := machine(t)
		start, _, _ := a.Issuance()
		stored := map[string][]byte{}
		keep := func(r Result) {
			for _, e := range r.Dirty {
				if e.Value == nil {
					delete(stored, string(e.Key))
				} else {
					stored[string(e.Key)] = e.Value
				}
			}
		}
		b := a
		restoreAt := rapid.IntRange(1, 30).Draw(rt, "restore")
		for i := range 34 {
			txs := randomBlock(rt, a)
			ra := next(a, txs...)
			if b != a {
				if rb := next(b, txs...); rb.AppHash != ra.AppHash || !reflect.DeepEqual(rb.Codes, ra.Codes) {
					rt.Fatalf("block %d: the restored machine gives %s, the other %s", i, rb.AppHash.Short(), ra.AppHash.Short())
				}
			}
			keep(ra)
			if exists, issued, burned := a.Issuance(); exists != start+issued-burned {
				rt.Fatalf("block %d: %s exist; genesis %s, issued %s, burned %s", i, exists, start, issued, burned)
			}
			if i == restoreAt {
				var err error
				b, err = Restore(genesis(t), func(yield func(k, v []byte) bool) {
					for k, v := range stored {
						if !yield([]byte(k), v) {
							return
						}
					}
				})
				if err != nil {
					rt.Fatal(err)
				}
			}
		}
	})
}

// Weights turn into emission at the tempo; a seat that nobody weighs earns nothing.
func TestEpochPays(t *testing.T) {
	s := machine(t)
	for range 10 {
		next(s)
	}
	row := []chain.Weight{{UID: 2, Value: 65535}}
	next(s, tx(t, 0, 0, local.SetWeights{Weights: row}), tx(t, 1, 0, local.SetWeights{Weights: row}))
	for s.Height()%s.run.Tempo != 0 {
		next(s)
	}
	snap, err := s.Snapshot(s.Height())
	if err != nil {
		t.Fatal(err)
	}
	if n := snap.Neurons; n[2].Earned == 0 || n[3].Earned != 0 || n[0].Earned == 0 || n[2].Incentive != 65535 {
		t.Errorf("earned %s and %s by the miners, %s by the validator", n[2].Earned, n[3].Earned, n[0].Earned)
	}
}

func TestBeaconAndSnapshots(t *testing.T) {
	s := machine(t)
	withBeacon(t, s)
	withBeacon(t, s)
	if _, err := s.Beacon(1); err != nil {
		t.Error(err)
	}
	if _, err := s.Beacon(2); err == nil {
		t.Error("the beacon of the newest block is known before its signature is in a block")
	}
	bad := s.Finalize(Block{Height: 3, Beacon: make([]byte, 48)})
	if bad.AppHash == (chain.Hash{}) {
		t.Error("no hash")
	}
	if _, err := s.Beacon(2); err == nil {
		t.Error("an invalid signature became a beacon")
	}
	for range 200 {
		next(s)
	}
	if _, err := s.Snapshot(1); err == nil {
		t.Error("an old block is still there")
	}
	if len(s.snapshots) > 5*s.gen.Params.KeepWindows {
		t.Errorf("%d snapshots are kept", len(s.snapshots))
	}
}

func FuzzFinalize(f *testing.F) {
	s := machine(f)
	f.Add(tx(f, 0, 0, local.Register{}))
	f.Add(tx(f, 0, 0, local.SetWeights{Weights: []chain.Weight{{UID: 3, Value: 7}}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s.CheckTx(raw)
		if r := s.Finalize(Block{Height: s.Height() + 1, Beacon: raw, Txs: [][]byte{raw, nil, raw}}); len(r.Codes) != 3 {
			t.Fatal("a transaction got no code")
		}
	})
}

func BenchmarkEmptyBlock(b *testing.B) {
	s := machine(b)
	for b.Loop() {
		s.Finalize(Block{Height: s.Height() + 1})
	}
}
