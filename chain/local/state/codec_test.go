package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/yuma"
)

func drawNeuron(t *rapid.T, uid int) chain.Neuron {
	n := chain.Neuron{UID: chain.UID(uid), Hotkey: drawID(t), Coldkey: chain.Coldkey(drawID(t)), Permit: rapid.Bool().Draw(t, "permit")}
	for _, x := range []*chain.Amount{&n.Stake, &n.Emission, &n.Earned} {
		*x = chain.Amount(rapid.Uint64().Draw(t, "amount"))
	}
	n.RegisteredAt, n.LastUpdate = chain.Block(rapid.Uint64().Draw(t, "registered")), chain.Block(rapid.Uint64().Draw(t, "updated"))
	for _, x := range []*uint16{&n.Consensus, &n.Incentive, &n.Dividends, &n.Trust} {
		*x = rapid.Uint16().Draw(t, "proportion")
	}
	return n
}

func drawID(t *rapid.T) (id chain.Hotkey) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "id"))
	return id
}

func drawRow(t *rapid.T) []yuma.Entry {
	var row []yuma.Entry
	for range rapid.IntRange(0, 4).Draw(t, "entries") {
		row = append(row, yuma.Entry{UID: rapid.Uint16().Draw(t, "uid"), Value: rapid.Uint16().Draw(t, "value")})
	}
	return row
}

func drawPublished(t *rapid.T, h chain.Hotkey) chain.Published {
	b := rapid.SliceOfN(rapid.Byte(), 0, 9)
	return chain.Published{Hotkey: h, At: chain.Block(rapid.Uint64().Draw(t, "at")),
		Record: chain.Record{Locator: b.Draw(t, "locator"), Digest: chain.Hash(drawID(t)), Body: b.Draw(t, "body")}}
}

// Everything that is stored comes back as it was.
func TestStoredFormsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		same := func(what string, want, got any, err error) {
			if err != nil || !reflect.DeepEqual(want, got) {
				t.Fatalf("%s: %+v came back as %+v (%v)", what, want, got, err)
			}
		}
		u64 := rapid.Uint64()
		m := meta{Height: chain.Block(u64.Draw(t, "height")), Cost: cost{chain.Amount(u64.Draw(t, "cost")), chain.Block(u64.Draw(t, "cost at"))}, Rules: rapid.Uint64Range(0, NewestRules).Draw(t, "rules"), Next: upgrade{u64.Draw(t, "next"), chain.Block(u64.Draw(t, "at"))}}
		for _, x := range m.Money.fields() {
			*x = chain.Amount(u64.Draw(t, "money"))
		}
		gotMeta, err := decodeMeta(encodeMeta(m))
		same("meta", m, gotMeta, err)
		a := account{chain.Amount(u64.Draw(t, "balance")), u64.Draw(t, "nonce")}
		gotAccount, err := decodeAccount(encodeAccount(a))
		same("account", a, gotAccount, err)
		key := hotkey{chain.Coldkey(drawID(t)), chain.Block(u64.Draw(t, "first")), u64.Draw(t, "times"), chain.Amount(u64.Draw(t, "earned")), chain.Amount(u64.Draw(t, "stake")),
			u64.Draw(t, "shares"), rapid.Uint16().Draw(t, "take"), chain.Block(u64.Draw(t, "take at"))}
		gotKey, err := decodeHotkey(encodeHotkey(key))
		same("hotkey", key, gotKey, err)
		n := rapid.Uint64Min(1).Draw(t, "shares")
		gotShares, err := decodeShares(encodeShares(n))
		same("shares", n, gotShares, err)
		var dues []due
		for i := range rapid.IntRange(1, maxUnbonding).Draw(t, "withdrawals") {
			dues = append(dues, due{chain.Block(100*i + rapid.IntRange(0, 99).Draw(t, "at")), chain.Amount(u64.Draw(t, "amount"))})
		}
		gotDues, err := decodeUnbonding(encodeUnbonding(dues))
		same("unbonding", dues, gotDues, err)
		var hist []former
		for i := range rapid.IntRange(2, 5).Draw(t, "balances") {
			hist = append(hist, former{chain.Coldkey{byte(i), rapid.Byte().Draw(t, "account")}, chain.Amount(u64.Draw(t, "amount"))})
		}
		gotHist, err := decodeHistory(encodeHistory(hist))
		same("history", hist, gotHist, err)
		p := drawPublished(t, drawID(t))
		gotPublished, err := decodePublished(p.Hotkey, appendPublished(nil, p))
		same("record", p, gotPublished, err)
		x := seat{Neuron: drawNeuron(t, 3), Weights: drawRow(t), Bonds: drawRow(t)}
		gotSeat, err := decodeSeat(3, encodeSeat(x))
		same("seat", x, gotSeat, err)
		snap := &chain.Snapshot{Block: 7}
		for i := range rapid.IntRange(0, 3).Draw(t, "neurons") {
			n := drawNeuron(t, i)
			n.Balance = chain.Amount(u64.Draw(t, "balance"))
			snap.Neurons = append(snap.Neurons, n)
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "records") {
			h := drawID(t)
			h[0] = byte(i) // ascending
			snap.Records = append(snap.Records, drawPublished(t, h))
		}
		gotSnap, err := decodeSnapshot(7, encodeSnapshot(snap))
		same("snapshot", snap, gotSnap, err)
		sel := chain.Selection{Window: 5, Root: chain.Hash(drawID(t))}
		for range rapid.IntRange(0, 3).Draw(t, "winners") {
			c := chain.Candidate{UID: chain.UID(rapid.Uint16().Draw(t, "uid")), Hotkey: drawID(t), Shard: chain.Shard(rapid.Uint16().Draw(t, "shard")),
				Locator: rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "locator"), Digest: chain.Hash(drawID(t))}
			sel.Winners = append(sel.Winners, chain.Winner{Candidate: c, Score: rapid.Uint16().Draw(t, "score")})
		}
		gotSel, err := decodeSelection(5, encodeSelection(sel))
		same("selection", sel, gotSel, err)
	})
}

