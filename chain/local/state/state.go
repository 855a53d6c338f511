package state

import (
	"cmp"
	"maps"
	"slices"
	"sort"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/timelock"
	"sn3/chain/yuma"
)

// How far ahead of the account a nonce may be to enter the mempool: so many transactions of one account may wait. A window's
// record, weights and one of each again are all that a seat has to send for nothing.
const (
	nonceWindow = 16
	freeWindow  = 4
)

// account is a balance and the next nonce.
type account struct {
	Balance chain.Amount
	Nonce   uint64
}

// seat is a neuron with what only the machine needs. Its balance is filled in when a snapshot is made.
type seat struct {
	chain.Neuron
	Weights, Bonds []yuma.Entry
}

// meta is everything small.
type meta struct {
	Height  chain.Block
	Money   money
	Cost    cost       // of a registration
	Rules   uint64     // version of the rules that this block was executed by
	Next    upgrade    // announced; zero: none
	AppHash chain.Hash // the tree's root, stored on its own
}

// upgrade is a change of the rules.
type upgrade struct {
	Rules uint64
	At    chain.Block
}

// KV is one entry of the state; a nil Value deletes the key.
type KV struct{ Key, Value []byte }

// Block is the input of one height.
type Block struct {
	Height  chain.Block
	Beacons []Beacon // of rounds below Height, at most MaxBeacons
	Said    [][]byte // dealings and complaints of a beacon key being made, at most MaxSaid
	Txs     [][]byte
}

// Result is the output: one code per transaction and whether it used up its nonce, which is once at most in all blocks, the
// hash of the state, and what changed, sorted by key.
type Result struct {
	Codes      []local.Code
	Spent      []bool
	AppHash    chain.Hash
	Dirty      []KV
	Events     []local.Event
	Validators []ValidatorUpdate
}

// State is the machine. Not safe for concurrent use.
type State struct {
	gen     *Genesis
	genHash chain.Hash
	run     *chain.Run
	sched   chain.Schedule
	senders *local.Senders // no part of the state: what it answers follows from the transaction

	meta       meta
	params     Params
	tree       tree
	accounts   map[chain.Coldkey]account
	journal    journal
	hotkeys    map[chain.Hotkey]hotkey // that ever registered
	shares     map[chain.Coldkey]map[chain.Hotkey]uint64
	stakes     int                                     // entries in shares
	stakers    map[chain.Hotkey]map[chain.Coldkey]bool // who has shares of a hotkey
	unbonding  map[chain.Coldkey][]due                 // ascending
	paydays    map[chain.Block][]chain.Coldkey         // who has something in unbonding for that block, in any order
	seats      []seat                                  // index = uid
	byHotkey   map[chain.Hotkey]int
	records    map[chain.Hotkey]chain.Published
	commits    map[chain.Hotkey][]commit // weights that nobody can read yet, the oldest first
	snapshots  map[chain.Block]*chain.Snapshot
	selections map[chain.Window]chain.Selection
	beacons    map[chain.Round][]byte
	late       []chain.Round // that the next block may bring, ascending
	keys       beacon.Keys   // the genesis' first
	making     *making       // of the next one
	tried      outcome       // of the last making
	dealings   map[dealingID][]byte

	validators   map[[32]byte]validator
	validatorsAt chain.Block       // when the set changed last; 0: never
	updates      []ValidatorUpdate // of this block

	dirty  map[string]bool
	events []local.Event
	latest *chain.Snapshot   // of meta.Height, made on demand
	recent []*chain.Snapshot // of the newest blocks
}

// New makes the state before the first block.
func New(g *Genesis) (*State, error) {
	s, err := empty(g)
	if err != nil {
		return nil, err
	}
	for _, a := range g.Accounts {
		s.credit(a.Coldkey, a.Balance)
	}
	for i, x := range g.Seats {
		rec := s.introduce(x.Hotkey, x.Coldkey, 0)
		s.sit(i, x.Hotkey, 0)
		s.seats[i].Permit = x.Permit
		if x.Stake > 0 {
			s.mint(x.Hotkey, rec.Owner, x.Stake, uint64(x.Stake))
		}
	}
	s.meta.Money.Genesis = s.meta.Money.Balances + s.meta.Money.Staked
	s.meta.Cost.Last = s.params.Burn
	s.journal = newJournal() // there is nothing before genesis
	s.found(g.Validators)
	for _, k := range []string{genesisKey, metaKey, paramsKey, makingKey} {
		s.touch(k)
	}
	s.findLate()
	s.hash() // the keys stay dirty: the first block's entries are the whole state
	return s, nil
}

