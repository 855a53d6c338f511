package dkg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/group"
)

// source is randomness that is the same every time.
func source(parts ...int) io.Reader {
	var seed [32]byte
	for i, p := range parts {
		binary.BigEndian.PutUint64(seed[8*i:], uint64(p))
	}
	return rand.NewChaCha8(seed)
}

// room is a session with everybody's secrets.
type room struct {
	testing.TB
	*Session
	who   []*Member
	dealt map[int]*Dealing // what dealing has made
}

func meet(t testing.TB, n, threshold int, from chain.Round) *room {
	t.Helper()
	r := &room{TB: t, dealt: map[int]*Dealing{}}
	var keys []beacon.MemberKey
	for i := range n {
		m, err := Generate(source(1, i))
		if err != nil {
			t.Fatal(err)
		}
		r.who = append(r.who, m)
		keys = append(keys, m.Public())
	}
	s, err := NewSession("sn3-test", from, threshold, keys)
	if err != nil {
		t.Fatal(err)
	}
	r.Session = s
	return r
}

// dealing is a copy of what member i deals.
func (r *room) dealing(i int) *Dealing {
	r.Helper()
	if r.dealt[i] == nil {
		d, err := Deal(r.Session, r.who[i], source(2, i, int(r.From())))
		if err != nil {
			r.Fatal(err)
		}
		r.dealt[i] = d
	}
	d := *r.dealt[i]
	d.proof, d.shares, d.commitments = slices.Clone(d.proof), slices.Clone(d.shares), slices.Clone(d.commitments)
	return &d
}

func (r *room) all() (out []*Dealing) {
	r.Helper()
	for i := range r.who {
		out = append(out, r.dealing(i))
	}
	return out
}

// published is what others read of dealings: those whose bytes parse.
func published(ds []*Dealing) (out []*Dealing) {
	for _, d := range ds {
		if p, err := ParseDealing(d.Encode()); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// complaints are those that members make about dealings, as others read them.
func (r *room) complaints(ds []*Dealing, members ...int) (out []*Complaint) {
	r.Helper()
	for _, d := range ds {
		if d.Check(r.Session) != nil {
			continue
		}
		for _, j := range members {
			c, err := r.Inspect(d, r.who[j])
			if err != nil {
				r.Fatal(err)
			}
			if c == nil {
				continue
			}
			if c, err = ParseComplaint(c.Encode()); err != nil {
				r.Fatal(err)
			}
			out = append(out, c)
		}
	}
	return out
}

// works checks that the members have what it takes: the key is sound, every share is the public one's, a threshold of members
// signs what verifies.
func (r *room) works(res *Result, members []int) {
	r.Helper()
	if err := res.Key.Check(); err != nil {
		r.Error(err)
	}
	if res.Key.From != r.From() || res.Key.Threshold != r.Threshold() || !slices.Equal(res.Key.Members, r.Members()) {
		r.Errorf("key is %+v", res.Key)
	}
	var ps []beacon.Partial
	for _, j := range members {
		share, err := res.Share(r.who[j])
		if err != nil {
			r.Fatalf("share of %d: %v", j, err)
		}
		pub, err := beacon.Public(share.Secret[:])
		if err != nil || share.Index != j || share.From != r.From() || beacon.PublicKey(pub) != res.Key.PublicShares[j] {
			r.Errorf("share of %d is not that of its public share: %v", j, err)
		}
		p, err := beacon.PartialSign(share, r.From()+1)
		if err != nil {
			r.Fatal(err)
		}
		ps = append(ps, p)
	}
	first, bad, err := res.Key.Combine(r.From()+1, ps)
	if err != nil || len(bad) > 0 {
		r.Fatalf("combine: bad %v, %v", bad, err)
	}
	slices.Reverse(ps)
	last, err := beacon.Combine(r.Threshold(), ps[:r.Threshold()])
	if err != nil || !bytes.Equal(first, last) {
		r.Errorf("other members sign otherwise: %v", err)
	}
	if err := beacon.Verify(res.Key.Public[:], r.From()+1, last); err != nil {
		r.Error(err)
	}
	if t := r.Threshold(); t > 1 {
		if sig, err := beacon.Combine(t-1, ps[:t-1]); err != nil || beacon.Verify(res.Key.Public[:], r.From()+1, sig) == nil {
			r.Errorf("%d members of threshold %d sign: %v", t-1, t, err)
		}
	}
}

func upTo(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

func TestHonest(t *testing.T) {
	for _, n := range []int{1, 2, 4, 7, 13} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := meet(t, n, beacon.Quorum(n), 100)
			ds := published(r.all())
			if cs := r.complaints(ds, upTo(n)...); len(ds) != n || len(cs) != 0 {
				t.Errorf("%d dealings, %d complaints", len(ds), len(cs))
			}
			res, err := Finish(r.Session, ds, nil)
			if err != nil || !slices.Equal(res.Qualified, upTo(n)) || res.Faults != nil {
				t.Fatalf("qualified %v, %v, %v", res.Qualified, res.Faults, err)
			}
			r.works(res, upTo(n))
			var secret group.Scalar // nobody ever has it; here it shows that all dealers have a part
			for i := range n {
				part := r.polynomial(i)[0]
				secret.Add(&secret, &part)
			}
			if pub, err := beacon.Public(group.AppendScalar(nil, &secret)); err != nil || beacon.PublicKey(pub) != res.Key.Public {
				t.Errorf("the key is not the sum of the parts: %v", err)
			}
		})
	}
}