// recode decodes a stored form and encodes it again; kind is the first letter of its key.
func recode(kind byte, v []byte) (again []byte, err error) {
	switch kind {
	case 'm':
		x, err := decodeMeta(v)
		return encodeMeta(x), err
	case 'q':
		x, err := decodeParams(v)
		if len(v) == 8*paramCount(1) {
			return encodeParams(x, 1), err
		}
		return encodeParams(x, NewestRules), err
	case 't':
		x, err := decodeCommits(v)
		return encodeCommits(x), err
	case 'a':
		x, err := decodeAccount(v)
		return encodeAccount(x), err
	case 'o':
		x, err := decodeHotkey(v)
		return encodeHotkey(x), err
	case 'n':
		x, err := decodeShares(v)
		return encodeShares(x), err
	case 'u':
		x, err := decodeUnbonding(v)
		return encodeUnbonding(x), err
	case 'c':
		x, err := decodeHistory(v)
		return encodeHistory(x), err
	case 'r':
		x, err := decodePublished(chain.Hotkey{}, v)
		return appendPublished(nil, x), err
	case 's':
		x, err := decodeSeat(1, v)
		return encodeSeat(x), err
	case 'p':
		x, err := decodeSnapshot(1, v)
		if err != nil {
			return nil, err
		}
		return encodeSnapshot(x), nil
	case 'w':
		x, err := decodeSelection(1, v)
		return encodeSelection(x), err
	case 'd':
		o, m, err := decodeMaking("test", v)
		if err != nil {
			return nil, err
		}
		return encodeMaking(o, m), nil
	}
	return nil, errForm
}

