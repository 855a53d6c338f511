package quorum

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

var epoch = time.Unix(1_000_000, 0)

// bookOf is a book of nodes a, b, c, …
func bookOf(n int) *book {
	b := &book{}
	for i := range n {
		b.peers = append(b.peers, peer{name: string(rune('a' + i))})
	}
	return b
}

// saying makes words of a line: a value for each node, "-" for silence, "<9" for a node that is late at block 9, "!9" for one
// whose newest block is old as well.
func saying(line ...string) (out []word) {
	for i, s := range line {
		w := word{from: i, kind: said, value: s}
		switch s[0] {
		case '-':
			w = word{from: i}
		case '<', '!':
			h, _ := strconv.Atoi(s[1:])
			w = word{from: i, kind: late, height: chain.Block(h), old: s[0] == '!'}
		}
		out = append(out, w)
	}
	return out
}

// What nodes say of one block, and the verdict.
func TestWeigh(t *testing.T) {
	for _, x := range []struct {
		line  []string
		want  outcome
		aside string
	}{
		{[]string{"x", "x", "x"}, accepted, ""},
		{[]string{"x", "x", "y"}, accepted, "c"},
		{[]string{"y", "x", "x"}, accepted, "a"},
		{[]string{"x", "-", "-"}, accepted, ""},
		{[]string{"-", "-", "-"}, nothing, ""},
		{[]string{"x", "y", "-"}, disputed, ""},
		{[]string{"x", "y", "z"}, disputed, ""},
		{[]string{"x", "y"}, disputed, ""},
		{[]string{"x", "<99"}, accepted, ""},
		{[]string{"x", "<99", "x"}, accepted, ""},
		{[]string{"x", "<99", "<99"}, waiting, ""},
		{[]string{"x", "!70", "!70"}, accepted, ""}, // catching up: no say
		{[]string{"x", "!90", "!90"}, waiting, ""},
		{[]string{"x", "x", "y", "y"}, disputed, ""},
		{[]string{"x", "x", "x", "y"}, accepted, "d"},
		{[]string{"x", "x", "y", "-", "-"}, disputed, ""}, // not more than half of all
		{[]string{"x", "x", "x", "y", "z"}, accepted, "de"},
	} {
		b := bookOf(len(x.line))
		got, value := b.weigh(headOf(100), saying(x.line...), epoch)
		aside := ""
		for _, p := range b.peers {
			if p.aside {
				aside += p.name
			}
		}
		if got != x.want || aside != x.aside || (value == "x") != (got == accepted) || (b.err() != nil) != (got == disputed) || (b.checked == 100) != (got == accepted) {
			t.Errorf("%v: %d %q, aside %q, %v", x.line, got, value, aside, b.err())
		}
		if x.aside != "" && b.peers[b.followed].aside {
			t.Errorf("%v: a liar is followed", x.line)
		}
	}
}

// Who is set aside has no voice, neither has who is stale and late; and it is not asked for anything until its time is over.
func TestVoices(t *testing.T) {
	b := bookOf(3)
	b.setAside(2, epoch, "it lied")
	if got, _ := b.weigh(headOf(100), saying("x", "y", "y"), epoch); got != disputed {
		t.Errorf("a liar has a voice: %d", got)
	}
	if o, p, e := b.order(epoch), b.panel(epoch, false), b.panel(epoch, true); len(o) != 2 || len(p) != 2 || len(e) != 2 {
		t.Errorf("order %v, panel %v, everyone %v", o, p, e)
	}
	if p := b.panel(epoch.Add(firstAside), false); len(p) != 3 {
		t.Errorf("panel %v after its time", p)
	}
	b = bookOf(3)
	b.peers[1].stale, b.peers[2].stale = true, true
	if got, _ := b.weigh(headOf(100), saying("x", "<99", "<99"), epoch); got != accepted {
		t.Errorf("who is stale has a say: %d", got)
	}
}

// Standing still makes stale after a while, being a little late does not.
func TestStuck(t *testing.T) {
	b := bookOf(3)
	for s := range 12 {
		now := epoch.Add(time.Duration(s) * time.Second)
		b.weigh(headOf(chain.Block(100+s)), saying("x", "x", "<95"), now)
		if got, want := b.peers[2].stale, now.Sub(epoch) > stuck; got != want {
			t.Errorf("stale %v after %d s", got, s)
		}
	}
}

func TestNextBlock(t *testing.T) {
	b := &book{}
	for _, x := range [][3]chain.Block{{0, 0, 0}, {0, 1, 1}, {0, 2, 2}, {0, 3, 1}, {0, 100, 98}, {97, 100, 98}, {98, 100, 100}, {99, 100, 100}, {100, 100, 0}, {200, 100, 0}} {
		b.checked = x[0]
		if got := b.next(x[1]); got != x[2] {
			t.Errorf("checked %d, newest %d: next %d, want %d", x[0], x[1], got, x[2])
		}
	}
}

