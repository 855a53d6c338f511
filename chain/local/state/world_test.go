package state

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/dkg/dkgtest"
)

// world makes random blocks: operations of every kind by a few accounts, most of them possible, many not; beacons that come,
// come late or never; and members that make beacon keys, some of them badly. It counts what comes of it.
type world struct {
	testing.TB
	pick   func(n int) int // below n
	s      *State
	nonce  map[int]uint64 // of those who act in the block being made
	ops    int
	codes  map[string]map[local.Code]int // by kind of operation
	seen   map[string]int                // events and situations
	habit  habit
	sigs   map[chain.Round][]byte
	shared map[chain.Round]func(chain.Round) []byte // signs with the key of that first round
	exits  map[chain.Hotkey]chain.Block             // when the last withdrawal from a hotkey is paid out
}

// habit is what somebody does in several blocks in a row.
type habit struct {
	left, times int // blocks, and operations in each
	who         int
	op          func() local.Op
}

const (
	people = 12 // of a world; more than have money
	nodes  = 3  // that come and go as validators
)

func newWorld(t testing.TB, rules uint64, pick func(int) int, change func(*Genesis)) *world {
	t.Helper()
	g := genesis(t)
	g.Rules, g.Params.ImmunityPeriod, g.Params.UnstakeDelay, g.Params.MaxSeats = rules, 20, 7, 7
	for i := range 4 {
		g.Validators = append(g.Validators, Validator{Key: validatorOf(i), Beacon: circleMembers[i].Card(MemberContext(g.Network, validatorOf(i)))})
	}
	if change != nil {
		change(g)
	}
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	return &world{TB: t, pick: pick, s: s, nonce: map[int]uint64{}, codes: map[string]map[local.Code]int{}, seen: map[string]int{}, sigs: map[chain.Round][]byte{},
		shared: map[chain.Round]func(chain.Round) []byte{}, exits: map[chain.Hotkey]chain.Block{}}
}

func (w *world) amount() chain.Amount {
	switch w.pick(8) {
	case 0:
		return chain.Amount(w.pick(3))
	case 1:
		return ^chain.Amount(0) >> w.pick(64)
	case 2:
		return w.s.params.MinStake + chain.Amount(w.pick(3)) - 1
	}
	return chain.Amount(w.pick(1 << 31))
}

func (w *world) who() chain.Hotkey { return account0(w.pick(people)) }

// op is any operation of somebody.
func (w *world) op(who int) local.Op {
	switch w.pick(22) {
	case 0, 1:
		return local.Transfer{To: chain.Coldkey(w.who()), Amount: w.amount()}
	case 2, 3:
		o := local.Register{}
		if w.pick(4) == 0 {
			o.Limit = w.s.Price() - chain.Amount(w.pick(2))
		}
		if w.pick(3) == 0 {
			o.Coldkey = chain.Coldkey(w.who())
		}
		return o
	case 4, 5, 6:
		return local.AddStake{Hotkey: w.who(), Amount: w.amount()}
	case 7, 8, 9:
		o := local.RemoveStake{Hotkey: w.who(), Amount: w.amount()}
		if w.pick(4) == 0 {
			o.Amount = local.WholeStake
		}
		return o
	case 10:
		o := local.SetTake{Hotkey: account0(who), Take: uint16(w.pick(14000))}
		if w.pick(3) == 0 {
			o.Hotkey = w.who()
		}
		return o
	case 11, 12:
		return local.Publish{Record: chain.Record{Locator: make([]byte, w.pick(chain.MaxLocator+9)), Body: chain.SubmissionBody{Window: chain.Window(w.pick(4))}.Encode()}}
	case 13, 14:
		return w.parameter()
	case 15:
		return local.Upgrade{Version: min(w.s.meta.Rules+1, NewestRules), At: w.s.Height() + upgradeNotice + chain.Block(w.pick(5))}
	case 16:
		return w.membership()
	case 17:
		return local.MakeBeacon{At: w.s.earliest(w.s.Height()+1+2*w.s.phaseLen()) + chain.Round(w.pick(3)) - chain.Round(w.pick(4)/3)}
	}
	return local.SetWeights{VersionKey: uint64(w.pick(3)), Weights: w.row()}
}