// What decodes has one form only, and no bytes panic.
func FuzzDecodeStored(f *testing.F) {
	neuron := chain.Neuron{Hotkey: chain.Hotkey{1}, Permit: true}
	rec := chain.Published{Hotkey: chain.Hotkey{1}, Record: chain.Record{Locator: []byte("here"), Body: []byte{1, 2}}}
	f.Add(byte('m'), encodeMeta(meta{Height: 3}))
	f.Add(byte('q'), encodeParams(DefaultParams(), NewestRules))
	f.Add(byte('t'), encodeCommits([]commit{{1, 2, []byte{3}}, {4, 5, []byte{6}}}))
	f.Add(byte('a'), encodeAccount(account{1, 2}))
	f.Add(byte('o'), encodeHotkey(hotkey{Owner: chain.Coldkey{1}, Stake: 2, Shares: 3}))
	f.Add(byte('n'), encodeShares(4))
	f.Add(byte('u'), encodeUnbonding([]due{{5, 6}, {7, 8}}))
	f.Add(byte('c'), encodeHistory([]former{{chain.Coldkey{1}, 2}, {chain.Coldkey{3}, 4}}))
	f.Add(byte('r'), appendPublished(nil, rec))
	f.Add(byte('s'), encodeSeat(seat{Neuron: neuron, Weights: []yuma.Entry{{UID: 1, Value: 2}}}))
	f.Add(byte('p'), encodeSnapshot(&chain.Snapshot{Neurons: []chain.Neuron{neuron}, Records: []chain.Published{rec, {Hotkey: chain.Hotkey{2}}}}))
	f.Add(byte('w'), encodeSelection(chain.Selection{Winners: []chain.Winner{{Score: 4}}}))
	f.Add(byte('d'), encodeMaking(outcome{1, 2, madeTooFew}, session(f, 3).making))
	f.Fuzz(func(t *testing.T, kind byte, v []byte) {
		if again, err := recode(kind, v); err == nil && !bytes.Equal(again, v) {
			t.Fatalf("%c: %x decodes, but encodes to %x", kind, v, again)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	two := encodeSnapshot(&chain.Snapshot{Records: []chain.Published{{Hotkey: chain.Hotkey{2}}, {Hotkey: chain.Hotkey{1}}}})
	wide := encodeParams(DefaultParams(), 1)
	for i, x := range paramTable {
		if x.name == "kappa" {
			wide[8*i] = 1 // 2^56 and the default
		}
	}
	flag := encodeSeat(seat{})
	flag[72] = 2
	for name, c := range map[string]struct {
		kind byte
		v    []byte
		want error
	}{
		"nothing": {'m', nil, errForm}, "another version": {'m', []byte(`{"height":3}`), ErrVersion}, "short account": {'a', make([]byte, 15), errForm}, "long account": {'a', make([]byte, 17), errForm},
		"a parameter that its field would cut": {'q', wide, errForm}, "no shares": {'n', make([]byte, 8), errForm}, "no withdrawal": {'u', nil, errForm}, "too many withdrawals": {'u', make([]byte, 16*(maxUnbonding+1)), errForm},
		"withdrawals of one block": {'u', make([]byte, 32), errForm}, "half a withdrawal": {'u', make([]byte, 24), errForm},
		"records out of order": {'p', two, errForm}, "a flag of 2": {'s', flag, errForm}, "a count beyond the end": {'w', append(make([]byte, 32), 0xff, 0xff), errForm},
		"a locator beyond the end": {'r', append(make([]byte, 8), 0xff, 0xff, 1), errForm}, "an unknown outcome": {'d', encodeMaking(outcome{how: madeKinds}, nil), errForm}, "guilty by nobody": {'d', encodeMaking(outcome{}, &making{members: make([]member, 1), guilty: []byte{2}}), errForm},
		"a member off the curve": {'d', encodeMaking(outcome{}, &making{members: make([]member, 1), guilty: []byte{0}}), errForm},
		"trailing byte":          {'s', append(encodeSeat(seat{}), 0), errForm},
	} {
		if _, err := recode(c.kind, c.v); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// The stored forms are consensus: whoever changes this hash changes stateVersion, too.
func TestStoredFormsArePinned(t *testing.T) {
	n := chain.Neuron{Hotkey: chain.Hotkey{1}, Coldkey: chain.Coldkey{2}, Stake: 3, Permit: true, RegisteredAt: 4, LastUpdate: 5, Consensus: 6, Incentive: 7,
		Dividends: 8, Trust: 9, Emission: 10, Earned: 11, Balance: 12}
	p := chain.Published{Hotkey: chain.Hotkey{13}, At: 14, Record: chain.Record{Locator: []byte{15}, Digest: chain.Hash{16}, Body: []byte{17}}}
	w := chain.Winner{Candidate: chain.Candidate{UID: 18, Hotkey: chain.Hotkey{19}, Shard: 20, Locator: []byte{21}, Digest: chain.Hash{22}}, Score: 23}
	h := sha256.New()
	for _, b := range [][]byte{encodeMeta(meta{24, money{41, 42, 43, 44, 45, 46, 47, 48}, cost{25, 26}, 1, upgrade{38, 39}, chain.Hash{40}}), encodeParams(DefaultParams(), NewestRules), encodeCommits([]commit{{62, 63, []byte{64}}}), encodeAccount(account{27, 28}),
		encodeHotkey(hotkey{chain.Coldkey{49}, 50, 51, 52, 53, 54, 55, 56}), encodeShares(57), encodeUnbonding([]due{{58, 59}, {60, 61}}), encodeHistory([]former{{chain.Coldkey{34}, 35}, {chain.Coldkey{36}, 37}}), appendPublished(nil, p),
		encodeSeat(seat{n, []yuma.Entry{{UID: 29, Value: 30}}, []yuma.Entry{{UID: 31, Value: 32}}}),
		encodeSnapshot(&chain.Snapshot{Neurons: []chain.Neuron{n}, Records: []chain.Published{p}}), encodeSelection(chain.Selection{Root: chain.Hash{33}, Winners: []chain.Winner{w}}),
		encodeMaking(outcome{65, 66, madeLate}, &making{from: 67, start: 68, phase: 69, members: []member{{[32]byte{70}, beacon.MemberKey{71}}}, guilty: []byte{1}})} {
		h.Write(b)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != "3e3970fa6f16232566d428538bf9a03285225ec03dcd9a660f1eb58d584adbac" || stateVersion != 6 {
		t.Errorf("stored forms of version %d hash to %s", stateVersion, got)
	}
}
