package state

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/dkg/dkgtest"
)

// circle is a machine with validators that are members of the beacon, and their secrets, by index.
type circle struct {
	testing.TB
	*State
	who   []*dkg.Member
	nonce uint64 // of the owner
	disk  disk
}

// validatorOf is the consensus key of a test's validator i; ascending.
func validatorOf(i int) [32]byte { return [32]byte{byte(i) + 1} }

var circleMembers = func() (out []*dkg.Member) {
	for i := range 8 {
		var seed [32]byte
		binary.BigEndian.PutUint64(seed[:], uint64(i))
		m, err := dkg.Generate(mathrand.NewChaCha8(seed))
		if err != nil {
			panic(err)
		}
		out = append(out, m)
	}
	return out
}()

// meet makes a machine with n members among n+1 validators: the last one has none.
func meet(t testing.TB, n int, change func(*Genesis)) *circle {
	t.Helper()
	g := genesis(t)
	for i := range n {
		v := Validator{Key: validatorOf(i), Beacon: circleMembers[i].Card(MemberContext(g.Network, validatorOf(i)))}
		g.Validators = append(g.Validators, v)
	}
	g.Validators = append(g.Validators, Validator{Key: validatorOf(n)})
	if change != nil {
		change(g)
	}
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	return &circle{TB: t, State: s, who: circleMembers[:n], disk: disk{}}
}

// block makes one block of what is said and transactions.
func (c *circle) block(said [][]byte, txs ...[]byte) Result {
	c.Helper()
	r := c.Finalize(Block{Height: c.Height() + 1, Said: said, Txs: txs})
	c.disk.keep(c, r)
	return r
}

func (c *circle) to(h chain.Block) {
	for c.Height() < h {
		c.block(nil)
	}
}

// announce has the owner begin a making for round at.
func (c *circle) announce(at chain.Round) local.Code {
	c.Helper()
	raw := tx(c, 0, c.nonce, local.MakeBeacon{At: at})
	code := c.block(nil, raw).Codes[0]
	if a, _ := c.Account(chain.Coldkey(account0(0))); a > 0 {
		_, c.nonce = c.Account(chain.Coldkey(account0(0)))
	}
	return code
}

// soon is the first round that a making announced in the next block may be for.
func (c *circle) soon() chain.Round { return c.earliest(c.Height() + 1 + 2*c.phaseLen()) }

// session is a machine that has just begun to make a key of n members.
func session(t testing.TB, n int) *circle {
	t.Helper()
	c := meet(t, n, nil)
	c.block(nil)
	if code := c.announce(c.soon()); code != local.CodeOK {
		t.Fatal(code.Err())
	}
	return c
}

func (c *circle) dealing(i int) []byte {
	c.Helper()
	var seed [32]byte
	seed[0] = byte(i)
	d, err := dkg.Deal(c.making.session, c.who[i], mathrand.NewChaCha8(seed))
	if err != nil {
		c.Fatal(err)
	}
	return append([]byte{SaidDealing}, d.Encode()...)
}

// signers sign with the key of a making that is done: all members but the first.
func (c *circle) signers(m *making) func(chain.Round) Beacon {
	c.Helper()
	var ds []*dkg.Dealing
	for _, raw := range c.Dealings(m.from) {
		d, err := dkg.ParseDealing(raw)
		if err != nil {
			c.Fatal(err)
		}
		ds = append(ds, d)
	}
	k := c.keyAt(m.from)
	result, err := dkg.Finish(m.session, ds, nil)
	if err != nil || result.Key.Public != k.Public {
		c.Fatalf("another key: %v", err)
	}
	return func(r chain.Round) Beacon {
		c.Helper()
		var ps []beacon.Partial
		for _, who := range c.who[1:] { // one that has not dealt among them
			share, err := result.Share(who)
			if err != nil {
				c.Fatal(err)
			}
			p, err := beacon.PartialSign(share, r)
			if err != nil {
				c.Fatal(err)
			}
			ps = append(ps, p)
		}
		sig, _, err := k.Combine(r, ps)
		if err != nil {
			c.Fatal(err)
		}
		return Beacon{r, sig}
	}
}

// signs checks that the members, and nobody else, are said to sign with the newest key, now or next; before it signs the first one does.
func (c *circle) signs(now bool) {
	c.Helper()
	for i, v := range c.Validators() {
		if member := i < len(c.who); v.Signs != (member && now || i == 0 && !now) || v.Next != (member && !now) {
			c.Errorf("validator %d signs: %v, next: %v", i, v.Signs, v.Next)
		}
	}
}

