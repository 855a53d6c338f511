package local

import (
	"errors"
	"math/big"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"pgregory.net/rapid"

	"sn3/chain"
)

// A key is recovered from a signature if and only if the signature verifies by it in the strict form.
func TestRecoveredKeysVerify(t *testing.T) {
	key, err := crypto.ToECDSA(bytesOf(32, 3))
	if err != nil {
		t.Fatal(err)
	}
	n := crypto.S256().Params().N
	rapid.Check(t, func(t *rapid.T) {
		digest := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest")
		sig, err := crypto.Sign(digest, key)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			switch rapid.SampledFrom([]string{"bit", "flip s", "edge", "v", "cut"}).Draw(t, "change") {
			case "bit":
				i := rapid.IntRange(0, len(sig)*8-1).Draw(t, "at")
				sig[i/8] ^= 1 << (i % 8)
			case "flip s":
				if len(sig) == 65 {
					s := new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:64]))
					s.Mod(s, n).FillBytes(sig[32:64])
					sig[64] ^= 1
				}
			case "edge":
				edge := rapid.SampledFrom([]*big.Int{new(big.Int), big.NewInt(1), n, new(big.Int).Sub(n, big.NewInt(1)), new(big.Int).Rsh(n, 1), new(big.Int).Add(new(big.Int).Rsh(n, 1), big.NewInt(1))}).Draw(t, "edge")
				if len(sig) == 65 {
					half := 32 * rapid.IntRange(0, 1).Draw(t, "half")
					edge.FillBytes(sig[half : half+32])
				}
			case "v":
				sig[len(sig)-1] = rapid.Byte().Draw(t, "v")
			case "cut":
				sig = sig[:len(sig)-1]
			}
		}
		got, gotErr := recoverKey(digest, sig)
		valid := false
		if len(sig) == 65 && sig[64] <= 1 {
			if pub, err := crypto.SigToPub(digest, sig); err == nil {
				valid = crypto.VerifySignature(crypto.CompressPubkey(pub), digest, sig[:64])
				if valid && (got == nil || !got.Equal(pub)) {
					t.Fatalf("recovered %v, %v, want %v", got, gotErr, pub)
				}
			}
		}
		if valid != (gotErr == nil) || gotErr != nil && !errors.Is(gotErr, ErrSignature) {
			t.Fatalf("signature %x: verifies %v, recovered: %v", sig, valid, gotErr)
		}
	})
}

func bytesOf(n int, b byte) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

// Senders answers like Sender, the first time, again, after many others and from many goroutines; it keeps no signature that
// is not valid, and no more than it says.
func TestSenders(t *testing.T) {
	key, err := crypto.ToECDSA(bytesOf(32, 3))
	if err != nil {
		t.Fatal(err)
	}
	var s Senders
	good, err := SignTx("net", 1, Transfer{To: chain.Coldkey{1}, Amount: 5}, Signer{key})
	if err != nil {
		t.Fatal(err)
	}
	want := AccountOf(&key.PublicKey)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 3 {
				if from, err := s.Of(good); err != nil || from != want {
					t.Errorf("%v, %v", from, err)
				}
			}
		})
	}
	wg.Wait()
	for what, change := range map[string]func(*Tx){"nonce": func(t *Tx) { t.Nonce++ }, "network": func(t *Tx) { t.Network += "x" },
		"amount": func(t *Tx) { t.Op = Transfer{To: chain.Coldkey{1}, Amount: 6} }, "r": func(t *Tx) { t.Sig[5] ^= 1 }, "s": func(t *Tx) { t.Sig[63] ^= 1 }, "v": func(t *Tx) { t.Sig[64] ^= 1 }} {
		other := *good
		change(&other)
		if from, err := s.Of(&other); err == nil && from == want {
			t.Errorf("another %s has the same sender", what)
		}
	}
	before := len(s.young)
	bad := *good
	bad.Sig[64] = 2
	for range 3 {
		if _, err := s.Of(&bad); !errors.Is(err, ErrSignature) {
			t.Errorf("a signature that is none: %v", err)
		}
	}
	if len(s.young) != before {
		t.Error("it was kept")
	}
	for i := range uint64(3 * keepSenders) {
		s.keep(chain.Hash{1, byte(i), byte(i >> 8), byte(i >> 16)}, want)
		if len(s.young)+len(s.old) > 2*keepSenders {
			t.Fatalf("%d are kept", len(s.young)+len(s.old))
		}
		if i < keepSenders {
			if _, ok := s.known(chain.Hash{1}); !ok {
				t.Fatalf("the first is forgotten after %d others", i)
			}
		}
	}
	if _, ok := s.known(good.Hash()); ok {
		t.Error("the oldest is still there")
	}
	if from, err := s.Of(good); err != nil || from != want {
		t.Errorf("after it was forgotten: %v, %v", from, err)
	}
}
