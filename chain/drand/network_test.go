package drand

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/internal/golden"
)

const (
	quicknetHash = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"
	// quicknetInfo is quicknet's chain info as relays give it.
	quicknetInfo = `{"public_key":"83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb` +
		`5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a","period":3,"genesis_time":1692803367,"hash":"` + quicknetHash +
		`","groupHash":"f477d5c89f21a17c863a7f937c6a6d15859414d2be09cd448d4279af331c5d3e","schemeID":"bls-unchained-g1-rfc9380","metadata":{"beaconID":"quicknet"}}`
)

func hash(t testing.TB, s string) (h [32]byte) {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		t.Fatal(s, err)
	}
	return [32]byte(b)
}

// The pinned constants give the pinned hash, and are what relays say.
func TestQuicknet(t *testing.T) {
	n := Quicknet()
	if h := n.Hash(); h != hash(t, quicknetHash) {
		t.Errorf("chain hash %x", h)
	}
	if err := n.Validate(); err != nil {
		t.Error(err)
	}
	parsed, err := ParseInfo([]byte(quicknetInfo), hash(t, quicknetHash))
	if err != nil || parsed != n {
		t.Errorf("%+v, %v", parsed, err)
	}
	sig, err := hex.DecodeString(quicknet1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Verify(1000, sig); err != nil {
		t.Error(err)
	}
}

func TestParseInfoRefuses(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"another key":    {"83cf0f28", "83cf0f29", "not the pinned"},
		"another period": {`"period":3`, `"period":4`, "not the pinned"},
		"another start":  {"1692803367", "1692803368", "not the pinned"},
		"another group":  {"f477d5c8", "f477d5c9", "not the pinned"},
		"another beacon": {`"beaconID":"quicknet"`, `"beaconID":"fastnet"`, "not the pinned"},
		"another scheme": {scheme, "pedersen-bls-unchained", "scheme"},
		"a short key":    {"83cf0f28", "0f28", "94 bytes"},
		"upper case":     {"83cf0f28", "83CF0F28", "lower-case"},
		"no JSON":        {"{", "<", "invalid"},
		"too long":       {"{", "{" + strings.Repeat(" ", maxInfo), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := ParseInfo([]byte(strings.Replace(quicknetInfo, c.old, c.new, 1)), hash(t, quicknetHash))
			if err == nil || !strings.Contains(err.Error(), c.want) || n != (Network{}) {
				t.Errorf("%+v, %v; want %q", n, err, c.want)
			}
		})
	}
	// A hash may be pinned of what is no network.
	n := Quicknet()
	n.Public[95] ^= 1
	info := strings.Replace(quicknetInfo, "5ece45a", "5ece45b", 1)
	if _, err := ParseInfo([]byte(info), n.Hash()); err == nil || !strings.Contains(err.Error(), "public key") {
		t.Errorf("a key that is no point: %v", err)
	}
	n = Quicknet()
	n.Period = 0
	if _, err := ParseInfo([]byte(strings.Replace(quicknetInfo, `"period":3`, `"period":0`, 1)), n.Hash()); err == nil {
		t.Error("a period of 0")
	}
}

// A network of before beacons had ids is called default, and hashes without the name.
func TestDefaultBeacon(t *testing.T) {
	n := Quicknet()
	n.Beacon = "default"
	unnamed := n
	unnamed.Beacon = ""
	if n.Hash() != unnamed.Hash() || n.Hash() == Quicknet().Hash() {
		t.Errorf("%x, %x", n.Hash(), unnamed.Hash())
	}
}

func TestGoldenRounds(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(golden.Case(t, "timelock", "", "rounds.json"), "rounds.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Rounds []struct {
			Round  chain.Round
			Target int64 `json:"target_unix"`
		}
	}
	if err := json.Unmarshal(raw, &g); err != nil || len(g.Rounds) == 0 {
		t.Fatal(len(g.Rounds), err)
	}
	n := Quicknet()
	for _, c := range g.Rounds {
		if r := n.RevealRound(time.Unix(c.Target, 0)); r != c.Round {
			t.Errorf("round %d for %d, want %d", r, c.Target, c.Round)
		}
	}
}

func TestRounds(t *testing.T) {
	n := Quicknet()
	at := func(s int64) time.Time { return time.Unix(n.Genesis+s, 0) }
	for _, c := range []struct {
		t          time.Time
		due, given chain.Round
	}{
		{time.Time{}, 0, 0}, {at(-1), 0, 0}, {at(0), 1, 0}, {at(2), 1, 0}, {at(3).Add(-1), 1, 0}, {at(3), 2, 1}, {at(2997), 1000, 999},
		{time.Unix(1<<62, 0), (end-1692803367)/3 + 1, (end - 1692803367) / 3},
	} {
		if r, g := n.Round(c.t), n.RevealRound(c.t); r != c.due || g != c.given {
			t.Errorf("%v: rounds %d and %d, want %d and %d", c.t, r, g, c.due, c.given)
		}
	}
	for r, want := range map[chain.Round]time.Time{0: at(0), 1: at(0), 2: at(3), 1000: at(2997), 1 << 63: time.Unix(end, 0), 1<<64 - 1: time.Unix(end, 0)} {
		if got := n.Time(r); !got.Equal(want) {
			t.Errorf("round %d at %v, want %v", r, got, want)
		}
	}
}

// A round is due at its time and not a moment before.
func TestRoundOfTime(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := Network{Genesis: rapid.Int64Range(0, 1<<34).Draw(r, "genesis"), Period: rapid.Uint32Range(1, 1<<31).Draw(r, "period")}
		round := chain.Round(rapid.Uint64Range(1, uint64(end-n.Genesis)/uint64(n.Period)-1).Draw(r, "round"))
		at := n.Time(round)
		if got := n.Round(at); got != round {
			r.Fatalf("at its time round %d is due", got)
		}
		if got := n.Round(at.Add(-1)); got != round-1 {
			r.Fatalf("before its time round %d is due", got)
		}
	})
}

// No bytes panic; what is taken is the pinned network.
func FuzzParseInfo(f *testing.F) {
	f.Add([]byte(quicknetInfo))
	f.Add([]byte(fmt.Sprintf(`{"schemeID":%q,"period":0,"genesis_time":-1}`, scheme)))
	want := hash(f, quicknetHash)
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := ParseInfo(b, want); err == nil && n != Quicknet() {
			t.Fatalf("%+v has the hash of quicknet", n)
		}
	})
}
