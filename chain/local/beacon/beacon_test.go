package beacon

import (
	"bytes"
	"errors"
	"testing"
)

func TestSignAndVerify(t *testing.T) {
	sk, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := Public(sk)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := Sign(sk, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(pub, 1000, sig); err != nil {
		t.Fatal(err)
	}
	again, _ := Sign(sk, 1000)
	if !bytes.Equal(sig, again) {
		t.Fatal("a signature can be chosen")
	}
	tampered := append([]byte(nil), sig...)
	tampered[20] ^= 1
	other, _ := Sign(sk, 1001)
	for name, s := range map[string][]byte{"another round": other, "tampered": tampered, "short": sig[:47], "empty": nil, "infinity": append([]byte{0xc0}, make([]byte, 47)...)} {
		if err := Verify(pub, 1000, s); !errors.Is(err, ErrBeacon) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Verify(append([]byte{0xc0}, make([]byte, 95)...), 1000, sig); !errors.Is(err, ErrBeacon) {
		t.Errorf("key at infinity: %v", err)
	}
}
