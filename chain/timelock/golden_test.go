package timelock

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	curve "github.com/consensys/gnark-crypto/ecc/bls12-381"

	"sn3/chain/bls"
	"sn3/internal/golden"
)

// hexed is bytes that JSON writes in hex.
type hexed []byte

func (h *hexed) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type sample struct {
	Name            string
	Kind            string `json:"payload_kind"`
	Hotkey, Payload hexed
	UIDs, Values    []uint16
	VersionKey      uint64 `json:"version_key"`
	Round           uint64
	ESK, T, Nonce   hexed
	Opens           bool `json:"decrypts_with_round_1000_signature"`
	Steps           struct {
		Sigma, Identity hexed
		Q               hexed `json:"q_g1"`
		R               hexed `json:"r_be"`
		U               hexed `json:"u_g2"`
		GT              hexed `json:"gt_bytes"`
		V, W, Sealed    hexed
		Ciphertext      hexed
	}
	RuntimeUIDs []uint16 `json:"runtime293_uids"`
}

type vectors struct {
	Public    hexed `json:"public_key"`
	Signature hexed `json:"signature_round_1000"`
	Samples   []sample
	Negative  []struct {
		Why                   string
		Ciphertext, Signature hexed
	}
}

func readVectors(t testing.TB) (g vectors) {
	t.Helper()
	f, err := os.Open(filepath.Join(golden.Case(t, "timelock", "", "tle.json.gz"), "tle.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&g); err != nil {
		t.Fatal(err)
	}
	if len(g.Samples) == 0 || len(g.Negative) == 0 {
		t.Fatal("no vectors")
	}
	return g
}

func (s *sample) rand() io.Reader { return bytes.NewReader(slices.Concat(s.ESK, s.T, s.Nonce)) }

func (s *sample) payload() []byte {
	p := WeightsPayload{UIDs: s.UIDs, Values: s.Values, VersionKey: s.VersionKey}
	if s.Kind == "v3" {
		return p.appendV3(nil)
	}
	copy(p.Hotkey[:], s.Hotkey)
	return p.Encode()
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %x, want %x", what, got, want)
	}
}

// Every step of every sample, then the whole.
func TestGolden(t *testing.T) {
	g := readVectors(t)
	opened := 0
	for _, s := range g.Samples {
		t.Run(s.Name, func(t *testing.T) {
			steps(t, g.Public, &s)
			same(t, "payload", s.payload(), s.Payload)
			sealed, err := Seal(g.Public, s.Round, s.Payload, s.rand())
			if err != nil {
				t.Fatal(err)
			}
			same(t, "ciphertext", sealed, s.Steps.Ciphertext)
			if n := len(s.Payload) + Overhead; n != len(sealed) || Overhead != 244 {
				t.Errorf("%d bytes, want %d", len(sealed), n)
			}
			plain, err := Open(g.Signature, sealed)
			if !s.Opens {
				if !errors.Is(err, ErrSealed) {
					t.Errorf("opened with the signature of another round: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			opened++
			same(t, "opened", plain, s.Payload)
			parsed(t, &s, plain)
		})
	}
	if opened == 0 {
		t.Error("no sample was opened")
	}
}

func steps(t *testing.T, public []byte, s *sample) {
	t.Helper()
	sigma := sha256.Sum256(s.T)
	same(t, "sigma", sigma[:], s.Steps.Sigma)
	id := sha256.Sum256(binary.BigEndian.AppendUint64(nil, s.Round))
	same(t, "identity", id[:], s.Steps.Identity)
	q, err := bls.Message(s.Round)
	if err != nil {
		t.Fatal(err)
	}
	qb := q.Bytes()
	same(t, "q", qb[:], s.Steps.Q)
	key := [keyLen]byte(s.ESK)
	r := exponent(sigma, key)
	same(t, "r", r.FillBytes(make([]byte, 32)), s.Steps.R)
	u := commitment(r)
	ub := u.Bytes()
	same(t, "u", ub[:], s.Steps.U)
	p, err := bls.Public(public)
	if err != nil {
		t.Fatal(err)
	}
	var rp curve.G2Affine // the other way round than seal: e(Q, r·public)
	rp.ScalarMultiplication(&p, r)
	e, err := curve.Pair([]curve.G1Affine{q}, []curve.G2Affine{rp})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "gt", target(&e), s.Steps.GT)
	c, ok := parse(s.Steps.Ciphertext)
	if !ok {
		t.Fatal("the ciphertext does not parse")
	}
	same(t, "v", c.v[:], s.Steps.V)
	same(t, "w", c.w[:], s.Steps.W)
	same(t, "sealed", c.text, s.Steps.Sealed)
	same(t, "nonce", c.nonce[:], s.Nonce)
}

func parsed(t *testing.T, s *sample, plain []byte) {
	t.Helper()
	parse := map[string]func([]byte) (WeightsPayload, error){"v3": ParseV3, "v4": Parse}
	p, err := parse[s.Kind](plain)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "hotkey", p.Hotkey[:], append(make([]byte, 32-len(s.Hotkey)), s.Hotkey...))
	if !slices.Equal(p.UIDs, s.UIDs) || !slices.Equal(p.Values, s.Values) || p.VersionKey != s.VersionKey {
		t.Errorf("parsed %+v", p)
	}
	if s.RuntimeUIDs != nil && !slices.Equal(p.UIDs, s.RuntimeUIDs) {
		t.Errorf("uids %v, the runtime stored %v", p.UIDs, s.RuntimeUIDs)
	}
	delete(parse, s.Kind)
	for kind, f := range parse { // neither form passes for the other
		if p, err := f(plain); err == nil {
			t.Errorf("read as %s: %+v", kind, p)
		}
	}
}

func TestGoldenNegative(t *testing.T) {
	for _, n := range readVectors(t).Negative {
		if plain, err := Open(n.Signature, n.Ciphertext); !errors.Is(err, ErrSealed) && !errors.Is(err, ErrSignature) || plain != nil {
			t.Errorf("%s: %x, %v", n.Why, plain, err)
		}
	}
}

func TestHashCommit(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(golden.Case(t, "timelock", "", "hash-commits.json"), "hash-commits.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Commits []struct {
			Hotkey       hexed
			Index        uint16 `json:"storage_index"`
			UIDs, Values []uint16
			Salt         []uint16
			VersionKey   uint64 `json:"version_key"`
			Hash         hexed
		}
	}
	if err := json.Unmarshal(raw, &g); err != nil || len(g.Commits) == 0 {
		t.Fatal(len(g.Commits), err)
	}
	for i, c := range g.Commits {
		got := HashCommit(WeightsPayload{[32]byte(c.Hotkey), c.UIDs, c.Values, c.VersionKey}, c.Index, c.Salt)
		if !bytes.Equal(got[:], c.Hash) {
			t.Errorf("commit %d: %x, want %x", i, got, c.Hash)
		}
	}
}
