package dkg

import (
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"testing"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fp"

	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/group"
)

// misdeeds are what a dealer may do wrong, and why it is out then.
var misdeeds = map[string]struct {
	deal func(r *room, i int) []*Dealing
	why  error
}{
	"silent": {func(*room, int) []*Dealing { return nil }, ErrSilent},
	"wrong share for one": {func(r *room, i int) []*Dealing {
		return r.wrongShares(i, func(j int, s *group.Scalar) { addIf(s, j == len(r.who)/2) })
	}, ErrGuilty},
	"wrong share for all": {func(r *room, i int) []*Dealing {
		return r.wrongShares(i, func(_ int, s *group.Scalar) { addIf(s, true) })
	}, ErrGuilty},
	"share beyond the order":  {func(r *room, i int) []*Dealing { return r.beyond(i) }, ErrGuilty},
	"wrong signature":         {changed(func(_ *room, d *Dealing) { d.proof[40] ^= 1 }), ErrSilent},
	"wrong challenge":         {changed(func(_ *room, d *Dealing) { d.proof[20] ^= 1 }), ErrSilent},
	"not signed":              {changed(func(_ *room, d *Dealing) { clear(d.proof) }), ErrSilent},
	"another's as its own":    {func(r *room, i int) []*Dealing { d := r.dealing(len(r.who) - 1); d.Dealer = i; return []*Dealing{d} }, ErrSilent},
	"for another dealer":      {changed(func(r *room, d *Dealing) { d.Dealer = len(r.who) - 1 }), ErrSilent},
	"a ciphertext changed":    {changed(func(_ *room, d *Dealing) { d.shares[0][31] ^= 1 }), ErrSilent},
	"two ciphertexts swapped": {changed(func(_ *room, d *Dealing) { d.shares[0], d.shares[1] = d.shares[1], d.shares[0] }), ErrSilent},
	"two commitments swapped": {changed(func(_ *room, d *Dealing) { c := d.commitments; c[1], c[2] = c[2], c[1] }), ErrSilent},
	"replay of another time": {func(r *room, i int) []*Dealing {
		return []*Dealing{meet(r.TB, len(r.who), r.Threshold(), 99).dealing(i)}
	}, ErrSilent},
	"replay under our id": {func(r *room, i int) []*Dealing {
		d := meet(r.TB, len(r.who), r.Threshold(), 99).dealing(i)
		d.Session = r.id
		return []*Dealing{d}
	}, ErrSilent},
	"too many commitments":     {func(r *room, i int) []*Dealing { return r.degree(i, r.Threshold()+1) }, ErrSilent},
	"too few commitments":      {func(r *room, i int) []*Dealing { return r.degree(i, r.Threshold()-1) }, ErrSilent},
	"a share too few":          {changed(func(r *room, d *Dealing) { d.shares = d.shares[1:]; r.sign(d) }), ErrSilent},
	"a commitment at infinity": {changed(func(r *room, d *Dealing) { d.commitments[1] = group.G2{}; r.sign(d) }), ErrSilent},
	"its part at infinity":     {func(r *room, i int) []*Dealing { return r.part(i, group.Scalar{}) }, ErrSilent},
	"ephemeral at infinity":    {changed(func(r *room, d *Dealing) { d.ephemeral = group.G1{}; r.sign(d) }), ErrSilent},
	"no point of the subgroup": {changed(func(r *room, d *Dealing) { d.commitments[2] = outsideG2(); r.sign(d) }), ErrSilent},
	"ephemeral not either":     {changed(func(r *room, d *Dealing) { d.ephemeral = outsideG1(); r.sign(d) }), ErrSilent},
	"twice": {func(r *room, i int) []*Dealing {
		again, err := Deal(r.Session, r.who[i], source(3, i))
		if err != nil {
			r.Fatal(err)
		}
		return []*Dealing{r.dealing(i), again}
	}, ErrTwice},
	"the ephemeral key of another": {changed(func(r *room, d *Dealing) {
		honest := r.dealing(len(r.who) - 1)
		d.ephemeral, d.shares = honest.ephemeral, honest.shares
		r.sign(d)
	}), ErrSilent},
	"a key of its own choice": {changed(func(r *room, d *Dealing) { // C_0 = a·G2 − Σ of the others
		a := group.HashScalar("a")
		g := group.BaseG2()
		d.commitments[0] = group.MulG2(&g, &a)
		for i := range r.who {
			if i != d.Dealer {
				d.commitments[0].Sub(&d.commitments[0], &r.dealing(i).commitments[0])
			}
		}
		r.sign(d)
	}), ErrSilent},
}