func empty(g *Genesis) (*State, error) {
	if err := timelock.Usable(); err != nil {
		return nil, err
	}
	run, err := g.Validate()
	if err != nil {
		return nil, err
	}
	sched, err := chain.NewSchedule(run.Schedule)
	if err != nil {
		return nil, err
	}
	hash, err := g.Hash()
	if err != nil {
		return nil, err
	}
	first, err := g.key()
	if err != nil {
		return nil, err
	}
	return &State{gen: g, genHash: hash, run: run, sched: sched, senders: new(local.Senders), meta: meta{Rules: g.Rules}, params: g.Params.of(g.Rules), journal: newJournal(), accounts: map[chain.Coldkey]account{}, byHotkey: map[chain.Hotkey]int{},
		hotkeys: map[chain.Hotkey]hotkey{}, shares: map[chain.Coldkey]map[chain.Hotkey]uint64{}, stakers: map[chain.Hotkey]map[chain.Coldkey]bool{}, unbonding: map[chain.Coldkey][]due{}, paydays: map[chain.Block][]chain.Coldkey{},
		records: map[chain.Hotkey]chain.Published{}, commits: map[chain.Hotkey][]commit{}, snapshots: map[chain.Block]*chain.Snapshot{},
		selections: map[chain.Window]chain.Selection{}, beacons: map[chain.Round][]byte{}, keys: beacon.Keys{first}, dealings: map[dealingID][]byte{}, validators: map[[32]byte]validator{}, dirty: map[string]bool{}}, nil
}

// Height is the last finalized block.
func (s *State) Height() chain.Block { return s.meta.Height }

// AppHash is the hash of the state at Height.
func (s *State) AppHash() chain.Hash { return s.meta.AppHash }

// Run is the run descriptor of this chain.
func (s *State) Run() *chain.Run { return s.run }

// Genesis is what the chain started from; do not modify.
func (s *State) Genesis() *Genesis { return s.gen }

// GenesisHash is Genesis.Hash.
func (s *State) GenesisHash() chain.Hash { return s.genHash }

// Senders is the machine's memory of who signed what; unlike the machine it is safe for concurrent use.
func (s *State) Senders() *local.Senders { return s.senders }

// ShareSenders makes the machine use what another one has found out.
func (s *State) ShareSenders(x *local.Senders) { s.senders = x }

// Params are the parameters as they are now.
func (s *State) Params() Params { return s.params }

// CheckTx says whether a transaction may enter the mempool.
func (s *State) CheckTx(raw []byte) local.Code {
	tx, from, code := s.parse(raw)
	if code != local.CodeOK {
		return code
	}
	acc := s.accounts[chain.Coldkey(from)]
	ahead := tx.Nonce - acc.Nonce
	if tx.Nonce < acc.Nonce || ahead >= nonceWindow || free(tx.Op) && ahead >= freeWindow {
		return local.CodeNonce
	}
	fee, code := s.fee(tx.Op, from)
	if code != local.CodeOK {
		return code
	}
	if fee > 0 && uint64(acc.Balance/fee) <= ahead { // those that wait before it cost as much
		return local.CodeFunds
	}
	if code := s.allowed(tx.Op, from, acc.Balance-fee); code != local.CodeRateLimited { // a limit may have passed by the time of inclusion
		return code
	}
	return local.CodeOK
}

func (s *State) parse(raw []byte) (*local.Tx, chain.Hotkey, local.Code) {
	tx, err := local.ParseTx(raw)
	if err != nil {
		return nil, chain.Hotkey{}, local.CodeMalformed
	}
	if tx.Network != s.gen.Network {
		return nil, chain.Hotkey{}, local.CodeNetwork
	}
	from, err := s.senders.Of(tx)
	if err != nil {
		return nil, chain.Hotkey{}, local.CodeSignature
	}
	return tx, from, local.CodeOK
}

// Finalize executes one block:
//
//  0. the rules' new version, if this is its block
//  1. the beacons of the block before and of late rounds; what is said for the next beacon key, which may be done
//  2. the withdrawals that are due, then the transactions, in order
//  3. the block's emission; the commitments whose beacon is known are revealed, and at every tempo the epoch runs
//  4. the selection of the window whose Select boundary this is
//  5. a snapshot if this is a phase boundary; what is older than KeepWindows goes
//  6. the hash of everything
func (s *State) Finalize(in Block) Result {
	s.meta.Height = in.Height
	s.latest = nil
	s.upgrade()         // 0
	s.enter(in.Beacons) // 1
	s.listen(in.Said)
	s.finishBeacon()
	res := Result{Codes: make([]local.Code, len(in.Txs)), Spent: make([]bool, len(in.Txs))}
	s.payWithdrawals() // 2
	for i, raw := range in.Txs {
		res.Codes[i], res.Spent[i] = s.execute(raw)
	}
	s.accrue() // 3
	s.reveal()
	if in.Height%s.run.Tempo == 0 {
		s.epoch()
	}
	if w, ok := s.sched.Selected(in.Height); ok && s.sched.At(w, chain.PhaseSelect) == in.Height { // 4
		s.choose(w)
	}
	s.snap() // 5
	s.prune()
	s.over(in.Height)
	s.recent = append(s.recent[max(0, len(s.recent)-RecentBlocks+1):], s.now())
	s.closeJournal()
	res.Dirty = s.flush() // 6
	res.AppHash = s.meta.AppHash
	res.Events, s.events = s.events, nil
	res.Validators, s.updates = s.updates, nil
	return res
}

