package state

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strings"
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

// accounts are those of the first keys, which tests ask for again and again.
var accounts = func() (out [people + 1]chain.Hotkey) {
	for i := range out {
		out[i] = local.AccountOf(&key(i).PublicKey)
	}
	return out
}()

func account0(i int) chain.Hotkey {
	if i < len(accounts) {
		return accounts[i]
	}
	return local.AccountOf(&key(i).PublicKey)
}

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
	g := &Genesis{Network: "test", Run: r.Encode(), BlockTimeMS: 500, Rules: NewestRules, Owner: chain.Coldkey(account0(0)), Params: DefaultParams(), BeaconKey: pub}
	g.Params.MaxSeats, g.Params.CommitReveal = 6, false
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
	x, err := local.SignTx("test", nonce, op, local.Signer{Key: key(who)})
	if err != nil {
		t.Fatal(err)
	}
	return x.Encode()
}

// next makes a block without a beacon, which costs a pairing to verify.
func next(s *State, txs ...[]byte) Result { return s.Finalize(Block{Height: s.Height() + 1, Txs: txs}) }

// codeOf is what execute answered.
func codeOf(code local.Code, _ bool) local.Code { return code }

func register() local.Op { return local.Register{} }

// until makes empty blocks up to height h.
func until(s *State, h chain.Block) {
	for s.Height() < h {
		next(s)
	}
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
		{"wrong nonce", tx(t, 5, 3, local.Transfer{To: chain.Coldkey{1}, Amount: 500}), local.CodeNonce},
		{"transfer", tx(t, 5, 0, local.Transfer{To: chain.Coldkey{1}, Amount: 500}), local.CodeOK},
		{"replay", tx(t, 5, 0, local.Transfer{To: chain.Coldkey{1}, Amount: 500}), local.CodeNonce},
		{"to oneself", tx(t, 5, 1, local.Transfer{To: chain.Coldkey(account0(5)), Amount: 1}), local.CodeSelfTransfer},
		{"too much", tx(t, 5, 2, local.Transfer{To: chain.Coldkey{1}, Amount: 1 << 62}), local.CodeFunds},
		{"nothing left to open an account", tx(t, 5, 3, local.Transfer{To: chain.Coldkey{2}, Amount: 4_900_000_000}), local.CodeFunds},
		{"little for an old account", tx(t, 5, 4, local.Transfer{To: chain.Coldkey{1}, Amount: 1}), local.CodeOK},
		{"record without seat", tx(t, 5, 5, local.Publish{Record: rec(1)}), local.CodeNotRegistered},
		{"record", tx(t, 2, 0, local.Publish{Record: rec(1)}), local.CodeOK},
		{"second record in a block", tx(t, 2, 1, local.Publish{Record: rec(1)}), local.CodeRateLimited},
		{"long record", tx(t, 3, 0, local.Publish{Record: rec(chain.MaxBody + 1)}), local.CodeRecord},
		{"weights of a miner", tx(t, 2, 2, local.SetWeights{}), local.CodeNoPermit},
		{"weights for nobody", tx(t, 0, 0, local.SetWeights{Weights: []chain.Weight{{UID: 60000, Value: 1}}}), local.CodeWeights},
		{"weights not ascending", tx(t, 0, 1, local.SetWeights{Weights: []chain.Weight{{UID: 3, Value: 1}, {UID: 2, Value: 1}}}), local.CodeWeights},
		{"weights", tx(t, 0, 2, local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 1}, {UID: 3, Value: 9}}}), local.CodeOK},
		{"register", tx(t, 5, 5, local.Register{}), local.CodeOK}, // what was refused without a fee left the nonce
		{"register again", tx(t, 5, 6, local.Register{}), local.CodeOK},
		{"register poor", tx(t, 9, 0, local.Register{}), local.CodeFunds},
		{"last seat", tx(t, 4, 0, local.Register{}), local.CodeOK},
	} {
		if got, _ := s.execute(c.raw); got != c.want {
			t.Errorf("%s: code %d, want %d (%v)", c.name, got, c.want, c.want.Err())
		}
	}
	other, err := local.SignTx("elsewhere", 0, local.Register{}, local.Signer{Key: key(9)})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := s.execute(other.Encode()); got != local.CodeNetwork {
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
		x, err := local.SignTx("test", nonce[who], op, local.Signer{Key: key(who)})
		if err != nil {
			t.Fatal(err)
		}
		nonce[who]++
		txs = append(txs, x.Encode())
	}
	return txs
}

func TestWeightsInterval(t *testing.T) {
	g := genesis(t)
	g.Params.WeightsInterval = 3
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	row := local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 9}}}
	for i, want := range []local.Code{local.CodeOK, local.CodeRateLimited, local.CodeRateLimited, local.CodeOK, local.CodeRateLimited} {
		raw := tx(t, 0, uint64(i), row)
		if code := s.CheckTx(raw); code != local.CodeOK {
			t.Errorf("block %d: code %d for the mempool: the limit may pass until inclusion", i+1, code)
		}
		if code := next(s, raw).Codes[0]; code != want {
			t.Errorf("block %d: code %d, want %d", i+1, code, want)
		}
	}
	empty := tx(t, 1, 0, local.SetWeights{})
	if code := next(s, empty).Codes[0]; code != local.CodeOK || s.seats[1].LastUpdate != 6 {
		t.Errorf("an empty row: code %d, last update %d", code, s.seats[1].LastUpdate)
	}
}

func TestMempool(t *testing.T) {
	s := machine(t)
	pay := local.Transfer{To: chain.Coldkey{1}, Amount: 500}
	for nonce, want := range map[uint64]local.Code{0: local.CodeOK, nonceWindow - 1: local.CodeOK, nonceWindow: local.CodeNonce, 1<<64 - 1: local.CodeNonce} {
		if code := s.CheckTx(tx(t, 5, nonce, pay)); code != want {
			t.Errorf("nonce %d: code %d, want %d", nonce, code, want)
		}
	}
	before := s.AppHash()
	s.CheckTx(tx(t, 5, 0, pay))
	if _, nonce := s.Account(chain.Coldkey(account0(5))); nonce != 0 || s.AppHash() != before {
		t.Error("looking at a transaction changed the state")
	}
}

// The app hash covers every value, and all that went before.
func TestAppHashCovers(t *testing.T) {
	a, b := machine(t), machine(t)
	if a.AppHash() != b.AppHash() || a.AppHash() == (chain.Hash{}) {
		t.Fatal("two beginnings differ")
	}
	to := chain.Coldkey{1}
	ra := next(a, tx(t, 5, 0, local.Transfer{To: to, Amount: 501}))
	rb := next(b, tx(t, 5, 0, local.Transfer{To: to, Amount: 502}))
	if ra.AppHash == rb.AppHash {
		t.Error("two balances, one hash")
	}
	if next(a).AppHash == next(b).AppHash {
		t.Error("two pasts, one hash")
	}
	g := genesis(t)
	g.Params.MinBurn++
	other, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	if other.AppHash() == machine(t).AppHash() {
		t.Error("two sets of parameters, one hash")
	}
}

// A process that may not open timelocks does not begin: it would drop every commitment that others reveal.
func TestNoMachineWithoutTimelocks(t *testing.T) {
	if strings.Contains(os.Getenv("GODEBUG"), "fips140=only") {
		_, made := New(genesis(t))
		_, restored := Restore(genesis(t), func(func(k, v []byte) bool) {})
		if made == nil || restored == nil {
			t.Fatalf("%v, %v", made, restored)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoMachineWithoutTimelocks$")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
