package wallet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"pgregory.net/rapid"
)

func load(t testing.TB, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The list is the published one, in an order that can be searched, and four letters tell its words apart.
func TestList(t *testing.T) {
	if sum := sha256.Sum256([]byte(english)); hex.EncodeToString(sum[:]) != "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda" {
		t.Error("english.txt is not BIP-39's")
	}
	if len(list) != 2048 || !slices.IsSorted(list) {
		t.Fatalf("%d words", len(list))
	}
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1], list[i]; a[:min(4, len(a))] == b[:min(4, len(b))] {
			t.Errorf("%s and %s begin alike", a, b)
		}
	}
}

// BIP-39's published vectors: entropy, words, and the seed with the passphrase TREZOR.
func TestBIP39(t *testing.T) {
	var vectors []struct{ Entropy, Words, Seed string }
	load(t, "bip39.json", &vectors)
	if len(vectors) != 24 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		m := Mnemonic{unhex(t, v.Entropy)}
		if m.Words() != v.Words {
			t.Errorf("%s: words %q", v.Entropy, m.Words())
		}
		got, err := ParseMnemonic(v.Words)
		if err != nil || !bytes.Equal(got.entropy, m.entropy) {
			t.Errorf("%s: entropy %x, %v", v.Words, got.entropy, err)
		}
		seed, err := m.seed("TREZOR")
		if err != nil || hex.EncodeToString(seed) != v.Seed {
			t.Errorf("%s: seed %x, %v", v.Words, seed, err)
		}
	}
}

// BIP-32's published vectors 1 to 4, as far as private keys go; 3 and 4 are about leading zeros.
func TestBIP32(t *testing.T) {
	var vectors []struct {
		Seed, Xprv string
		Path       []uint32
	}
	load(t, "bip32.json", &vectors)
	if len(vectors) != 17 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		key, err := derive(unhex(t, v.Seed), v.Path...)
		if err != nil {
			t.Fatal(err)
		}
		if raw := base58(t, v.Xprv); !bytes.Equal(crypto.FromECDSA(key), raw[46:78]) {
			t.Errorf("%s at %d: key %x, want %x", v.Seed[:8], v.Path, crypto.FromECDSA(key), raw[46:78])
		}
	}
}

// base58 decodes an extended key and checks its sum: 4 bytes version, 1 depth, 4 parent, 4 number, 32 chain code, 0, 32 key.
func base58(t *testing.T, s string) []byte {
	t.Helper()
	v := new(big.Int)
	for _, c := range s {
		v.Add(v.Mul(v, big.NewInt(58)), big.NewInt(int64(strings.IndexRune("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", c))))
	}
	b := v.FillBytes(make([]byte, 82))
	sum := sha256.Sum256(b[:78])
	if sum = sha256.Sum256(sum[:]); !bytes.Equal(sum[:4], b[78:]) {
		t.Fatalf("%s is no extended key", s)
	}
	return b[:78]
}

