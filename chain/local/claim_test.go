package local_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"sn3/chain/local"
)

func claimed(t testing.TB, network string, beacon []byte) local.Candidate {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	c := local.Candidate{Node: strings.Repeat("0a", 20), Key: [32]byte(key.Public().(ed25519.PublicKey)), Beacon: beacon}
	copy(c.Proof[:], ed25519.Sign(key, local.ValidatorClaim(network, c.Key, beacon)))
	return c
}

// A line is read back as it was; one that is torn, of another network, or not as it would be printed is refused.
func TestCandidate(t *testing.T) {
	for _, beacon := range [][]byte{nil, {1, 2, 3}, make([]byte, local.MaxMember)} {
		c := claimed(t, "net", beacon)
		got, err := local.ParseCandidate(" "+c.String()+"\n", "net")
		if err != nil || got.String() != c.String() || !got.Op().Proven("net") || got.Op().Proven("net2") {
			t.Errorf("%+v, %v", got, err)
		}
	}
	line, long := claimed(t, "net", []byte{1}).String(), claimed(t, "net", make([]byte, local.MaxMember+1)).String()
	for name, bad := range map[string]string{"empty": "", "torn": line[:len(line)-2], "capitals": strings.ToUpper(line), "five parts": line + ":", "no hex": strings.Replace(line, "0a", "zz", 1),
		"short id": line[2:], "another member": strings.Replace(line, ":01:", ":02:", 1), "of another network": claimed(t, "else", []byte{1}).String(), "a long member": long} {
		if _, err := local.ParseCandidate(bad, "net"); !errors.Is(err, local.ErrCandidate) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// the claim binds each of its parts, whatever the lengths around it are
	key := [32]byte{1}
	seen := map[string]bool{}
	for _, x := range []struct {
		network string
		beacon  string
	}{{"a", ""}, {"b", ""}, {"a", "b"}, {"ab", ""}, {"", "ab"}} {
		seen[string(local.ValidatorClaim(x.network, key, []byte(x.beacon)))] = true
	}
	seen[string(local.ValidatorClaim("a", [32]byte{2}, nil))] = true
	if len(seen) != 6 {
		t.Errorf("%d different claims of 6", len(seen))
	}
}

// A text is refused or it is what a candidate prints.
func FuzzCandidate(f *testing.F) {
	f.Add(claimed(f, "net", nil).String())
	f.Add(claimed(f, "net", []byte{7}).String())
	f.Fuzz(func(t *testing.T, line string) {
		c, err := local.ParseCandidate(line, "net")
		if err == nil && c.String() != strings.TrimSpace(line) {
			t.Errorf("%q became %q", line, c)
		}
	})
}