// A key is made in blocks: it signs from its round on, and until then the old one does.
func TestMakeBeacon(t *testing.T) {
	c := session(t, 4)
	old, m := c.keys[0], c.making
	st := c.BeaconStatus()
	if st.Making == nil || st.Making.Phase != local.PhaseDealing || st.Making.Threshold != 3 || len(st.Making.Members) != 4 || st.Signs.Members != 1 || st.Next != nil {
		t.Errorf("status %+v", st)
	}
	for i := range 3 {
		said := [][]byte{c.dealing(i)}
		if err := c.CheckSaid(c.Height()+1, said); err != nil {
			t.Fatal(err)
		}
		c.block(said)
	}
	if st := c.BeaconStatus().Making; !st.Members[2].Dealt || st.Members[3].Dealt {
		t.Errorf("status %+v", st)
	}
	c.to(m.start + m.phase)
	if st := c.BeaconStatus().Making; st.Phase != local.PhaseComplaints || st.Until != m.end() {
		t.Errorf("status %+v", st)
	}
	c.to(m.end() - 1)
	if len(c.keys) != 1 {
		t.Fatal("the key was made too early")
	}
	res := c.block(nil)
	if i := slices.IndexFunc(res.Events, func(e local.Event) bool { return e.Kind == local.EventBeacon }); i < 0 || res.Events[i].At != chain.Block(m.from) {
		t.Errorf("events %+v", res.Events)
	}
	st = c.BeaconStatus()
	if st.Making != nil || st.Next == nil || st.Next.From != m.from || st.Next.Threshold != 3 || st.Signs.From != 0 || st.Last == "" {
		t.Fatalf("status %+v", st)
	}
	c.signs(false)
	k := c.keys[1]
	for r, want := range map[chain.Round]*beacon.Key{0: old, m.from - 1: old, m.from: k, m.from + 1e6: k} {
		if got, err := c.BeaconKey(r); err != nil || !bytes.Equal(got, want.Public[:]) {
			t.Errorf("round %d has another key: %v", r, err)
		}
	}

	// the members' shares of what the chain keeps sign what it accepts, from the round on
	c.to(chain.Block(m.from))
	c.signs(true)
	sign := c.signers(m)
	h := c.Height() + 1
	for name, x := range map[string]struct {
		b  Beacon
		ok bool
	}{"the new key": {sign(m.from), true}, "the old one": {Beacon{m.from, mustSign(t, m.from)}, false},
		"the old one, before": {Beacon{m.from - 1, mustSign(t, m.from-1)}, true}, "the new one, before": {sign(m.from - 1), false}} {
		if err := c.CheckBeacons(h, []Beacon{x.b}); (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.Finalize(Block{Height: h, Beacons: []Beacon{{m.from - 1, mustSign(t, m.from-1)}, sign(m.from)}})
	if len(c.beacons) != 2 {
		t.Errorf("%d beacons", len(c.beacons))
	}
}

// What members may not say, when; executed all the same it changes nothing.
func TestCheckSaid(t *testing.T) {
	c := session(t, 4)
	m, good := c.making, c.dealing(0)
	broken := slices.Clone(good)
	broken[len(broken)-1] ^= 1
	other := session(t, 3)
	twice, err := dkg.Deal(m.session, c.who[0], rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	again := append([]byte{SaidDealing}, twice.Encode()...)
	h := c.Height() + 1
	for name, x := range map[string]struct {
		at   chain.Block
		said [][]byte
		ok   bool
	}{
		"nothing": {h, nil, true}, "a dealing": {h, [][]byte{good}, true}, "in the last block": {m.start + m.phase, [][]byte{good}, true}, "too late": {m.start + m.phase + 1, [][]byte{good}, false},
		"two of one dealer": {h, [][]byte{good, again}, false}, "of two": {h, [][]byte{good, c.dealing(1)}, true}, "empty": {h, [][]byte{nil}, false}, "only the kind": {h, [][]byte{{SaidDealing}}, false},
		"another proof": {h, [][]byte{broken}, false}, "another session": {h, [][]byte{other.dealing(0)}, false}, "another kind": {h, [][]byte{append([]byte{0xB4}, good[1:]...)}, false},
		"too many": {h, slices.Repeat([][]byte{good}, MaxSaid+1), false}, "a complaint too early": {h, [][]byte{append([]byte{SaidComplaint}, make([]byte, dkg.ComplaintLen)...)}, false},
	} {
		if err := c.CheckSaid(x.at, x.said); (err == nil) != x.ok || err != nil && !errors.Is(err, ErrSaid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.block([][]byte{good, again, broken})
	if got := c.dealings[dealingID{m.from, 0}]; !bytes.Equal(got, good[1:]) || len(c.dealings) != 1 {
		t.Errorf("%d dealings", len(c.dealings))
	}
	if err := c.CheckSaid(c.Height()+1, [][]byte{again}); !errors.Is(err, dkg.ErrTwice) {
		t.Errorf("a second dealing: %v", err)
	}
	c.to(m.start + m.phase)
	malformed := append([]byte{SaidComplaint}, make([]byte, dkg.ComplaintLen)...)
	if err := c.CheckSaid(c.Height()+1, [][]byte{malformed}); !errors.Is(err, ErrSaid) {
		t.Errorf("no complaint: %v", err)
	}
	c.block([][]byte{malformed, good})
	c.to(m.end())
	if c.tried.how != madeTooFew || len(c.keys) != 1 || len(c.dealings) != 0 {
		t.Errorf("one of four has dealt: outcome %+v, %d keys, %d dealings", c.tried, len(c.keys), len(c.dealings))
	}
	if err := c.CheckSaid(c.Height()+1, [][]byte{good}); !errors.Is(err, ErrSaid) {
		t.Errorf("nothing is being made: %v", err)
	}
	if code := c.announce(m.from); code != local.CodeBeacon {
		t.Errorf("the same round again: %v", code.Err())
	}
	if code := c.announce(c.soon()); code != local.CodeOK {
		t.Errorf("another try: %v", code.Err())
	}
}

// When a key may be announced.
func TestAnnounceBeacon(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*circle, *local.MakeBeacon)
		want   local.Code
	}{
		"as early as can be":       {func(*circle, *local.MakeBeacon) {}, local.CodeOK},
		"a round earlier":          {func(_ *circle, o *local.MakeBeacon) { o.At-- }, local.CodeBeacon},
		"as late as can be":        {func(_ *circle, o *local.MakeBeacon) { o.At += beaconAhead }, local.CodeOK},
		"a round later":            {func(_ *circle, o *local.MakeBeacon) { o.At += beaconAhead + 1 }, local.CodeBeacon},
		"beyond any height":        {func(_ *circle, o *local.MakeBeacon) { o.At = 1<<64 - 1 }, local.CodeBeacon},
		"a longer way of commits":  {func(c *circle, _ *local.MakeBeacon) { c.params.RevealPeriod++ }, local.CodeBeacon},
		"one is on its way":        {func(c *circle, o *local.MakeBeacon) { c.announce(c.soon()); o.At++ }, local.CodeBeacon},
		"no member":                {func(c *circle, _ *local.MakeBeacon) { clear(c.validators) }, local.CodeBeacon},
		"members without a beacon": {func(c *circle, o *local.MakeBeacon) { c.validators = map[[32]byte]validator{{1}: {}} }, local.CodeBeacon},
	} {
		c := meet(t, 2, nil)
		c.block(nil)
		o := local.MakeBeacon{At: c.soon()}
		x.change(c, &o)
		if code := c.announce(o.At); code != x.want {
			t.Errorf("%s: %v, want %v", name, code.Err(), x.want.Err())
		}
	}
	c := meet(t, 2, nil)
	if code := c.block(nil, tx(t, 1, 0, local.MakeBeacon{At: c.soon()})).Codes[0]; code != local.CodeNotSubnetOwner {
		t.Errorf("somebody else: %v", code.Err())
	}
}

// A card counts for its validator and its network only, and a member key once.
func TestMembers(t *testing.T) {
	g := genesis(t)
	card := func(m, v int, network string) []byte {
		return circleMembers[m].Card(MemberContext(network, validatorOf(v)))
	}
	g.Validators = []Validator{{validatorOf(3), card(3, 3, g.Network)}, {validatorOf(0), card(0, 0, g.Network)}, {validatorOf(1), card(0, 0, g.Network)},
		{validatorOf(2), card(2, 2, "other")}, {validatorOf(4), card(0, 4, g.Network)}, {validatorOf(5), nil}, {validatorOf(6), []byte("card")}}
	v, keys := g.Members()
	if !slices.Equal(v, []chain.Hash{validatorOf(0), validatorOf(3)}) || !slices.Equal(keys, []beacon.MemberKey{circleMembers[0].Public(), circleMembers[3].Public()}) {
		t.Errorf("members %x", v)
	}
}

// The next key begins later than every one before it, whether that was made or not; the status says from which round on.
func TestNextBeacon(t *testing.T) {
	for _, dealers := range []int{0, 1} {
		c := meet(t, 1, nil)
		c.block(nil)
		far := c.soon() + 1000
		if code := c.announce(far); code != local.CodeOK {
			t.Fatal(code.Err())
		}
		for i := range dealers {
			c.block([][]byte{c.dealing(i)})
		}
		c.to(c.making.end())
		if len(c.keys) != 1+dealers {
			t.Fatalf("%d keys", len(c.keys))
		}
		c.tried.from = chain.Round(1-dealers) * far // after a key the list of keys alone must say it
		if got := c.BeaconStatus().Earliest; got != far+1 {
			t.Errorf("after %d dealings the earliest round is %d, want %d", dealers, got, far+1)
		}
		if code := c.announce(far); code != local.CodeBeacon {
			t.Errorf("after %d dealings the same round again: code %d", dealers, code)
		}
		if code := c.announce(far + 1); code != local.CodeOK {
			t.Errorf("after %d dealings a round later: code %d", dealers, code)
		}
	}
	c := meet(t, 1, nil)
	c.block(nil)
	if got := c.BeaconStatus().Earliest; got != c.soon() {
		t.Errorf("the earliest round is %d, want %d", got, c.soon())
	}
}

// Raising the reveal period while a key is made would leave commitments that no key opens: then there is no new key.
func TestKeyTooLate(t *testing.T) {
	c := session(t, 1)
	m := c.making
	c.block([][]byte{c.dealing(0)})
	c.params.RevealPeriod = 3
	c.to(m.end())
	if c.tried.how != madeLate || len(c.keys) != 1 || c.BeaconStatus().Last == "" {
		t.Errorf("outcome %+v", c.tried)
	}
}

// A machine that is stopped and restored at any block of a making goes on as the other one.
func TestRestoreMaking(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := session(t, 2)
		m := c.making
		when := []chain.Block{c.Height() + chain.Block(rapid.IntRange(1, int(m.phase)).Draw(rt, "a")), c.Height() + chain.Block(rapid.IntRange(1, int(m.phase)).Draw(rt, "b"))}
		stop := chain.Block(rapid.IntRange(2, int(m.end())+2).Draw(rt, "stop"))
		for c.Height() < m.end()+2 {
			var said [][]byte
			for i := range when {
				if when[i] == c.Height()+1 {
					said = append(said, c.dealing(i))
				}
			}
			c.block(said)
			if c.Height() != stop {
				continue
			}
			again, err := c.disk.restore(c.gen)
			if err != nil {
				rt.Fatal(err)
			}
			same(t, c.State, again)
			c.State = again
		}
		if len(c.keys) != 2 || len(c.dealings) != 2 {
			rt.Fatalf("%d keys, %d dealings: %+v", len(c.keys), len(c.dealings), c.tried)
		}
	})
}

// Keys follow each other; the dealings of those that signed before are forgotten.
func TestKeysFollow(t *testing.T) {
	c := session(t, 1)
	for i := range 3 {
		m := c.making
		c.block([][]byte{c.dealing(0)})
		c.to(chain.Block(m.from) + 1)
		if len(c.keys) != i+2 || len(c.Dealings(m.from)) != 1 || len(c.dealings) > 2 {
			t.Fatalf("%d keys, %d dealings", len(c.keys), len(c.dealings))
		}
		if code := c.announce(c.soon()); code != local.CodeOK {
			t.Fatal(code.Err())
		}
	}
}

// No bytes that a block brings as a member's words panic the machine.
func FuzzSaid(f *testing.F) {
	c := session(f, 2)
	f.Add(c.dealing(0), byte(0))
	f.Add(append([]byte{SaidComplaint}, make([]byte, dkg.ComplaintLen)...), byte(13))
	f.Fuzz(func(t *testing.T, raw []byte, wait byte) {
		c := session(t, 2)
		c.block([][]byte{c.dealing(0)})
		c.to(c.Height() + chain.Block(wait)%26)
		err := c.CheckSaid(c.Height()+1, [][]byte{raw})
		dealt, guilty := len(c.dealings), fmt.Sprint(c.making)
		making := c.making != nil && c.Height()+1 < c.making.end()
		c.block([][]byte{raw})
		if changed := making && (len(c.dealings) != dealt || fmt.Sprint(c.making) != guilty); making && changed != (err == nil) {
			t.Fatalf("accepted: %v; changed: %v", err, changed)
		}
	})
}

// A dealer of a bad share is out by its victim's complaint, which others cannot make; without it the key still comes.
func TestComplaint(t *testing.T) {
	c := session(t, 4)
	m := c.making
	bad, err := dkgtest.Misdeal(m.session, c.who[3], 1, [32]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	c.block([][]byte{c.dealing(0), c.dealing(1), c.dealing(2), append([]byte{SaidDealing}, bad.Encode()...)})
	if len(c.dealings) != 4 {
		t.Fatalf("%d dealings", len(c.dealings))
	}
	c.to(m.start + m.phase)
	for i, who := range c.who {
		if got, err := m.session.Inspect(bad, who); err != nil || (got != nil) != (i == 1) {
			t.Fatalf("member %d: %v, %v", i, got, err)
		}
	}
	x, err := m.session.Inspect(bad, c.who[1])
	if err != nil {
		t.Fatal(err)
	}
	said := append([]byte{SaidComplaint}, x.Encode()...)
	about := slices.Clone(said)
	about[1+1+32+1] = 0 // another dealer
	h := c.Height() + 1
	for name, v := range map[string]struct {
		list [][]byte
		ok   bool
	}{"it": {[][]byte{said}, true}, "about another dealer": {[][]byte{about}, false}, "twice": {[][]byte{said, said}, false}} {
		if err := c.CheckSaid(h, v.list); (err == nil) != v.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.CheckSaid(m.start+m.phase, [][]byte{said}); !errors.Is(err, ErrSaid) {
		t.Errorf("before the dealings end: %v", err)
	}
	c.block([][]byte{about, said, said})
	if !slices.Equal(m.guilty, []byte{0, 0, 0, 2}) || !c.BeaconStatus().Making.Members[3].Guilty || c.BeaconStatus().Making.Members[0].Guilty {
		t.Errorf("guilty %v", m.guilty)
	}
	if err := c.CheckSaid(c.Height()+1, [][]byte{said}); !errors.Is(err, dkg.ErrGuilty) {
		t.Errorf("about who is out already: %v", err)
	}
	again, err := c.disk.restore(c.gen)
	if err != nil {
		t.Fatal(err)
	}
	same(t, c.State, again)
	c.to(m.end())
	if c.tried.how != madeKey || len(c.Dealings(m.from)) != 3 || len(c.dealings) != 3 {
		t.Errorf("outcome %+v, %d dealings", c.tried, len(c.dealings))
	}
	if c.keys[1].Check() != nil {
		t.Error("the key is not sound")
	}
	c.signers(m) // the key is that of the three
}

// Weights that are committed in any epoch before, during and after a making open, also those sealed to the announced key long
// before it signs: the announcement comes so early that no commitment is sealed to a key that will not sign its round.
func TestCommitsOpenAcrossKeys(t *testing.T) {
	c := meet(t, 4, func(g *Genesis) { g.Params.CommitReveal = true })
	tempo := c.run.Tempo
	c.block(nil)
	if code := c.announce(c.soon()); code != local.CodeOK {
		t.Fatal(code.Err())
	}
	m := c.making
	said := [][][]byte{{c.dealing(0), c.dealing(3)}, {c.dealing(1)}}
	sign := func(r chain.Round) Beacon { return Beacon{r, mustSign(t, r)} }
	var ahead, opened, sent int
	for c.Height() < chain.Block(m.from)+3*tempo {
		h := c.Height() + 1
		in := Block{Height: h}
		if len(said) > 0 {
			in.Said, said = said[0], said[1:]
		}
		if h%tempo == 0 {
			r := chain.Round(h - 1)
			if b := sign(r); r < m.from {
				in.Beacons = []Beacon{b}
			} else {
				in.Beacons = []Beacon{c.signers(m)(r)}
			}
		}
		if h%tempo == 7 {
			op := sealed(t, c.State, 0, 0, rowOf(2)...)
			in.Txs = [][]byte{tx(t, 0, nonceOf(c.State, 0), op)}
			if sent++; op.Round >= m.from && h < chain.Block(m.from) {
				ahead++
			}
		}
		res := c.Finalize(in)
		for _, code := range res.Codes {
			if code != local.CodeOK {
				t.Fatal(code.Err())
			}
		}
		for _, e := range res.Events {
			if e.Kind == local.EventDropped {
				t.Errorf("block %d: %s", h, e.Reason)
			}
			if e.Kind == local.EventWeights {
				opened++
			}
		}
	}
	if ahead == 0 || opened < sent-2 || opened < 5 {
		t.Errorf("%d of %d commitments opened, %d were sealed to the key before it signed", opened, sent, ahead)
	}
}