// parameter changes what the economy depends on, within reason: else nothing would happen any more.
func (w *world) parameter() local.Op {
	list := []struct {
		name  string
		value int
	}{{"unstake_delay", 1 + w.pick(40)}, {"min_stake", 1 + w.pick(1<<20)}, {"fee", w.pick(2000)}, {"account_cost", w.pick(1 << 20)}, {"subnet_owner_cut", w.pick(65536)},
		{"max_take", w.pick(12000)}, {"min_burn", w.pick(1 << 20)}, {"burn_half_life", 1 + w.pick(50)}, {"block_emission", w.pick(1 << 31)}, {"immunity_period", w.pick(240)},
		{"take_rate_limit", w.pick(30)}, {"min_non_immune_uids", w.pick(4)}, {"max_seats", 5 + w.pick(6)}, {"nonsense", 1}, {"weights_rate_limit", w.pick(3)},
		{"weights_version", w.pick(2)}, {"min_allowed_weights", w.pick(5)}, {"max_weight_limit", []int{u16, 30000}[w.pick(2)]}, {"stake_threshold", []int{0, 0, 1 << 36}[w.pick(3)]},
		{"commit_reveal_weights_enabled", w.pick(2)}, {"commit_reveal_period", 1 + w.pick(3)}, {"commit_reveal_period", 1 + w.pick(3)}, {"max_validators", 1 + w.pick(5)}, {"yuma3", w.pick(2)},
		{"liquid_alpha_enabled", w.pick(2)}, {"bonds_penalty", w.pick(65536)}, {"kappa", w.pick(65536)}, {"activity_cutoff", 20 + w.pick(200)}}
	x := list[w.pick(len(list))]
	return local.SetParam{Name: x.name, Value: uint64(x.value)}
}

// membership changes the set of validators, or tries to.
func (w *world) membership() local.Op {
	i := w.pick(nodes)
	card := circleMembers[w.pick(len(circleMembers))].Card(MemberContext("test", nodeKey(i)))
	switch w.pick(6) {
	case 0, 1:
		return left(i)
	case 2:
		return joined(i, "test", nil)
	case 3:
		return joined(i, "elsewhere", card)
	}
	return joined(i, "test", card)
}

// row is a weight row, one in eight of a wrong form, some short.
func (w *world) row() (row []chain.Weight) {
	seats := chain.UID(len(w.s.seats))
	value := func(u chain.UID) chain.Weight { return chain.Weight{UID: u, Value: uint16(w.pick(65536))} }
	switch w.pick(24) {
	case 0:
		return []chain.Weight{value(0), value(seats)}
	case 1:
		return []chain.Weight{value(1), value(1)}
	case 2:
		return []chain.Weight{value(1), value(0)}
	case 3, 4:
		return []chain.Weight{value(chain.UID(w.pick(int(seats))))}
	}
	for u := range seats {
		if w.pick(2) == 0 {
			row = append(row, value(u))
		}
	}
	return row
}

