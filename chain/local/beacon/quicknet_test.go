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

// The public key of drand's quicknet and its signature of round 1000: our scheme is theirs, bit for bit.
const (
	quicknetKey = "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb" +
		"5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
	quicknet1000 = "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestQuicknet(t *testing.T) {
	key, sig := unhex(t, quicknetKey), unhex(t, quicknet1000)
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

func TestGoldenConstants(t *testing.T) {
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
	if g.DST != scheme.Domain || g.Key != quicknetKey || g.Sig != quicknet1000 {
		t.Errorf("quicknet is %+v", g)
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