func TestAscending(t *testing.T) {
	var in []chain.Head
	for _, b := range []chain.Block{1, 2, 3, 2, 5, 5, 4} {
		in = append(in, chain.Head{Block: b})
	}
	if got := ascending(in, 2); len(got) != 2 || got[0].Block != 3 || got[1].Block != 5 {
		t.Errorf("%v", got)
	}
}

// An answer to another question is none.
func TestValue(t *testing.T) {
	for _, x := range []struct {
		s   subject
		raw any
		ok  bool
	}{
		{headOf(7), local.HeadInfo{Block: 7}, true}, {headOf(7), local.HeadInfo{Block: 8}, false}, {headOf(7), []int{1}, false},
		{subject{local.QuerySnapshot, "7"}, chain.Snapshot{Block: 7}, true}, {subject{local.QuerySnapshot, "7"}, chain.Snapshot{Block: 8}, false},
		{subject{local.QuerySnapshot, "7"}, nil, false}, {subject{local.QuerySelection, "7"}, chain.Selection{Window: 7}, true},
		{subject{local.QuerySelection, "7"}, chain.Selection{}, false}, {subject{local.QueryTx, "x"}, local.TxInfo{Block: 1}, true},
		{subject{local.QueryTx, "x"}, 5, false}, {subject{local.QueryRun, ""}, []byte{1}, true}, {subject{local.QueryRun, ""}, []byte{}, false},
		{subject{local.QueryStatus, ""}, local.Status{}, true}, {subject{local.QueryStatus, ""}, "x", false}, {subject{local.QueryGenesis, ""}, 5, true},
	} {
		raw, err := json.Marshal(x.raw)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := x.s.value(raw); (err == nil) != x.ok || x.ok && len(v) != 64 || !x.ok && !errors.Is(err, errAnswer) {
			t.Errorf("%s %s: %q, %v", x.s, raw, v, err)
		}
	}
	a, _ := subject{local.QuerySelection, "7"}.value(json.RawMessage(`{"window":7,"root":"` + chain.Hash{}.String() + `","winners":null,"more":1}`))
	b, _ := subject{local.QuerySelection, "7"}.value(json.RawMessage(`{"window":7,  "winners":null}`))
	if a != b || a == "" {
		t.Error("a newer release that answers with more differs")
	}
}

// A node that read its state from disk may write an empty list where another writes none: that is no contradiction.
func TestEmptyLists(t *testing.T) {
	none, empty := chain.Snapshot{Block: 7}, chain.Snapshot{Block: 7, Neurons: []chain.Neuron{}, Records: []chain.Published{}}
	a, b := chain.Snapshot{Block: 7, Records: []chain.Published{{}}}, chain.Snapshot{Block: 7, Records: []chain.Published{{Record: chain.Record{Locator: []byte{}, Body: []byte{}}}}}
	c, d := chain.Selection{Window: 7}, chain.Selection{Window: 7, Winners: []chain.Winner{}}
	e, f := chain.Selection{Window: 7, Winners: []chain.Winner{{}}}, chain.Selection{Window: 7, Winners: []chain.Winner{{Candidate: chain.Candidate{Locator: []byte{}}}}}
	for _, x := range []struct {
		s         subject
		one, same any
		other     any
	}{
		{subject{local.QuerySnapshot, "7"}, none, empty, a}, {subject{local.QuerySnapshot, "7"}, a, b, none},
		{subject{local.QuerySelection, "7"}, c, d, e}, {subject{local.QuerySelection, "7"}, e, f, c},
	} {
		var v [3]string
		for i, y := range []any{x.one, x.same, x.other} {
			raw, err := json.Marshal(y)
			if err != nil {
				t.Fatal(err)
			}
			if v[i], err = x.s.value(raw); err != nil {
				t.Fatal(err)
			}
		}
		if v[0] != v[1] || v[0] == v[2] {
			t.Errorf("%s: %v", x.s, v)
		}
	}
}

func FuzzValue(f *testing.F) {
	f.Add("head", "7", []byte(`{"block":7}`))
	f.Add("snapshot", "7", []byte(`{"Block":7,"Neurons":[{}]}`))
	f.Add("beacon", "", []byte(`"AAAA"`))
	f.Add("other", "x", []byte(`[1, 2]`))
	f.Fuzz(func(t *testing.T, name, arg string, raw []byte) {
		s := subject{name, arg}
		v, err := s.value(raw)
		if (err == nil) != (len(v) == 64) {
			t.Fatalf("%q, %v", v, err)
		}
		if again, _ := s.value(raw); again != v {
			t.Fatal("two values of one answer")
		}
	})
}

func TestCache(t *testing.T) {
	var c cache
	for i := range 3 * cacheEntries {
		c.put(headOf(chain.Block(i)), json.RawMessage(fmt.Sprint(i)))
		c.put(headOf(chain.Block(i)), json.RawMessage("again"))
	}
	c.put(subject{"large", ""}, make(json.RawMessage, cacheEntry+1))
	if _, ok := c.get(subject{"large", ""}); ok || len(c.raws) != cacheEntries || len(c.keys) != cacheEntries {
		t.Errorf("%d entries, %d keys", len(c.raws), len(c.keys))
	}
	if raw, ok := c.get(headOf(3*cacheEntries - 1)); !ok || string(raw) != fmt.Sprint(3*cacheEntries-1) {
		t.Errorf("newest: %s", raw)
	}
}