// Words that the whole world uses for tests give the accounts that every Ethereum wallet shows for them.
func TestWellKnownWords(t *testing.T) {
	for _, c := range []struct {
		words        string
		index        uint32
		address, key string
	}{
		{"test test test test test test test test test test test junk", 0, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"},
		{"test test test test test test test test test test test junk", 1, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"},
		{"test test test test test test test test test test test junk", 2, "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC", "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"},
		{"myth like bonus scare over problem client lizard pioneer submit female collect", 0, "0x90F8bf6A479f320ead074411a4B0e7944Ea8c9C1", "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"},
		{"candy maple cake sugar pudding cream honey rich smooth crumble sweet treat", 0, "0x627306090abaB3A6e1400e9345bC60c78a8BEf57", ""},
		{"abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about", 0, "0x9858EfFD232B4033E47d90003D41EC34EcaEda94", ""},
	} {
		m, err := ParseMnemonic(c.words)
		if err != nil {
			t.Fatal(err)
		}
		key, err := m.Key(c.index)
		if err != nil {
			t.Fatal(err)
		}
		if p := PublicOf(&key.PublicKey); p.Address != c.address || c.key != "" && FormatKey(key) != c.key {
			t.Errorf("%s, %d: %s %s", c.words, c.index, p.Address, FormatKey(key))
		}
	}
	m, err := ParseMnemonic("  TEST test\ttest test test test\ntest test test test test Junk\r\n")
	if err != nil || m.Words() != "test test test test test test test test test test test junk" {
		t.Errorf("other spaces and capitals: %v", err)
	}
	if _, err := m.Key(1 << 31); err == nil {
		t.Error("an index of the hardened kind was taken")
	}
}

// What is wrong with words is said in a way that helps: which one, and which it may have been.
func TestMistypedWords(t *testing.T) {
	right := strings.Fields("legal winner thank year wave sausage worth useful legal winner thank yellow")
	with := func(i int, w string) string {
		out := slices.Clone(right)
		out[i] = w
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		name, words, want string
		is                error
	}{
		{"a letter wrong", with(4, "wafe"), `word 5, "wafe", is not in the list; did you mean safe, wage, wave, wife?`, ErrWords},
		{"a letter missing", with(11, "yelow"), `word 12, "yelow", is not in the list; did you mean below, yellow?`, ErrWords},
		{"letters exchanged", with(3, "yaer"), `word 4, "yaer", is not in the list; did you mean year?`, ErrWords},
		{"nothing near", with(0, "qqqqqq"), `word 1, "qqqqqq", is not in the list`, ErrWords},
		{"another secret", with(0, "correcthorsebatterystaple"), `word 1 is not in the list`, ErrWords},
		{"other letters", with(0, "größe"), `word 1, "größe", is not in the list`, ErrWords},
		{"none", "", "0 words, want 12", ErrWords},
		{"one missing", strings.Join(right[1:], " "), "11 words, want 12", ErrWords},
		{"13 words", strings.Join(append(slices.Clone(right), "zoo"), " "), "13 words, want 12", ErrWords},
		{"27 words", strings.Repeat("zoo ", 27), "27 words, want 12", ErrWords},
		{"another word", with(11, "zoo"), "one is another word, or two changed places", ErrChecksum},
		{"exchanged", strings.Join(append([]string{"winner", "legal"}, right[2:]...), " "), "one is another word, or two changed places", ErrChecksum},
	} {
		_, err := ParseMnemonic(c.words)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if strings.Contains(err.Error(), "correcthorse") {
			t.Errorf("%s: a secret is repeated: %v", c.name, err)
		}
	}
}

func TestWordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entropy := rapid.SliceOfN(rapid.Byte(), 16, 32).Draw(t, "entropy")
		m := Mnemonic{entropy[:len(entropy)/4*4]}
		got, err := ParseMnemonic(m.Words())
		if err != nil || !bytes.Equal(got.entropy, m.entropy) {
			t.Fatalf("%x came back as %x, %v", m.entropy, got.entropy, err)
		}
	})
}

// A typo in any word of the list is noticed, or makes another word; the suggestions have the right one for a letter too much.
func TestNearest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SampledFrom(list).Draw(t, "word")
		at := rapid.IntRange(0, len(w)).Draw(t, "at")
		typo := w[:at] + "q" + w[at:]
		if slices.Contains(list, typo) {
			return
		}
		if near := nearest(typo); len(near) == 0 || len(near) > 4 || !slices.Contains(near, w) {
			t.Fatalf("%s for %s: %q", typo, w, near)
		}
	})
}

func TestNewWords(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range []int{12, 12, 24} {
		m, err := NewMnemonic(n)
		if err != nil || len(strings.Fields(m.Words())) != n || seen[m.Words()] {
			t.Fatalf("%d words: %v", n, err)
		}
		seen[m.Words()] = true
		for _, text := range []string{fmt.Sprint(m), fmt.Sprintf("%v %+v %#v", m, &m, m)} {
			if strings.Contains(text, list[0][:3]) || text == "" || strings.Contains(text, strings.Fields(m.Words())[0]+" "+strings.Fields(m.Words())[1]) || strings.Contains(text, "0x") {
				t.Errorf("printed as %s", text)
			}
		}
	}
	for _, n := range []int{0, 11, 15, 25} {
		if _, err := NewMnemonic(n); !errors.Is(err, ErrWords) {
			t.Errorf("%d words: %v", n, err)
		}
	}
}

func FuzzMnemonic(f *testing.F) {
	f.Add("legal winner thank year wave sausage worth useful legal winner thank yellow")
	f.Add("zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong")
	f.Add("größe abandon\x00 aband\xffn")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMnemonic(s)
		if err != nil {
			return
		}
		if got := strings.Join(strings.Fields(strings.ToLower(s)), " "); m.Words() != got {
			t.Fatalf("%q reads as %q", got, m.Words())
		}
	})
}