func addIf(s *group.Scalar, yes bool) {
	if yes {
		one := group.HashScalar("one more")
		s.Add(s, &one)
	}
}

// changed is a good dealing with a change.
func changed(change func(r *room, d *Dealing)) func(*room, int) []*Dealing {
	return func(r *room, i int) []*Dealing {
		d := r.dealing(i)
		change(r, d)
		return []*Dealing{d}
	}
}

// sign proves what the dealer of d can prove after it has changed something: it knows its own secrets.
func (r *room) sign(d *Dealing) {
	g1, g2 := group.BaseG1(), group.BaseG2()
	d.proof = prove(dealingDomain, d.body(), d.claims(&r.who[d.Dealer].public, &g1, &g2), []group.Scalar{r.who[d.Dealer].x, r.ephemeral(d.Dealer), r.polynomial(d.Dealer)[0]})
}

// ephemeral is the r of room.dealing.
func (r *room) ephemeral(i int) group.Scalar {
	seed := make([]byte, 32)
	if _, err := io.ReadFull(source(2, i, int(r.From())), seed); err != nil {
		r.Fatal(err)
	}
	return group.HashScalar("sn3/dkg/dealing/1 secret", group.AppendScalar(nil, &r.who[i].x), r.id[:], seed, []byte{beacon.MaxMembers})
}

// wrongShares is a dealing, properly signed, with shares that are not those of its commitments.
func (r *room) wrongShares(i int, spoil func(j int, s *group.Scalar)) []*Dealing {
	d, e, poly := r.dealing(i), r.ephemeral(i), r.polynomial(i)
	for j := range d.shares {
		share, dh := group.Eval(poly, uint64(j)+1), group.MulG1(&r.points[j], &e)
		spoil(j, &share)
		d.shares[j] = d.crypt(share.Bytes(), j, &r.points[j], &dh)
	}
	r.sign(d)
	return []*Dealing{d}
}

// beyond is a dealing, properly signed, where member n−1 gets the right share plus the order: the same modulo it.
func (r *room) beyond(i int) []*Dealing {
	d, e, j := r.dealing(i), r.ephemeral(i), len(r.who)-1
	share, dh := group.Eval(r.polynomial(i), uint64(j)+1), group.MulG1(&r.points[j], &e)
	big := addOrder(share.Bytes())
	d.shares[j] = d.crypt(big, j, &r.points[j], &dh)
	r.sign(d)
	return []*Dealing{d}
}

// degree is a dealing, properly signed, of a polynomial with so many coefficients.
func (r *room) degree(i, t int) []*Dealing {
	poly := r.polynomial(i)
	for len(poly) < t {
		poly = append(poly, group.HashScalar("more"))
	}
	return []*Dealing{r.deal(r.who[i], i, poly[:t], r.ephemeral(i))}
}

// part is a dealing whose part of the key is this.
func (r *room) part(i int, p group.Scalar) []*Dealing {
	poly := r.polynomial(i)
	poly[0] = p
	return []*Dealing{r.deal(r.who[i], i, poly, r.ephemeral(i))}
}

func addOrder(s [32]byte) [32]byte {
	order := [32]byte{0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05,
		0x53, 0xbd, 0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01}
	carry := 0
	for i := 31; i >= 0; i-- {
		carry += int(s[i]) + int(order[i])
		s[i] = byte(carry)
		carry >>= 8
	}
	return s // below 2·order, so there is room
}

