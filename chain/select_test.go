package chain

import (
	"bytes"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func hotkey(i int) (h Hotkey) { h[0], h[31] = byte(i), 1; return h }

// drawView has up to 24 candidates in up to 2 shards and up to 5 validators; scores collide often.
func drawView(t *rapid.T) View {
	v := View{Window: 5}
	n := rapid.IntRange(0, 24).Draw(t, "candidates")
	for i := range n {
		v.Candidates = append(v.Candidates, Candidate{UID: UID(i), Hotkey: hotkey((i*37 + 11) % 251), Shard: Shard(rapid.IntRange(0, 2).Draw(t, "shard") / 2), Locator: []byte{byte(i)}})
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "validators") {
		b := Ballot{Validator: hotkey(200 + i), Stake: Amount(rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 3)).Draw(t, "stake"))}
		if rapid.IntRange(0, 4).Draw(t, "votes") > 0 {
			b.Vote = &Vote{Window: 5, Root: Hash{byte(rapid.IntRange(1, 2).Draw(t, "root"))}}
			for u := range n {
				if rapid.IntRange(0, 3).Draw(t, "scores") > 0 {
					b.Vote.Scores = append(b.Vote.Scores, Score{UID(u), uint16(rapid.IntRange(0, 4).Draw(t, "score"))})
				}
			}
		}
		v.Ballots = append(v.Ballots, b)
	}
	return v
}

// naiveSelect follows the numbered rule word by word, in unbounded integers and without sorting anything but once.
func naiveSelect(v View, gather int) Selection {
	sel := Selection{Window: v.Window}
	all := new(big.Int)
	roots := map[Hash]*big.Int{}
	for _, b := range v.Ballots {
		stake := new(big.Int).SetUint64(uint64(b.Stake))
		all.Add(all, stake)
		if b.Vote != nil {
			if roots[b.Vote.Root] == nil {
				roots[b.Vote.Root] = new(big.Int)
			}
			roots[b.Vote.Root].Add(roots[b.Vote.Root], stake)
		}
	}
	half := func(x *big.Int) bool { return new(big.Int).Lsh(x, 1).Cmp(all) > 0 }
	for r, x := range roots {
		if half(x) {
			sel.Root = r
		}
	}
	better := func(a, b Winner) bool {
		return a.Score > b.Score || a.Score == b.Score && bytes.Compare(a.Hotkey[:], b.Hotkey[:]) < 0
	}
	var eligible []Winner
	for _, c := range v.Candidates {
		if s, ok := naiveMedian(v.Ballots, c.UID, half); ok && s > 0 && c.Shard == 0 {
			eligible = append(eligible, Winner{c, s})
		}
	}
	for _, e := range eligible {
		ahead := 0
		for _, o := range eligible {
			if better(o, e) {
				ahead++
			}
		}
		if ahead < gather {
			sel.Winners = append(sel.Winners, e)
		}
	}
	slices.SortFunc(sel.Winners, func(a, b Winner) int { return bytes.Compare(a.Hotkey[:], b.Hotkey[:]) })
	return sel
}

// naiveMedian counts the stake at every score: the smallest score that at least half of the scoring stake is at or below.
func naiveMedian(ballots []Ballot, uid UID, half func(*big.Int) bool) (uint16, bool) {
	scored := new(big.Int)
	at := [5]*big.Int{new(big.Int), new(big.Int), new(big.Int), new(big.Int), new(big.Int)}
	for _, b := range ballots {
		if b.Vote == nil {
			continue
		}
		for _, s := range b.Vote.Scores {
			if s.UID == uid {
				stake := new(big.Int).SetUint64(uint64(b.Stake))
				scored.Add(scored, stake)
				at[s.Value].Add(at[s.Value], stake)
			}
		}
	}
	if !half(scored) {
		return 0, false
	}
	sum := new(big.Int)
	for s := range at {
		sum.Add(sum, at[s])
		if new(big.Int).Lsh(sum, 1).Cmp(scored) >= 0 {
			return uint16(s), true
		}
	}
	return 0, false
}

func TestSelectAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawView(t)
		gather := rapid.SampledFrom([]int{1, 3, 15}).Draw(t, "gather")
		got, want := Select(v, Rules{Gather: gather, Shards: 1}), naiveSelect(v, gather)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("selected %+v\nwant     %+v", got, want)
		}
	})
}

// Nothing depends on the order in which candidates, validators or scores are listed.
func TestSelectIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawView(t)
		want := Select(v, Rules{Gather: 3, Shards: 2})
		u := View{v.Window, rapid.Permutation(v.Candidates).Draw(t, "candidates"), rapid.Permutation(v.Ballots).Draw(t, "ballots")}
		for i, b := range u.Ballots {
			if b.Vote != nil {
				turned := *b.Vote
				turned.Scores = slices.Clone(turned.Scores)
				slices.Reverse(turned.Scores)
				u.Ballots[i].Vote = &turned
			}
		}
		if got := Select(u, Rules{Gather: 3, Shards: 2}); !reflect.DeepEqual(got, want) {
			t.Fatalf("in another order %+v, want %+v", got, want)
		}
	})
}

func uids(s Selection) (out []UID) {
	for _, w := range s.Winners {
		out = append(out, w.UID)
	}
	return out
}

// Two of twenty are bad; fifteen of the eighteen others win: the best by score, then by hotkey, listed by hotkey.
func TestSelectFifteenOfTwenty(t *testing.T) {
	v := View{Window: 9}
	big, small := &Vote{Window: 9, Root: Hash{1}}, &Vote{Window: 9, Root: Hash{2}}
	for i := range 20 {
		v.Candidates = append(v.Candidates, Candidate{UID: UID(i), Hotkey: hotkey(100 - i)}) // ascending hotkey = descending uid
		score := uint16(9000 + i/2)                                                          // pairs share a score
		if i == 18 {
			score = 0 // flipped its signs: scored by everybody, median 0
		}
		if i != 19 { // uid 19 is scored by the minority alone
			big.Scores = append(big.Scores, Score{UID(i), score})
		}
		small.Scores = append(small.Scores, Score{UID(i), 65535})
	}
	v.Ballots = []Ballot{{hotkey(1), 300, big}, {hotkey(2), 200, small}}
	got := Select(v, Rules{Gather: 15, Shards: 1})
	// 18 are eligible (0..17); the pairs (16,17) … (4,5) are fourteen, and of the pair (2,3) uid 3 has the lower hotkey
	var want []UID
	for i := 17; i >= 3; i-- {
		want = append(want, UID(i))
	}
	if !reflect.DeepEqual(uids(got), want) || got.Root != (Hash{1}) {
		t.Errorf("selected %v with root %s, want %v", uids(got), got.Root.Short(), want)
	}
}

func TestSelectRules(t *testing.T) {
	vote := func(s ...Score) *Vote { return &Vote{Window: 1, Root: Hash{7}, Scores: s} }
	c := []Candidate{{UID: 1, Hotkey: hotkey(9)}, {UID: 2, Hotkey: hotkey(3)}, {UID: 3, Hotkey: hotkey(5)}}
	most := ^Amount(0)
	for _, x := range []struct {
		name    string
		ballots []Ballot
		want    []UID
		root    Hash
	}{
		{"larger validator alone decides", []Ballot{{Stake: 3, Vote: vote(Score{1, 5}, Score{2, 9})}, {Stake: 2}}, []UID{2, 1}, Hash{7}},
		{"smaller validator alone decides nothing", []Ballot{{Stake: 3}, {Stake: 2, Vote: vote(Score{1, 5})}}, nil, Hash{}},
		{"median 0 is rejected", []Ballot{{Stake: 3, Vote: vote(Score{1, 0}, Score{3, 1})}, {Stake: 2, Vote: vote(Score{1, 9})}}, []UID{3}, Hash{7}},
		{"exactly half is not enough", []Ballot{{Stake: 2, Vote: vote(Score{1, 5})}, {Stake: 2}}, nil, Hash{}},
		{"of an even split the lower score counts", []Ballot{{Stake: 2, Vote: vote(Score{1, 5})}, {Stake: 2, Vote: vote(Score{1, 0})}}, nil, Hash{7}},
		{"gather limits, ties by hotkey", []Ballot{{Stake: 1, Vote: vote(Score{1, 5}, Score{2, 5}, Score{3, 5})}}, []UID{2, 3}, Hash{7}},
		{"stakes whose sum has 65 bits", []Ballot{{Stake: most, Vote: vote(Score{1, 5})}, {Stake: most}, {Stake: most, Vote: vote(Score{1, 6})}}, []UID{1}, Hash{7}},
		{"no stake, no votes", []Ballot{{Stake: 0, Vote: vote(Score{1, 5})}}, nil, Hash{}},
		{"no validators", nil, nil, Hash{}},
		{"a uid that is no candidate", []Ballot{{Stake: 1, Vote: vote(Score{8, 5})}}, nil, Hash{7}},
	} {
		got := Select(View{Window: 1, Candidates: c, Ballots: x.ballots}, Rules{Gather: 2, Shards: 1})
		if !reflect.DeepEqual(uids(got), x.want) || got.Root != x.root {
			t.Errorf("%s: %v with root %s, want %v with %s", x.name, uids(got), got.Root.Short(), x.want, x.root.Short())
		}
	}
}