// polynomial is what room.dealing draws for a member.
func (r *room) polynomial(i int) (poly []group.Scalar) {
	r.Helper()
	seed := make([]byte, 32)
	if _, err := io.ReadFull(source(2, i, int(r.From())), seed); err != nil {
		r.Fatal(err)
	}
	for k := range r.Threshold() {
		poly = append(poly, group.HashScalar("sn3/dkg/dealing/1 secret", group.AppendScalar(nil, &r.who[i].x), r.id[:], seed, []byte{byte(k)}))
	}
	return poly
}

// As many bad dealers as leave a threshold of good ones, of every kind and of several at once, change nothing: the key is that
// of the others, everybody has a share of it, and why each is out is said.
func TestBadDealers(t *testing.T) {
	kinds := slices.Sorted(maps.Keys(misdeeds))
	for _, n := range []int{4, 7, 13} {
		r := meet(t, n, beacon.Quorum(n), 100)
		f := n - r.Threshold()
		for len(kinds)%f != 0 {
			kinds = append(kinds, "silent")
		}
		alone, err := Finish(r.Session, r.all()[f:], nil)
		if err != nil {
			t.Fatal(err)
		}
		for some := range slices.Chunk(kinds, f) {
			var ds []*Dealing
			for i, kind := range some {
				ds = append(ds, misdeeds[kind].deal(r, i)...)
			}
			ds = published(append(ds, r.all()[f:]...))
			res, err := Finish(r.Session, ds, r.complaints(ds, upTo(n)[f:]...))
			if err != nil || !slices.Equal(res.Qualified, upTo(n)[f:]) || len(res.Faults) != f || !reflect.DeepEqual(res.Key, alone.Key) {
				t.Fatalf("n %d, %v: qualified %v, %v, %v", n, some, res.Qualified, res.Faults, err)
			}
			for i, fault := range res.Faults {
				if fault.Dealer != i || !errors.Is(fault.Why, misdeeds[some[i]].why) {
					t.Errorf("n %d, %v: %v", n, some, fault)
				}
			}
			r.works(res, upTo(n))
		}
	}
}

// With one or two members all are needed: one bad dealer, and there is no key.
func TestBadDealersWithoutSpare(t *testing.T) {
	for _, n := range []int{1, 2} {
		r := meet(t, n, beacon.Quorum(n), 100)
		for _, kind := range []string{"silent", "wrong share for one", "wrong share for all", "share beyond the order", "wrong signature", "replay of another time", "too many commitments", "its part at infinity", "twice"} {
			ds := published(slices.Concat(misdeeds[kind].deal(r, 0), r.all()[1:]))
			res, err := Finish(r.Session, ds, r.complaints(ds, upTo(n)...))
			if !errors.Is(err, ErrTooFew) || len(res.Faults) != 1 || !errors.Is(res.Faults[0].Why, misdeeds[kind].why) {
				t.Errorf("n %d, %s: %+v, %v", n, kind, res.Faults, err)
			}
		}
	}
}

