package local

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
)

func samples(t testing.TB) []*Tx {
	t.Helper()
	sum := sha256.Sum256([]byte("tx-test"))
	key, err := crypto.ToECDSA(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var out []*Tx
	for i, op := range []Op{Transfer{To: chain.Coldkey{1, 2}, Amount: 77}, Register{}, Publish{Record: chain.Record{Locator: []byte("abc"), Body: []byte{1}}},
		SetWeights{VersionKey: 3, Weights: []chain.Weight{{UID: 1, Value: 2}, {UID: 9, Value: 65535}}}, CommitWeights{Round: 5, Version: TimelockVersion, Commit: []byte{1, 2}},
		AddStake{Hotkey: chain.Hotkey{3}, Amount: 4}, RemoveStake{Hotkey: chain.Hotkey{3}, Amount: 4}, SetTake{Hotkey: chain.Hotkey{3}, Take: 5}, SetParam{Name: "kappa", Value: 6},
		SetValidator{Key: [32]byte{7}, Beacon: []byte{8}, Power: 1, Proof: [64]byte{9}}, MakeBeacon{At: 10}, Upgrade{Version: 11, At: 12}} {
		tx, err := SignTx("net", uint64(i), op, Signer{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tx)
	}
	return out
}

func TestTxRoundTrip(t *testing.T) {
	all := samples(t)
	for kind := range kinds {
		if kinds[kind] != nil && !slices.ContainsFunc(all, func(tx *Tx) bool { return int(tx.Op.kind()) == kind }) {
			t.Errorf("no sample of kind %d", kind)
		}
	}
	for _, tx := range all {
		got, err := ParseTx(tx.Encode())
		if err != nil {
			t.Fatal(err)
		}
		a, err1 := got.Sender()
		b, err2 := tx.Sender()
		if err1 != nil || err2 != nil || a != b || !reflect.DeepEqual(got, tx) {
			t.Errorf("%T: %v %v", tx.Op, err1, err2)
		}
	}
}

// A changed byte changes the sender or is refused; a signature mirrored to high s is refused.
func TestTampering(t *testing.T) {
	tx := samples(t)[0]
	who, err := tx.Sender()
	if err != nil {
		t.Fatal(err)
	}
	raw := tx.Encode()
	for i := range raw {
		b := bytes.Clone(raw)
		b[i] ^= 1
		if got, err := ParseTx(b); err == nil {
			if from, err := got.Sender(); err == nil && from == who {
				t.Fatalf("byte %d changed and the sender is the same", i)
			}
		}
	}
	n := crypto.S256().Params().N
	s := new(big.Int).SetBytes(tx.Sig[32:64])
	new(big.Int).Sub(n, s).FillBytes(tx.Sig[32:64])
	tx.Sig[64] ^= 1
	if _, err := tx.Sender(); !errors.Is(err, ErrSignature) {
		t.Errorf("high s: %v", err)
	}
}

func FuzzParseTx(f *testing.F) {
	for _, tx := range samples(f) {
		f.Add(tx.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if tx, err := ParseTx(b); err == nil && !bytes.Equal(tx.Encode(), b) {
			t.Fatal("parses, but encodes to other bytes")
		}
	})
}

func TestSigner(t *testing.T) {
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	account := AccountOf(&key.PublicKey)
	sig, err := Signer{key}.Sign("domain", chain.Hash{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := (Verifier{}).Verify(account, "domain", chain.Hash{1}, sig); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{"domain": Verifier{}.Verify(account, "other", chain.Hash{1}, sig),
		"digest": Verifier{}.Verify(account, "domain", chain.Hash{2}, sig), "account": Verifier{}.Verify(chain.Hotkey{}, "domain", chain.Hash{1}, sig)} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestCodesAreErrors(t *testing.T) {
	for code := CodeMalformed; code < consensusCodes; code++ {
		if _, ok := codeTexts[code]; !ok || code.Err() == nil {
			t.Errorf("code %d has no text", code)
		}
	}
	if len(codeTexts) != int(consensusCodes) || !errors.Is(CodeUnavailable.Err(), chain.ErrUnavailable) {
		t.Errorf("%d texts for %d codes", len(codeTexts), consensusCodes)
	}
	if CodeOK.Err() != nil || !errors.Is(CodeFunds.Err(), chain.ErrFunds) || !errors.Is(CodeNotRegistered.Err(), chain.ErrNotRegistered) {
		t.Error("codes do not match their sentinels")
	}
}