// Each shard has its own winners; a shard that does not exist has none.
func TestSelectShards(t *testing.T) {
	v := View{Ballots: []Ballot{{Stake: 1, Vote: &Vote{}}}}
	for i := range 6 {
		v.Candidates = append(v.Candidates, Candidate{UID: UID(i), Hotkey: hotkey(9 - i), Shard: Shard(i % 3)})
		v.Ballots[0].Vote.Scores = append(v.Ballots[0].Vote.Scores, Score{UID(i), uint16(i + 1)})
	}
	if got := uids(Select(v, Rules{Gather: 15, Shards: 2})); !reflect.DeepEqual(got, []UID{3, 0, 4, 1}) {
		t.Errorf("selected %v", got)
	}
	if got := uids(Select(v, Rules{Gather: 1, Shards: 2})); !reflect.DeepEqual(got, []UID{3, 4}) {
		t.Errorf("one per shard: %v", got)
	}
}

// What NewView takes as a candidate and as a ballot.
func TestNewView(t *testing.T) {
	const w = 4
	vote, err := Vote{Window: w, Root: Hash{1}, Scores: []Score{{2, 7}}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	old, err := Vote{Window: w - 1, Scores: []Score{{2, 7}}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sub := func(w Window) []byte { return SubmissionBody{Window: w}.Encode() }
	snapshot := func(stake Amount, bodies map[int][]byte) *Snapshot {
		s := &Snapshot{}
		for i := range 7 {
			s.Neurons = append(s.Neurons, Neuron{UID: UID(i), Hotkey: hotkey(i), Permit: i < 3, Stake: stake})
			if b, ok := bodies[i]; ok {
				s.Records = append(s.Records, Published{Hotkey: hotkey(i), Record: Record{Locator: []byte{9}, Digest: Hash{byte(i)}, Body: b}})
			}
		}
		return s
	}
	deadline := snapshot(10, map[int][]byte{0: sub(w), 3: sub(w), 4: sub(w - 1), 5: vote, 6: []byte("noise")})
	scoreBy := snapshot(99, map[int][]byte{0: vote, 1: old, 2: sub(w), 3: sub(w + 1), 4: sub(w)})
	v := NewView(w, deadline, scoreBy)
	// only uid 3 submitted for w in time; its later record for w+1 changes nothing, and a validator is no candidate
	if len(v.Candidates) != 1 || v.Candidates[0].UID != 3 || v.Candidates[0].Digest != (Hash{3}) || fmt.Sprint(v.Candidates[0].Locator) != "[9]" {
		t.Errorf("candidates %+v", v.Candidates)
	}
	// all permits are in the denominator, with the stake of the deadline; only uid 0 voted for w
	if len(v.Ballots) != 3 || v.Ballots[0].Vote == nil || v.Ballots[1].Vote != nil || v.Ballots[2].Vote != nil || v.Ballots[0].Stake != 10 {
		t.Errorf("ballots %+v", v.Ballots)
	}
}