// The order in which things are read, and how often, makes no difference; nor do things that anybody may have written.
func TestFinishIsAFunctionOfSets(t *testing.T) {
	r, other := meet(t, 4, 2, 100), meet(t, 4, 2, 200)
	ds := r.all()
	ds[1] = misdeeds["wrong share for one"].deal(r, 1)[0]
	noise := slices.Concat(misdeeds["wrong signature"].deal(r, 2), other.all(), []*Dealing{meet(t, 7, 2, 100).dealing(6)}, misdeeds["too many commitments"].deal(r, 3), misdeeds["another's as its own"].deal(r, 0))
	cs := r.complaints(ds, upTo(4)...)
	if len(cs) != 1 {
		t.Fatalf("%d complaints", len(cs))
	}
	want, err := Finish(r.Session, ds, cs)
	if err != nil || !slices.Equal(want.Qualified, []int{0, 2, 3}) {
		t.Fatalf("%v, %v", want.Qualified, err)
	}
	for i := range 4 { // complaints that do not hold
		for _, j := range []int{0, 2, 3} {
			cs = append(cs, r.complain(ds[j], r.who[i], i, group.MulG1(&ds[j].ephemeral, &r.who[i].x)))
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		all := rapid.Permutation(slices.Concat(ds, noise)).Draw(rt, "dealings")
		twice := rapid.SliceOfN(rapid.SampledFrom(slices.Concat(ds, noise)), 0, 3).Draw(rt, "twice")
		said := rapid.Permutation(cs).Draw(rt, "complaints")
		got, err := Finish(r.Session, slices.Concat(all, twice), said)
		if err != nil || !reflect.DeepEqual(got.Key, want.Key) || !slices.Equal(got.Qualified, want.Qualified) || !reflect.DeepEqual(got.Faults, want.Faults) {
			rt.Fatalf("%+v, %v", got, err)
		}
	})
}

// Fewer qualified dealers than the threshold make no key, and say so.
func TestTooFew(t *testing.T) {
	r := meet(t, 4, 3, 100)
	ds := r.all()
	ds[1] = misdeeds["wrong share for one"].deal(r, 1)[0]
	res, err := Finish(r.Session, ds[:3], r.complaints(ds, upTo(4)...))
	if !errors.Is(err, ErrTooFew) || res.Key != nil || !slices.Equal(res.Qualified, []int{0, 2}) || len(res.Faults) != 2 ||
		!errors.Is(res.Faults[0].Why, ErrGuilty) || !errors.Is(res.Faults[1].Why, ErrSilent) {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := res.Share(r.who[0]); !errors.Is(err, ErrTooFew) {
		t.Errorf("a share of no key: %v", err)
	}
	if res, err := Finish(r.Session, nil, nil); !errors.Is(err, ErrTooFew) || len(res.Faults) != 4 {
		t.Errorf("nothing at all: %+v, %v", res, err)
	}
}

// A member that did not complain in time knows that it cannot sign, and the others can.
func TestUnnoticedBadShare(t *testing.T) {
	r := meet(t, 4, 3, 100)
	ds := r.all()
	victim := 2
	ds[1] = misdeeds["wrong share for one"].deal(r, 1)[0] // for member 2
	res, err := Finish(r.Session, ds, r.complaints(ds, 0, 1, 3))
	if err != nil || len(res.Qualified) != 4 {
		t.Fatalf("%v, %v", res.Qualified, err)
	}
	if _, err := res.Share(r.who[victim]); !errors.Is(err, ErrShare) {
		t.Errorf("share of the victim: %v", err)
	}
	r.works(res, []int{0, 1, 3})
	stranger, err := Generate(source(9))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := res.Share(stranger); !errors.Is(err, ErrNotMember) {
		t.Errorf("share of a stranger: %v", err)
	}
}

// Whoever is killed between steps goes on from the bytes that were published and its own key's file.
func TestResume(t *testing.T) {
	r := meet(t, 4, 3, 100)
	ds := r.all()
	ds[0] = misdeeds["wrong share for one"].deal(r, 0)[0]
	cs := r.complaints(ds, upTo(4)...)
	want, err := Finish(r.Session, ds, cs)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSession(r.Encode())
	if err != nil || s.ID() != r.ID() {
		t.Fatal(err)
	}
	res, err := Finish(s, published(ds), cs)
	if err != nil || !reflect.DeepEqual(res.Key, want.Key) {
		t.Fatalf("%+v, %v", res, err)
	}
	for j := range r.who {
		m, err := ParseMember(r.who[j].Encode())
		if err != nil {
			t.Fatal(err)
		}
		share, err := res.Share(m)
		before, err2 := want.Share(r.who[j])
		if err != nil || err2 != nil || share != before {
			t.Errorf("share of %d: %v, %v", j, err, err2)
		}
		// and deals again what it has dealt, as long as it has the same randomness
		if again, err := Deal(s, m, source(2, j, 100)); err != nil || j > 0 && !bytes.Equal(again.Encode(), ds[j].Encode()) {
			t.Errorf("dealing of %d: %v", j, err)
		}
	}
}
