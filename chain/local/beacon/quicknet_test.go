package beacon

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	scheme "sn3/chain/bls"
	"sn3/internal/golden"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Our scheme is that of drand's quicknet, bit for bit, and so is what a signature is worth.
func TestQuicknet(t *testing.T) {
	f, err := os.Open(filepath.Join(golden.Dir(t, "timelock"), "tle.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		DST string `json:"dst"`
		Key string `json:"public_key"`
		Sig string `json:"signature_round_1000"`
	}
	if err := json.NewDecoder(z).Decode(&g); err != nil {
		t.Fatal(err)
	}
	if g.DST != scheme.Domain {
		t.Errorf("quicknet's domain is %q", g.DST)
	}
	key, sig := unhex(t, g.Key), unhex(t, g.Sig)
	if err := Verify(key, 1000, sig); err != nil {
		t.Error(err)
	}
	if err := Verify(key, 1001, sig); !errors.Is(err, ErrBeacon) {
		t.Errorf("round 1001 with the signature of 1000: %v", err)
	}
	if got := hex.EncodeToString(Randomness(sig)); got != "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd" {
		t.Errorf("randomness %s", got)
	}
}

func TestKeys(t *testing.T) {
	one := make([]byte, SecretLen)
	one[SecretLen-1] = 1
	pub, err := Public(one)
	if err != nil {
		t.Fatal(err)
	}
	// the public key of 1 is the generator of G2 (compressed; ZCash serialisation)
	const generator = "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e" +
		"024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
	if !bytes.Equal(pub, unhex(t, generator)) {
		t.Errorf("public key of 1: %x", pub)
	}
	order := unhex(t, "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001")
	for name, secret := range map[string][]byte{"zero": make([]byte, SecretLen), "the group's order": order, "short": one[1:], "long": append([]byte{0}, one...), "none": nil} {
		if _, err := Public(secret); !errors.Is(err, ErrBeacon) {
			t.Errorf("public key of %s: %v", name, err)
		}
		if _, err := Sign(secret, 1); !errors.Is(err, ErrBeacon) {
			t.Errorf("sign with %s: %v", name, err)
		}
	}
	if err := CheckPublic(pub); err != nil {
		t.Error(err)
	}
	flipped := bytes.Clone(pub)
	flipped[95] ^= 1
	for name, p := range map[string][]byte{"short": pub[1:], "not on the curve": flipped, "infinity": append([]byte{0xc0}, make([]byte, PublicLen-1)...), "a point of G1": Randomness(pub)} {
		if err := CheckPublic(p); !errors.Is(err, ErrBeacon) {
			t.Errorf("public key that is %s: %v", name, err)
		}
	}
}
