package beacon

import (
	"testing"

	"sn3/chain"
)

// Signatures of many rounds are checked at once; one that is wrong, or two that would cancel out, are found.
func TestVerifyBatch(t *testing.T) {
	secret := make([]byte, SecretLen)
	secret[SecretLen-1] = 9
	pub, err := Public(secret)
	if err != nil {
		t.Fatal(err)
	}
	var rounds []chain.Round
	var sigs [][SignatureLen]byte
	for r := chain.Round(3); r < 8; r++ {
		sig, err := Sign(secret, r)
		if err != nil {
			t.Fatal(err)
		}
		rounds, sigs = append(rounds, r), append(sigs, [SignatureLen]byte(sig))
	}
	key := PublicKey(pub)
	swapped := append([][SignatureLen]byte{sigs[1], sigs[0]}, sigs[2:]...) // their sum is right
	zero := append([][SignatureLen]byte{{0xC0}}, sigs[1:]...)
	for name, x := range map[string]struct {
		key    PublicKey
		rounds []chain.Round
		sigs   [][SignatureLen]byte
		ok     bool
	}{
		"all": {key, rounds, sigs, true}, "one": {key, rounds[:1], sigs[:1], true}, "none": {key, nil, nil, false}, "fewer": {key, rounds, sigs[:4], false},
		"swapped": {key, rounds, swapped, false}, "two swapped": {key, rounds[:2], swapped[:2], false}, "another one's": {key, rounds[:1], sigs[1:2], false},
		"infinity": {key, rounds, zero, false}, "no key": {PublicKey{0xC0}, rounds, sigs, false}, "malformed": {key, rounds, make([][SignatureLen]byte, 5), false},
	} {
		if err := VerifyBatch(x.key, x.rounds, x.sigs); (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkVerifyBatch(b *testing.B) {
	secret := make([]byte, SecretLen)
	secret[0] = 1
	pub, err := Public(secret)
	if err != nil {
		b.Fatal(err)
	}
	var rounds []chain.Round
	var sigs [][SignatureLen]byte
	for r := range chain.Round(8) {
		sig, err := Sign(secret, r)
		if err != nil {
			b.Fatal(err)
		}
		rounds, sigs = append(rounds, r), append(sigs, [SignatureLen]byte(sig))
	}
	for b.Loop() {
		if err := VerifyBatch(PublicKey(pub), rounds, sigs); err != nil {
			b.Fatal(err)
		}
	}
}
