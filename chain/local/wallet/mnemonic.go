package wallet

import (
	"crypto/ecdsa"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// english is BIP-39's English word list, bip-0039/english.txt of github.com/bitcoin/bips, byte for byte.
//
//go:embed english.txt
var english string

// list are the 2,048 words in alphabetic order; a word's place is its value.
var list = strings.Fields(english)

// Errors of words.
var (
	// ErrWords: not a mnemonic; the error says at which word, and the nearest ones there are.
	ErrWords = errors.New("wallet: not a mnemonic")
	// ErrChecksum: words of the list, but a wrong one among them or in another order.
	ErrChecksum = errors.New("wallet: the words do not belong together")
)

// Mnemonic is a key as 12 to 24 words (BIP-39, English, without its optional passphrase). It does not print itself: Words does.
type Mnemonic struct{ entropy []byte }

// NewMnemonic draws 12 or 24 words: 128 or 256 bits.
func NewMnemonic(words int) (Mnemonic, error) {
	if words != 12 && words != 24 {
		return Mnemonic{}, fmt.Errorf("%w: %d words, want 12 or 24", ErrWords, words)
	}
	m := Mnemonic{make([]byte, words/3*4)}
	if _, err := rand.Read(m.entropy); err != nil {
		return Mnemonic{}, fmt.Errorf("draw words: %w", err)
	}
	return m, nil
}

// String hides the words from logs and messages.
func (m Mnemonic) String() string { return "words (hidden)" }

// GoString hides the words from logs and messages.
func (m Mnemonic) GoString() string { return m.String() }

// Words are the words, with one space between. Who has them has the key.
func (m Mnemonic) Words() string {
	words := make([]string, len(m.entropy)/4*3)
	v := m.bits()
	for i := len(words) - 1; i >= 0; i-- {
		words[i] = list[new(big.Int).And(v, big.NewInt(2047)).Int64()]
		v.Rsh(v, 11)
	}
	return strings.Join(words, " ")
}

// bits is the entropy and its checksum, a bit of SHA-256 for every 32, as one number of 11 bits a word.
func (m Mnemonic) bits() *big.Int {
	sum := sha256.Sum256(m.entropy)
	n := uint(len(m.entropy) / 4)
	v := new(big.Int).SetBytes(m.entropy)
	return v.Or(v.Lsh(v, n), big.NewInt(int64(sum[0]>>(8-n))))
}

// ParseMnemonic reads 12, 15, 18, 21 or 24 words, however they are spaced, in any case: ErrWords or ErrChecksum.
func ParseMnemonic(s string) (Mnemonic, error) {
	words := strings.Fields(strings.ToLower(s))
	v := new(big.Int)
	for i, w := range words {
		at, ok := slices.BinarySearch(list, w)
		if !ok {
			return Mnemonic{}, unknown(i, w)
		}
		if i < 24 {
			v.Or(v.Lsh(v, 11), big.NewInt(int64(at)))
		}
	}
	if n := len(words); n < 12 || n > 24 || n%3 != 0 {
		return Mnemonic{}, fmt.Errorf("%w: %d words, want 12, 15, 18, 21 or 24", ErrWords, n)
	}
	m := Mnemonic{make([]byte, len(words)/3*4)}
	new(big.Int).Rsh(v, uint(len(words)/3)).FillBytes(m.entropy)
	if m.bits().Cmp(v) != 0 {
		return Mnemonic{}, fmt.Errorf("%w: one is another word, or two changed places", ErrChecksum)
	}
	return m, nil
}

// unknown names a word that is not in the list. A whole sentence that was pasted without spaces, or a secret of another kind,
// is not repeated.
func unknown(i int, w string) error {
	if len(w) > 12 {
		return fmt.Errorf("%w: word %d is not in the list", ErrWords, i+1)
	}
	near := nearest(w)
	if len(near) == 0 {
		return fmt.Errorf("%w: word %d, %q, is not in the list", ErrWords, i+1, w)
	}
	return fmt.Errorf("%w: word %d, %q, is not in the list; did you mean %s?", ErrWords, i+1, w, strings.Join(near, ", "))
}

// nearest are up to four words that w was most likely meant to be: with the fewest letters wrong, added, missing or exchanged
// with their neighbour, at most two; of these first those that begin like w, as four letters tell all words apart.
func nearest(w string) []string {
	type match struct {
		word string
		far  int
	}
	var found []match
	for _, x := range list {
		d := 2 * distance(w, x)
		if d > 4 {
			continue
		}
		if !strings.HasPrefix(x, w[:min(4, len(w))]) {
			d++
		}
		found = append(found, match{x, d})
	}
	slices.SortStableFunc(found, func(a, b match) int { return a.far - b.far })
	var out []string
	for _, f := range found {
		if f.far > found[0].far+1 || len(out) == 4 {
			break
		}
		out = append(out, f.word)
	}
	return out
}

// distance counts letters to replace, insert, delete, or exchange with the next one.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			wrong := 1
			if a[i-1] == b[j-1] {
				wrong = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+wrong)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// Key derives the account key at m/44'/60'/0'/0/index, the path of Ethereum's wallets.
func (m Mnemonic) Key(index uint32) (*ecdsa.PrivateKey, error) {
	seed, err := m.seed("")
	if err != nil {
		return nil, err
	}
	if index >= hardened {
		return nil, fmt.Errorf("derive key %d: the index must be below %d", index, uint32(hardened))
	}
	return derive(seed, 44+hardened, 60+hardened, hardened, 0, index)
}

// seed is BIP-39's: the words stretched, with an optional passphrase that only its test vectors use here.
func (m Mnemonic) seed(passphrase string) ([]byte, error) {
	seed, err := pbkdf2.Key(sha512.New, m.Words(), []byte("mnemonic"+passphrase), 2048, 64)
	if err != nil {
		return nil, fmt.Errorf("derive seed: %w", err)
	}
	return seed, nil
}