// What a client was told of may be a block ahead of the node that is asked next: it is waited for, not refused.
func TestPromised(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.w.make(1)
		x.all[1].set(mode{stood: 100})
		x.all[2].set(mode{stood: 100})
		read(t, x, local.QueryStatus, "") // 101, of a
		x.all[0].set(mode{refuse: true})
		go func() {
			after(time.Second)
			x.all[1].set(mode{})
			x.all[2].set(mode{})
		}()
		read(t, x, local.QuerySnapshot, "101")
		for _, q := range []struct {
			s    subject
			want bool
		}{{subject{local.QuerySnapshot, "101"}, true}, {subject{local.QuerySnapshot, "102"}, false}, {subject{local.QuerySignature, "100"}, true},
			{subject{local.QuerySignature, "101"}, false}, {subject{local.QuerySelection, "1"}, false}} {
			if got := x.promised(q.s); got != q.want {
				t.Errorf("%s: %v", q.s, got)
			}
		}
	})
}

// One node that has more than the others is not believed, neither in an answer nor before a signature, until they have it.
func TestAhead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.all[0].set(mode{ahead: 5})
		read(t, x, local.QueryStatus, "")
		after(fresh)
		if err := x.Steady(t.Context()); !errors.Is(err, chain.ErrUnavailable) || errors.Is(err, chain.ErrDisputed) {
			t.Errorf("signing: %v", err)
		}
		begin := time.Now()
		if _, err := x.Query(t.Context(), local.QuerySnapshot, "101"); !errors.Is(err, chain.ErrUnavailable) || time.Since(begin) > failover {
			t.Errorf("snapshot: %v", err)
		}
		go func() { after(time.Second); x.w.make(5) }()
		read(t, x, local.QuerySnapshot, "101")
		if err := x.Steady(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// On a quiet chain one node with an invented block does not draw the client to it.
func TestOneInventsABlock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.all[1].set(mode{ahead: 1})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = x.Heads(t.Context(), 100)
		}()
		after(9 * time.Second)
		if x.now() != "a" || x.told(Followed) != "" {
			t.Errorf("following %s", x.now())
		}
		x.w.make(1)
		<-done
	})
}

// Who waits for heads at a node that is found to lie meanwhile is moved to another one at once.
func TestMovedWhileWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.all[0].set(mode{lie: true, quiet: true})
		out := make(chan []chain.Head, 1)
		go func() {
			h, _ := x.Heads(t.Context(), 100)
			out <- h
		}()
		after(quiet + fresh)
		if err := x.Steady(t.Context()); err != nil || x.now() != "b" {
			t.Fatalf("%v, following %s", err, x.now())
		}
		begin := time.Now()
		x.w.make(1)
		if h := <-out; len(h) != 1 || time.Since(begin) > 0 {
			t.Errorf("heads %v after %s", h, time.Since(begin))
		}
	})
}

// A comparison without a node that has just failed is none to sign by: it is asked again.
func TestSignAsksEveryone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 2)
		read(t, x, local.QueryStatus, "")
		after(every)
		x.with(func(b *book, now time.Time) { b.faulted(1, now, "refused") })
		x.all[1].set(mode{lie: true})
		x.blocks(t, 1) // compared with a alone
		x.w.make(3)
		read(t, x, local.QueryStatus, "")
		if err := x.Steady(t.Context()); !errors.Is(err, chain.ErrDisputed) {
			t.Errorf("%v", err)
		}
		before := x.count(local.QueryHead)
		x.blocks(t, 100) // 25 s
		if n := x.count(local.QueryHead) - before; n > 2*27 {
			t.Errorf("%d comparisons in 25 s of a dispute of two", n)
		}
	})
}

// Of three where the liar is set aside and the others are away nobody is asked: better nothing than lies.
func TestLiarIsNotAsked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		x.all[0].set(mode{lie: true})
		read(t, x, local.QueryStatus, "")
		x.all[1].set(mode{refuse: true})
		x.all[2].set(mode{refuse: true})
		if raw, err := x.Query(t.Context(), local.QueryParams, ""); !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%s, %v", raw, err)
		}
	})
}

// The key of a round may change while the round is to come: it is asked for each time.
func TestKeyIsNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryKey, "500")
		read(t, x, local.QueryKey, "500")
		if n := x.count(local.QueryKey); n != 6 || slices.Contains(x.cache.keys, subject{local.QueryKey, "500"}) {
			t.Errorf("%d requests", n)
		}
	})
}

// A status of another network is none, whenever it comes.
func TestOtherStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 2)
		read(t, x, local.QueryStatus, "")
		x.all[0].set(mode{other: true})
		var st local.Status
		if err := json.Unmarshal(read(t, x, local.QueryStatus, ""), &st); err != nil || st.Network != "" || x.now() != "b" {
			t.Errorf("%+v, %v; following %s", st, err, x.now())
		}
	})
}