// sealed is a committed row of somebody; some are damaged, some copies of another's. Who has no permit commits to nothing, which
// takes less time and is refused as well.
func (w *world) sealed(who int) local.Op {
	if uid, seated := w.s.byHotkey[account0(who)]; !seated || !w.s.seats[uid].Permit {
		return local.CommitWeights{Round: chain.Round(w.s.Height()), Version: local.TimelockVersion, Commit: make([]byte, 300)}
	}
	hotkey := who
	if w.pick(10) == 0 {
		hotkey = (who + 1) % people
	}
	round, _ := local.RevealRounds(w.s.Height()+1, w.s.run.Tempo, w.s.params.RevealPeriod)
	round += chain.Round(w.pick(5))
	o, err := local.Seal(account0(hotkey), w.row(), w.s.keyAt(round).Public[:], round, rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	switch w.pick(20) {
	case 0:
		o.Version = 3
	case 1:
		o.Round = chain.Round(w.pick(1000))
	case 2:
		o.Commit = o.Commit[:w.pick(len(o.Commit))]
	case 3:
		o.Commit[w.pick(len(o.Commit))] ^= 1
	}
	return o
}

// begin gives somebody a habit; the owner sets the parameters that it needs.
func (w *world) begin() (txs [][]byte) {
	owner := func(name string, v uint64) { txs = append(txs, w.act(0, local.SetParam{Name: name, Value: v})) }
	switch w.pick(3) {
	case 0: // withdraws in every block, until no more can wait
		owner("unstake_delay", 60)
		w.habit = habit{left: maxUnbonding + 3, times: 1, who: w.pick(3)}
		hot := account0(w.habit.who)
		w.habit.op = func() local.Op { return local.RemoveStake{Hotkey: hot, Amount: w.s.params.MinStake} }
	case 1: // commits more than may wait
		owner("weights_rate_limit", 0)
		owner("commit_reveal_weights_enabled", 1)
		w.habit = habit{left: 4, times: 4, who: w.pick(3)}
		w.habit.op = func() local.Op { return w.sealed(w.habit.who) }
	case 2: // sets weights in the open
		owner("commit_reveal_weights_enabled", 0)
		w.habit = habit{left: 6, times: 2, who: w.judge(0)}
		w.habit.op = func() local.Op { return local.SetWeights{VersionKey: 1, Weights: w.row()} }
	}
	return txs
}

// judge is most often somebody with a permit, else who is given.
func (w *world) judge(who int) int {
	for range w.pick(2 * people) {
		who = (who + 1) % people
		if uid, seated := w.s.byHotkey[account0(who)]; seated && w.s.seats[uid].Permit {
			return who
		}
	}
	return who
}

// act signs an operation for the block being made.
func (w *world) act(who int, op local.Op) []byte {
	if _, ok := w.nonce[who]; !ok {
		_, w.nonce[who] = w.s.Account(chain.Coldkey(account0(who)))
	}
	raw := tx(w, who, w.nonce[who], op)
	w.nonce[who]++
	return raw
}

// transactions are up to n, and what a habit demands besides.
func (w *world) transactions(n int) (txs [][]byte) {
	clear(w.nonce)
	if w.habit.left == 0 && w.pick(25) == 0 {
		txs = w.begin()
	}
	if w.habit.left > 0 {
		for range w.habit.times {
			txs = append(txs, w.act(w.habit.who, w.habit.op()))
		}
		w.habit.left--
	}
	for range w.pick(n + 1) {
		who := w.pick(people)
		op := w.op(who)
		if w.pick(8) == 0 {
			who = w.judge(who)
			op = w.sealed(who)
		}
		switch op.(type) {
		case local.SetParam, local.Upgrade, local.SetValidator, local.MakeBeacon:
			if w.pick(6) > 0 {
				who = 0 // the owner
			}
		case local.SetWeights:
			who = w.judge(who)
		}
		if w.pick(40) == 0 {
			w.nonce[who] += uint64(w.pick(3)) // wrong, unless it is 0
		}
		txs = append(txs, w.act(who, op))
	}
	if w.pick(20) == 0 {
		txs = append(txs, w.forged())
	}
	w.ops += len(txs)
	return txs
}

// forged is a transaction that nobody signed for this network.
func (w *world) forged() []byte {
	who := w.pick(people)
	raw := tx(w, who, nonceOf(w.s, who), local.Register{})
	switch w.pick(3) {
	case 0:
		return raw[:w.pick(len(raw))]
	case 1:
		raw[len(raw)-1] = 9
		return raw
	}
	abroad, err := local.SignTx("elsewhere", 0, local.Register{}, local.Signer{Key: key(who)})
	if err != nil {
		w.Fatal(err)
	}
	return abroad.Encode()
}

// block makes the next block of up to n operations. What it is made of is the world's own copy.
func (w *world) block(n int) Block {
	in := Block{Height: w.s.Height() + 1, Txs: w.transactions(n)}
	in.Said = w.said(in.Height)
	waited := map[chain.Round]bool{}
	for _, list := range w.s.commits { // any order: a set
		for _, c := range list {
			waited[c.round] = true
		}
	}
	for _, r := range w.s.Missing(in.Height) { // a pairing costs more than a block
		if len(in.Beacons) < 4 && (waited[r] && w.pick(6) > 0 || w.pick(40) == 0) {
			if sig := w.signature(r); sig != nil {
				in.Beacons = append(in.Beacons, Beacon{r, sig})
			}
		}
	}
	return in
}

// signature is that of a round, by whichever key signs it; nil if its members cannot.
func (w *world) signature(r chain.Round) []byte {
	if w.sigs[r] == nil {
		if sign := w.shared[w.s.keyAt(r).From]; sign != nil {
			w.sigs[r] = sign(r)
		} else {
			w.sigs[r] = mustSign(w, r)
		}
	}
	return w.sigs[r]
}

// said is what the members say in the block at a height for the key being made: dealings, one in four of them bad, the complaints
// about those, and what does not count: a second dealing, a late one, a complaint too early, the same again but damaged.
func (w *world) said(height chain.Block) (out [][]byte) {
	m := w.s.making
	if m == nil {
		return nil
	}
	for i, x := range m.members {
		raw := w.s.dealings[dealingID{m.from, byte(i)}]
		if m.deals(height) && raw == nil && w.pick(8) == 0 || w.pick(150) == 0 {
			out = append(out, append([]byte{SaidDealing}, w.deal(m, i, memberOf(x.key))...))
		}
		if raw != nil && (m.complains(height) && m.guilty[i] == 0 && w.pick(4) == 0 || w.pick(150) == 0) {
			if c := w.complaint(m, raw); c != nil {
				out = append(out, append([]byte{SaidComplaint}, c...))
			}
		}
	}
	if n := len(out); n > 0 && w.pick(4) == 0 {
		raw := bytes.Clone(out[n-1])
		raw[1+w.pick(len(raw)-1)] ^= byte(1 + w.pick(255))
		out = slices.Insert(out, w.pick(n+1), raw)
	}
	return out
}

func memberOf(k beacon.MemberKey) *dkg.Member {
	return circleMembers[slices.IndexFunc(circleMembers, func(m *dkg.Member) bool { return m.Public() == k })]
}

func (w *world) deal(m *making, i int, me *dkg.Member) []byte {
	seed := [32]byte{byte(i), byte(w.s.Height()), byte(w.s.Height() >> 8)}
	d, err := dkg.Deal(m.session, me, mathrand.NewChaCha8(seed))
	if n := len(m.members); n > 1 && w.pick(4) == 0 {
		d, err = dkgtest.Misdeal(m.session, me, (i+1)%n, seed)
	}
	if err != nil {
		w.Fatal(err)
	}
	return d.Encode()
}

// complaint is that of a dealing's victim; nil if there is none.
func (w *world) complaint(m *making, raw []byte) []byte {
	d, err := dkg.ParseDealing(raw)
	for _, x := range m.members {
		c, bad := m.session.Inspect(d, memberOf(x.key))
		if err = errors.Join(err, bad); err != nil {
			w.Fatal(err)
		}
		if c != nil {
			return c.Encode()
		}
	}
	return nil
}

// learn finds out how to sign with a key that was made just now.
func (w *world) learn(m *making) {
	k := w.s.keys[len(w.s.keys)-1]
	var list []*dkg.Dealing
	for _, raw := range w.s.Dealings(m.from) {
		d, err := dkg.ParseDealing(raw)
		if err != nil {
			w.Fatal(err)
		}
		list = append(list, d)
	}
	made, err := dkg.Finish(m.session, list, nil)
	if err != nil || made.Key.Public != k.Public {
		w.Fatalf("another key: %v", err)
	}
	var shares []beacon.Share
	for _, x := range m.members {
		if share, err := made.Share(memberOf(x.key)); err == nil { // else its share was bad, and no block took its complaint
			shares = append(shares, share)
		}
	}
	w.shared[k.From] = func(r chain.Round) []byte {
		if len(shares) < k.Threshold {
			return nil
		}
		var parts []beacon.Partial
		for _, share := range shares[:k.Threshold] {
			p, err := beacon.PartialSign(share, r)
			if err != nil {
				w.Fatal(err)
			}
			parts = append(parts, p)
		}
		sig, _, err := k.Combine(r, parts)
		if err != nil {
			w.Fatal(err)
		}
		return sig
	}
}

// run executes a block, checks what must hold after each, and counts.
func (w *world) run(in Block) Result {
	w.Helper()
	s := w.s
	before, keys, making := s.Supply(), len(s.keys), s.making
	was := w.situation()
	r := lent(in, s.Finalize)
	audit(w, s)
	after := s.Supply()
	if after.Emitted < before.Emitted || after.Emitted-before.Emitted > s.params.BlockEmission || after.Burned < before.Burned || after.Genesis != before.Genesis {
		w.Fatalf("block %d: %+v after %+v", s.Height(), after, before)
	}
	epoch := s.Height()%s.run.Tempo == 0
	if epoch && after.Pending != 0 {
		w.Fatalf("block %d: an epoch left %s", s.Height(), after.Pending)
	}
	for i, x := range s.seats { // of the epoch: stake may be removed until the next one
		if epoch && x.Stake == 0 && x.Permit && i != s.ownerUID() {
			w.Fatalf("block %d: uid %d has a permit without stake", s.Height(), x.UID)
		}
	}
	if len(s.keys) > keys {
		w.learn(making)
	}
	if !slices.Equal(s.late, w.late()) {
		w.Fatalf("block %d: late rounds %v, want %v", s.Height(), s.late, w.late())
	}
	if making != nil && slices.ContainsFunc(making.guilty, func(g byte) bool { return g > 0 }) {
		w.seen["said: a dealer is out"]++
	}
	w.count(in, r, was)
	return r
}

// late are the rounds that the next block may bring, found by looking at each.
func (w *world) late() (out []chain.Round) {
	next := w.s.Height() + 1
	for r := range chain.Round(next) {
		if w.s.wants(next, r) {
			out = append(out, r)
		}
	}
	return out
}

// situation is what a block may change, for who counts.
type situation struct {
	waiting map[chain.Hotkey]bool // has commitments
	immune  map[chain.Hotkey]bool // as of the block to come
	takes   map[chain.Hotkey]uint16
}

func (w *world) situation() situation {
	x := situation{map[chain.Hotkey]bool{}, map[chain.Hotkey]bool{}, map[chain.Hotkey]uint16{}}
	for _, seat := range w.s.seats {
		x.waiting[seat.Hotkey] = len(w.s.commits[seat.Hotkey]) > 0
		x.immune[seat.Hotkey] = w.s.Height()+1-seat.RegisteredAt < w.s.params.ImmunityPeriod
		x.takes[seat.Hotkey] = w.s.hotkeys[seat.Hotkey].Take
	}
	return x
}

func kindOf(op local.Op) string { return fmt.Sprintf("%T", op)[len("local."):] }

func (w *world) count(in Block, r Result, was situation) {
	for i, c := range r.Codes {
		kind := "none"
		if x, err := local.ParseTx(in.Txs[i]); err == nil {
			kind = kindOf(x.Op)
		}
		if w.codes[kind] == nil {
			w.codes[kind] = map[local.Code]int{}
		}
		w.codes[kind][c]++
	}
	for _, e := range r.Events {
		what := e.Kind
		switch e.Kind {
		case local.EventParam:
		case local.EventUnstaked:
			w.exits[e.Hotkey] = e.At
		case local.EventReplaced:
			what = map[bool]string{true: "replaced: immune", false: "replaced: settled"}[was.immune[e.Hotkey]]
			if was.waiting[e.Hotkey] {
				w.seen["replaced: commitments waited"]++
			}
			if w.exits[e.Hotkey] > e.Block {
				w.seen["replaced: a withdrawal waited"]++
			}
			if w.s.hotkeys[e.Hotkey].Stake > 0 {
				w.seen["replaced: had stake"]++
			}
		default:
			if e.Reason != "" {
				what += ": " + e.Reason
			}
		}
		w.seen[what]++
	}
	for h, take := range was.takes {
		switch now := w.s.hotkeys[h].Take; {
		case now > take:
			w.seen["take: raised"]++
		case now < take:
			w.seen["take: lowered"]++
		}
	}
	if n := len(w.s.keys); n > 1 && w.s.keyAt(chain.Round(w.s.Height())).From > 0 && len(in.Beacons) > 0 {
		w.seen["beacon: a shared key signs"]++
	}
}

// lent is a copy of a block that its maker takes back.
func lent(in Block, run func(Block) Result) Result {
	out := Block{Height: in.Height}
	for _, raw := range in.Txs {
		out.Txs = append(out.Txs, bytes.Clone(raw))
	}
	for _, raw := range in.Said {
		out.Said = append(out.Said, bytes.Clone(raw))
	}
	for _, b := range in.Beacons {
		out.Beacons = append(out.Beacons, Beacon{b.Round, bytes.Clone(b.Signature)})
	}
	r := run(out)
	for _, raw := range slices.Concat(out.Txs, out.Said) {
		clear(raw)
	}
	for _, b := range out.Beacons {
		clear(b.Signature)
	}
	return r
}
