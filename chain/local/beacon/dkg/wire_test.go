package dkg

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/group"
)

func TestMemberFile(t *testing.T) {
	m := meet(t, 1, 1, 1).who[0]
	b := m.Encode()
	got, err := ParseMember(b)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Fatal(err)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1
		if _, err := ParseMember(damaged); !errors.Is(err, group.ErrFormat) {
			t.Errorf("byte %d damaged: %v", i, err)
		}
	}
	zero := slices.Concat([]byte(memberMagic), make([]byte, 32), []byte{0xc0}, make([]byte, 47))
	for name, b := range map[string][]byte{"short": b[1:], "long": append(b, 0), "secret zero": zero} {
		if _, err := ParseMember(b); !errors.Is(err, group.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key counts only with a proof for just this use of it: no key made of others' keys, no proof of somebody else.
func TestProofOfPossession(t *testing.T) {
	who := meet(t, 2, 1, 1).who
	a, b, here := who[0], who[1], []byte("network, validator key")
	var rogue group.G1 // b's key, less a's: nobody knows its secret
	rogue.Sub(&b.public, &a.public)
	proof := a.Prove(here)
	flipped := bytes.Clone(proof)
	flipped[63] ^= 1
	for name, c := range map[string]struct {
		key     beacon.MemberKey
		context []byte
		proof   []byte
		ok      bool
	}{
		"right":            {a.Public(), here, proof, true},
		"another context":  {a.Public(), here[1:], proof, false},
		"another's":        {b.Public(), here, proof, false},
		"rogue, a's proof": {rogue.Bytes(), here, proof, false},
		"rogue, b's proof": {rogue.Bytes(), here, b.Prove(here), false},
		"changed":          {a.Public(), here, flipped, false},
		"short":            {a.Public(), here, proof[1:], false},
		"long":             {a.Public(), here, append(bytes.Clone(proof), 0), false},
		"none":             {a.Public(), here, nil, false},
		"zeros":            {a.Public(), here, make([]byte, ProofLen), false},
		"infinity":         {beacon.MemberKey{0xc0}, here, make([]byte, ProofLen), false},
	} {
		if err := CheckProof(c.key, c.context, c.proof); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	card := a.Card(here)
	if key, err := ParseCard(card, here); err != nil || key != a.Public() {
		t.Errorf("card: %v", err)
	}
	if _, err := ParseCard(card, nil); !errors.Is(err, ErrProof) {
		t.Errorf("card in another context: %v", err)
	}
	for _, b := range [][]byte{card[1:], append(bytes.Clone(card), 0), nil} {
		if _, err := ParseCard(b, here); !errors.Is(err, group.ErrFormat) {
			t.Errorf("card of %d bytes: %v", len(b), err)
		}
	}
}

// The id of a session changes with everything that it says, and what it cannot be is refused.
func TestSession(t *testing.T) {
	r := meet(t, 4, 3, 100)
	keys := r.Members()
	ids := map[[32]byte]string{r.ID(): "first"}
	swapped := []beacon.MemberKey{keys[1], keys[0], keys[2], keys[3]}
	for name, s := range map[string]func() (*Session, error){
		"network":   func() (*Session, error) { return NewSession("sn3-tesu", 100, 3, keys) },
		"round":     func() (*Session, error) { return NewSession("sn3-test", 101, 3, keys) },
		"threshold": func() (*Session, error) { return NewSession("sn3-test", 100, 2, keys) },
		"order":     func() (*Session, error) { return NewSession("sn3-test", 100, 3, swapped) },
		"fewer":     func() (*Session, error) { return NewSession("sn3-test", 100, 3, keys[:3]) },
	} {
		s, err := s()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := ids[s.ID()]; ok {
			t.Errorf("%s and %s have one id", name, other)
		}
		ids[s.ID()] = name
		if got, err := ParseSession(s.Encode()); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := meet(t, beacon.MaxMembers, 1, 1).Members()
	for name, err := range map[string]error{
		"threshold zero":   second(NewSession("n", 1, 0, keys)),
		"threshold 5 of 4": second(NewSession("n", 1, 5, keys)),
		"nobody":           second(NewSession("n", 1, 0, nil)),
		"too many":         second(NewSession("n", 1, 1, append(many, beacon.MemberKey{}))),
		"twice":            second(NewSession("n", 1, 1, append(keys, keys[2]))),
		"infinity":         second(NewSession("n", 1, 1, []beacon.MemberKey{{0xc0}})),
		"no point":         second(NewSession("n", 1, 1, []beacon.MemberKey{{1}})),
		"long name":        second(NewSession(string(make([]byte, 65)), 1, 1, keys)),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	b := r.Encode()
	b[len(sessionMagic)+1+8+8] = 5 // threshold
	for _, b := range [][]byte{b, r.Encode()[1:], append(r.Encode(), 0), nil} {
		if _, err := ParseSession(b); !errors.Is(err, group.ErrFormat) {
			t.Errorf("%x: %v", b[:min(len(b), 8)], err)
		}
	}
	if i, ok := r.Index(keys[2]); !ok || i != 2 {
		t.Errorf("index %d, %v", i, ok)
	}
	keys[0] = beacon.MemberKey{}
	if r.Members()[0] == keys[0] {
		t.Error("a session's members can be changed")
	}
}

// A dealing is as long as is said, so that a block can reserve room for it.
func TestDealingLen(t *testing.T) {
	for _, c := range []struct{ n, t int }{{1, 1}, {4, 3}, {beacon.MaxMembers, 2}} {
		if got, want := len(meet(t, c.n, c.t, 1).dealing(0).Encode()), DealingLen(c.n, c.t); got != want {
			t.Errorf("%d of %d: %d bytes, want %d", c.t, c.n, got, want)
		}
	}
	if MaxDealing != DealingLen(beacon.MaxMembers, beacon.MaxMembers) {
		t.Errorf("the longest has %d bytes", DealingLen(beacon.MaxMembers, beacon.MaxMembers))
	}
	r := meet(t, 2, 2, 1)
	r.dealing(0)
	if c := misdeeds["wrong share for all"].deal(r, 1); len(r.complaints(c, 0)[0].Encode()) != ComplaintLen {
		t.Error("a complaint has another length")
	}
}

func second(_ *Session, err error) error { return err }

// A dealing tells nobody but the receiver anything about a share: no share stands in it in clear, only the receiver's key opens it, and
// no randomness of the machine alone decides what it is.
func TestSecrecy(t *testing.T) {
	r := meet(t, 4, 3, 100)
	d, poly := r.dealing(0), r.polynomial(0)
	enc := d.Encode()
	for j := range 4 {
		share := group.Eval(poly, uint64(j)+1)
		if s := share.Bytes(); bytes.Contains(enc, s[:]) {
			t.Errorf("the share of %d stands in the dealing", j)
		}
		for k := range 4 {
			dh := group.MulG1(&d.ephemeral, &r.who[k].x)
			got, _ := d.open(j, &r.points[j], &dh)
			good := d.good(j, &r.points[j], &dh)
			if good != (j == k) || good != got.Equal(&share) {
				t.Errorf("member %d opens the share of %d: %v", k, j, good)
			}
		}
	}
	for k := range poly {
		if s := poly[k].Bytes(); bytes.Contains(enc, s[:]) {
			t.Errorf("coefficient %d stands in the dealing", k)
		}
	}
	same := bytes.NewReader(make([]byte, 96)) // a broken source
	one, err := Deal(r.Session, r.who[0], same)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Deal(r.Session, r.who[1], same)
	if err != nil {
		t.Fatal(err)
	}
	later, err := Deal(meet(t, 4, 3, 101).Session, r.who[0], same)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[group.G2]bool{}
	for _, d := range []*Dealing{one, two, later} {
		for _, c := range d.commitments {
			if seen[c] {
				t.Error("two dealings or two coefficients are the same with the same randomness")
			}
			seen[c] = true
		}
	}
	if one.ephemeral == two.ephemeral || one.ephemeral == later.ephemeral {
		t.Error("two dealings have one ephemeral key")
	}
	if _, err := Deal(r.Session, r.who[0], bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("31 bytes of randomness are enough")
	}
}

// A dealer that goes last can make its own share of the key zero. It hurts nobody else.
func TestOwnShareAtInfinity(t *testing.T) {
	r := meet(t, 4, 3, 100)
	ds := r.all()[:3]
	var sum group.Scalar
	for i := range 3 {
		y := group.Eval(r.polynomial(i), 4)
		sum.Sub(&sum, &y)
	}
	poly := r.polynomial(3) // moved so that its value at 4 is minus the sum of the others'
	y := group.Eval(poly, 4)
	sum.Sub(&sum, &y)
	poly[0].Add(&poly[0], &sum)
	ds = published(append(ds, r.deal(r.who[3], 3, poly, r.ephemeral(3))))
	res, err := Finish(r.Session, ds, r.complaints(ds, upTo(4)...))
	if err != nil || len(res.Qualified) != 4 || res.Key.PublicShares[3] != (beacon.PublicKey{0xc0}) {
		t.Fatalf("%+v, %v", res, err)
	}
	if k, err := beacon.ParseKey(res.Key.Encode()); err != nil || !reflect.DeepEqual(k, res.Key) {
		t.Error(err)
	}
	r.works(res, []int{0, 1, 2})
}

var update = flag.Bool("update", false, "write testdata/ceremony.json anew")

// ceremony is a session of three with threshold two, of which member 1 deals member 2 a bad share: every byte that is made.
type ceremony struct {
	Members   []string `json:"members"` // secret files
	Cards     []string `json:"cards"`   // with the context "card"
	Session   string   `json:"session"`
	ID        string   `json:"id"`
	Dealings  []string `json:"dealings"`
	Complaint string   `json:"complaint"`
	Key       string   `json:"key"`
	Shares    []string `json:"shares"`
	Partials  []string `json:"partials"`  // of round 101
	Signature string   `json:"signature"` // of round 101
}

// The bytes of a ceremony do not change. A program in another language, with another library, has read and checked all of
// this file by what FORMAT.md says of it (LOG.md).
func TestCeremonyFile(t *testing.T) {
	r := meet(t, 3, 2, 101)
	ds := r.all()
	ds[1] = r.wrongShares(1, func(j int, s *group.Scalar) { addIf(s, j == 2) })[0]
	cs := r.complaints(ds, upTo(3)...)
	res, err := Finish(r.Session, ds, cs)
	if err != nil || len(cs) != 1 {
		t.Fatal(err)
	}
	id := r.ID()
	c := ceremony{Session: hex.EncodeToString(r.Encode()), ID: hex.EncodeToString(id[:]), Complaint: hex.EncodeToString(cs[0].Encode()), Key: hex.EncodeToString(res.Key.Encode())}
	var ps []beacon.Partial
	for i, m := range r.who {
		share, err := res.Share(m)
		if err != nil {
			t.Fatal(err)
		}
		b, err := share.Encode()
		if err != nil {
			t.Fatal(err)
		}
		p, err := beacon.PartialSign(share, 101)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
		c.Members = append(c.Members, hex.EncodeToString(m.Encode()))
		c.Cards = append(c.Cards, hex.EncodeToString(m.Card([]byte("card"))))
		c.Dealings = append(c.Dealings, hex.EncodeToString(ds[i].Encode()))
		c.Shares = append(c.Shares, hex.EncodeToString(b))
		c.Partials = append(c.Partials, hex.EncodeToString(p.Encode()))
	}
	sig, _, err := res.Key.Combine(101, ps)
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = hex.EncodeToString(sig)
	path := filepath.Join("testdata", "ceremony.json")
	if *update {
		b, err := json.MarshalIndent(c, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want ceremony
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the bytes have changed: networks that exist cannot read them; a new form needs a new version.\n%+v", c)
	}
}

func FuzzParse(f *testing.F) {
	r := meet(f, 2, 1, 1)
	d, bad := r.dealing(0), misdeeds["wrong share for one"].deal(r, 1)
	f.Add(d.Encode())
	f.Add(r.complaints(bad, 0, 1)[0].Encode())
	f.Add(r.Encode())
	f.Add(r.who[0].Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, err error, encode func() []byte) {
			if err == nil && !bytes.Equal(encode(), b) {
				t.Errorf("%s %x is written %x", what, b, encode())
			}
			if err != nil && !errors.Is(err, group.ErrFormat) {
				t.Errorf("%s %x: %v", what, b, err)
			}
		}
		d2, err := ParseDealing(b)
		same("dealing", err, func() []byte { return d2.Encode() })
		if err == nil && d2.Check(r.Session) == nil && !bytes.Equal(d2.Encode(), d.Encode()) {
			t.Errorf("forged dealing %x", b)
		}
		c, err := ParseComplaint(b)
		same("complaint", err, func() []byte { return c.Encode() })
		if err == nil && c.Check(r.Session, d) == nil {
			t.Errorf("complaint %x about a good dealing holds", b)
		}
		s, err := ParseSession(b)
		same("session", err, func() []byte { return s.Encode() })
		m, err := ParseMember(b)
		same("member", err, func() []byte { return m.Encode() })
	})
}

func Benchmark(b *testing.B) {
	for _, n := range []int{4, 16, 64} {
		r := meet(b, n, beacon.Quorum(n), 100)
		ds := r.all()
		ds[0] = misdeeds["wrong share for one"].deal(r, 0)[0]
		cs := r.complaints(ds[:1], n/2)
		enc := ds[1].Encode()
		res, err := Finish(r.Session, ds, cs)
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, f func() error) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("deal", func() error { _, err := Deal(r.Session, r.who[0], source(1)); return err })
		run("parse", func() error { _, err := ParseDealing(enc); return err })
		run("check", func() error { return ds[1].Check(r.Session) })
		run("inspect", func() error { _, err := r.Inspect(ds[1], r.who[2]); return err })
		run("complaint", func() error { return cs[0].Check(r.Session, ds[0]) })
		run("finish", func() error { _, err := Finish(r.Session, ds, cs); return err })
		run("share", func() error { _, err := res.Share(r.who[1]); return err })
	}
}