// emit tells whoever watches what happened in this block.
func (s *State) emit(e local.Event) {
	e.Block = s.meta.Height
	s.events = append(s.events, e)
}

func (s *State) choose(w chain.Window) {
	deadline, scoreBy := s.snapshots[s.sched.At(w, chain.PhaseDeadline)], s.snapshots[s.sched.At(w, chain.PhaseScoreBy)]
	sel := chain.Selection{Window: w}
	if deadline != nil && scoreBy != nil {
		v := chain.NewView(w, deadline, scoreBy)
		sel = chain.Select(v, s.run.Rules)
		s.tell(v, sel)
	}
	s.selections[w] = sel
	s.touch(windowKey(w))
}

// tell says of every submission how it was scored.
func (s *State) tell(v chain.View, sel chain.Selection) {
	for _, c := range v.Candidates {
		e := local.Event{Kind: local.EventScored, Hotkey: c.Hotkey, UID: c.UID, Window: v.Window, Reason: local.Unscored}
		if score, ok := v.Score(c.UID); ok {
			e.Score, e.Reason = score, local.NotSelected
			if score == 0 {
				e.Reason = local.Rejected
			}
		}
		if slices.ContainsFunc(sel.Winners, func(w chain.Winner) bool { return w.Hotkey == c.Hotkey }) {
			e.Reason = local.Selected
		}
		s.emit(e)
	}
}

// snap keeps the state as of a phase boundary.
func (s *State) snap() {
	w, ph := s.sched.Locate(s.meta.Height)
	if s.sched.At(w, ph) != s.meta.Height {
		return
	}
	s.snapshots[s.meta.Height] = s.now()
	s.touch(snapshotKey(s.meta.Height))
}

// now is the metagraph and the records as they are.
func (s *State) now() *chain.Snapshot {
	if s.latest != nil {
		return s.latest
	}
	out := &chain.Snapshot{Block: s.meta.Height}
	for _, x := range s.seats {
		n := x.Neuron
		n.Balance = s.accounts[n.Coldkey].Balance
		out.Neurons = append(out.Neurons, n)
	}
	for _, p := range s.records { // any order: sorted below
		out.Records = append(out.Records, p)
	}
	sort.Slice(out.Records, func(i, j int) bool { return less(out.Records[i].Hotkey[:], out.Records[j].Hotkey[:]) })
	s.latest = out
	return out
}

func (s *State) prune() {
	if s.meta.Height <= s.span() {
		return
	}
	limit := s.meta.Height - s.span()
	gone := limit - 1 // what is older went in the blocks before
	if _, kept := s.snapshots[gone]; kept {
		delete(s.snapshots, gone)
		s.touch(snapshotKey(gone))
	}
	if r := chain.Round(gone); s.beacons[r] != nil {
		delete(s.beacons, r)
		s.touch(roundKey(r))
	}
	s.pruneHistory(limit)
	outcomes := s.outcomes()
	for w, x := range s.selections { // any order: what is deleted is a set
		old := uneventful(x) || len(outcomes) > s.params.KeepWindows && w < outcomes[len(outcomes)-s.params.KeepWindows]
		if old && s.sched.At(w, chain.PhaseSelect) < limit {
			delete(s.selections, w)
			s.touch(windowKey(w))
		}
	}
}

// outcomes are the kept windows whose selection is not empty, ascending. The newest KeepWindows of them stay however long
// ago they were, so that a network without validators for a long time can go on from where it was.
func (s *State) outcomes() []chain.Window {
	var out []chain.Window
	for w, x := range s.selections { // any order: sorted below
		if !uneventful(x) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

// uneventful says whether a window had neither winners nor a majority's root: nobody needs to be told what happened in it.
func uneventful(x chain.Selection) bool { return len(x.Winners) == 0 && x.Root == chain.Hash{} }

// flush turns what was touched into sorted entries and brings the tree up to date.
func (s *State) flush() []KV {
	s.touch(metaKey)
	out := s.hash()
	s.dirty = map[string]bool{} // not cleared: a map never shrinks, and clearing one takes its largest size
	at, _ := slices.BinarySearchFunc(out, appHashKey, func(e KV, key string) int { return cmp.Compare(string(e.Key), key) })
	return slices.Insert(out, at, KV{[]byte(appHashKey), slices.Clone(s.meta.AppHash[:])})
}

// hash enters what was touched into the tree, whose root is the application hash, and gives the entries in order.
func (s *State) hash() []KV {
	out := make([]KV, 0, len(s.dirty)+1)
	for _, k := range slices.Sorted(maps.Keys(s.dirty)) {
		v := s.value(k)
		s.tree.set(k, v)
		out = append(out, KV{[]byte(k), v})
	}
	s.meta.AppHash = s.tree.sum()
	return out
}

func less(a, b []byte) bool { return string(a) < string(b) }