func outsideG1() (p group.G1) {
	j := bls.GeneratePointNotInG1(fp.NewElement(7))
	p.FromJacobian(&j)
	return p
}

func outsideG2() (p group.G2) {
	var f bls.E2
	f.A0.SetUint64(7)
	j := bls.GeneratePointNotInG2(f)
	p.FromJacobian(&j)
	return p
}

// What each check says of what is wrong: no other error stands for it.
func TestDealingErrors(t *testing.T) {
	r := meet(t, 4, 3, 100)
	for name, want := range map[string]error{
		"wrong share for one": nil, "share beyond the order": nil, // nobody but the victim sees them
		"wrong signature": ErrDealing, "wrong challenge": ErrDealing, "not signed": ErrDealing, "another's as its own": ErrDealing, "for another dealer": ErrDealing,
		"a ciphertext changed": ErrDealing, "two ciphertexts swapped": ErrDealing, "two commitments swapped": ErrDealing, "replay under our id": ErrDealing,
		"the ephemeral key of another": ErrDealing, "a key of its own choice": ErrDealing,
		"replay of another time": ErrSession, "too many commitments": ErrSession, "too few commitments": ErrSession, "a share too few": ErrSession,
		"a commitment at infinity": group.ErrFormat, "its part at infinity": group.ErrFormat, "ephemeral at infinity": group.ErrFormat,
		"no point of the subgroup": group.ErrFormat, "ephemeral not either": group.ErrFormat,
	} {
		d, err := ParseDealing(misdeeds[name].deal(r, 0)[0].Encode())
		if err == nil {
			err = d.Check(r.Session)
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		if d != nil && err != nil {
			if _, err2 := r.Inspect(d, r.who[1]); !errors.Is(err2, want) {
				t.Errorf("%s: inspect: %v", name, err2)
			}
		}
	}
	stranger, err := Generate(source(8))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Deal(r.Session, stranger, source(1)); !errors.Is(err, ErrNotMember) {
		t.Errorf("a stranger deals: %v", err)
	}
	if _, err := r.Inspect(r.dealing(0), stranger); !errors.Is(err, ErrNotMember) {
		t.Errorf("a stranger inspects: %v", err)
	}
	if _, err := Deal(r.Session, r.who[0], errorReader{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("without randomness: %v", err)
	}
	if _, err := Generate(errorReader{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("without randomness: %v", err)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Only what Inspect writes about a bad share holds; everything else about it is refused for what it is.
func TestComplaintErrors(t *testing.T) {
	r := meet(t, 4, 3, 100)
	bad, good := misdeeds["wrong share for one"].deal(r, 1)[0], r.dealing(0) // bad for member 2
	real := func() *Complaint {
		c := *r.complaints([]*Dealing{bad}, 2)[0]
		c.proof = slices.Clone(c.proof)
		return &c
	}
	dh := func(d *Dealing, j int) group.G1 { return group.MulG1(&d.ephemeral, &r.who[j].x) }
	if err := real().Check(r.Session, bad); err != nil {
		t.Fatal(err)
	}
	ds := r.all()
	ds[1] = bad
	change := func(f func(c *Complaint)) *Complaint { c := real(); f(c); return c }
	for name, c := range map[string]struct {
		c    *Complaint
		d    *Dealing
		want error
	}{
		"good share":            {r.complain(good, r.who[2], 2, dh(good, 2)), good, ErrUnfounded},
		"good share of bad one": {r.complain(bad, r.who[3], 3, dh(bad, 3)), bad, ErrUnfounded},
		"not its secret point":  {r.complain(good, r.who[2], 2, dh(good, 3)), good, ErrComplaint},
		"as another member":     {r.complain(bad, r.who[3], 2, dh(bad, 2)), bad, ErrComplaint},
		"accuser changed":       {change(func(c *Complaint) { c.Accuser = 3 }), bad, ErrComplaint},
		"proof changed":         {change(func(c *Complaint) { c.proof[63] ^= 1 }), bad, ErrComplaint},
		"no proof":              {change(func(c *Complaint) { clear(c.proof) }), bad, ErrComplaint},
		"another secret point":  {change(func(c *Complaint) { c.dh = dh(good, 2) }), bad, ErrComplaint},
		"no such member":        {change(func(c *Complaint) { c.Accuser = 4 }), bad, ErrSession},
		"another session":       {change(func(c *Complaint) { c.Session[0] ^= 1 }), bad, ErrSession},
		"another dealing":       {real(), good, ErrOtherDealing},
		"another digest":        {change(func(c *Complaint) { c.Dealing = sha256.Sum256(nil) }), bad, ErrOtherDealing},
		"another dealer":        {change(func(c *Complaint) { c.Dealer = 0 }), bad, ErrOtherDealing},
		"dealing of another":    {real(), meet(t, 4, 3, 99).dealing(1), ErrSession},
	} {
		p, err := ParseComplaint(c.c.Encode())
		if err == nil {
			err = p.Check(r.Session, c.d)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c.c.Check(r.Session, bad) == nil {
			continue // the right one, only held against the wrong dealing
		}
		res, err := Finish(r.Session, ds, []*Complaint{c.c})
		if err != nil || len(res.Qualified) != 4 {
			t.Errorf("%s: qualified %v, %v", name, res.Qualified, err)
		}
	}
	for _, nobody := range []int{63, 3} { // no member, and one that has not dealt
		out := change(func(c *Complaint) { c.Dealer = nobody })
		if res, err := Finish(r.Session, r.all()[:3], []*Complaint{out}); err != nil || len(res.Qualified) != 3 {
			t.Errorf("about %d: %v", nobody, err)
		}
	}
	for _, n := range []int{2, 7} { // dealings that nobody has checked, to fewer and to more members than there are
		d := meet(t, n, 2, 100).dealing(1)
		d.Session = r.id
		for _, accuser := range []int{3, 5} {
			c := r.complain(d, r.who[0], accuser, dh(d, 0))
			if err := c.Check(r.Session, d); err == nil {
				t.Errorf("complaint of %d about a dealing to %d holds", accuser, n)
			}
		}
	}
}

// A dealing to more members than there are says of itself who of them deals.
func TestDealerBeyondMembers(t *testing.T) {
	d := meet(t, 4, 3, 100).dealing(0)
	d.Dealer = 4
	if _, err := ParseDealing(d.Encode()); !errors.Is(err, group.ErrFormat) {
		t.Errorf("dealer 4 of 4: %v", err)
	}
}

// Of several who complain the lowest is named, whoever came first.
func TestGuiltyIsNamedByTheFirst(t *testing.T) {
	r := meet(t, 4, 3, 100)
	ds := r.all()
	ds[3] = misdeeds["wrong share for all"].deal(r, 3)[0]
	cs := r.complaints(ds, upTo(4)...)
	for range cs {
		res, err := Finish(r.Session, ds, cs)
		if err != nil || len(res.Faults) != 1 || res.Faults[0] != (Fault{3, guilty{0}}) || res.Faults[0].Why.Error() != "dkg: has dealt a bad share, says member 0" {
			t.Errorf("%v, %v", res.Faults, err)
		}
		cs = append(cs[1:], cs[0])
	}
}

// Parts that cancel each other make no key.
func TestPartsThatCancel(t *testing.T) {
	r := meet(t, 2, 2, 100)
	part := r.polynomial(0)[0]
	part.Neg(&part)
	res, err := Finish(r.Session, published([]*Dealing{r.dealing(0), r.part(1, part)[0]}), nil)
	if !errors.Is(err, ErrTooFew) || res.Key != nil {
		t.Errorf("%+v, %v", res, err)
	}
}
