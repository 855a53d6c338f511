package quorum

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// failover is what the issue allows.
const failover = 5 * time.Second

// phaseBlock is a block at which every node of the network reads a snapshot.
func phaseBlock(t fatal, x *nodes) chain.Block {
	run, err := chain.ParseRun(x.w.run)
	if err != nil {
		t.Fatal(err)
	}
	s, err := chain.NewSchedule(run.Schedule)
	if err != nil {
		t.Fatal(err)
	}
	return s.At(2, chain.PhaseDeadline)
}

// Whatever happens to the followed node, status, answers, heads and transactions come from another one within five seconds,
// the operator is told once, and later calls do not wait again.
func TestFailover(t *testing.T) {
	for name, m := range map[string]mode{"refuses": {refuse: true}, "hangs": {hang: true}} {
		for call, f := range map[string]func(context.Context, *nodes) error{
			"status": func(ctx context.Context, x *nodes) error { _, err := x.Query(ctx, local.QueryStatus, ""); return err },
			"snapshot": func(ctx context.Context, x *nodes) error {
				_, err := x.Query(ctx, local.QuerySnapshot, "100")
				return err
			},
			"heads": func(ctx context.Context, x *nodes) error {
				h, err := x.Heads(ctx, 99)
				if err == nil && h[0].Block != 100 {
					err = errors.New("wrong head")
				}
				return err
			},
			"submit": func(ctx context.Context, x *nodes) error {
				c, err := x.Submit(ctx, []byte("tx"))
				return errors.Join(err, c.Err())
			},
		} {
			t.Run(name+"/"+call, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					x := newNodes(t, 3)
					read(t, x, local.QueryStatus, "")
					x.all[0].set(m)
					begin := time.Now()
					if err := f(t.Context(), x); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(begin); took > failover {
						t.Errorf("took %s", took)
					}
					if x.now() == "a" || x.told(Followed) != x.now() {
						t.Errorf("following %s, told of %q", x.now(), x.told(Followed))
					}
					begin = time.Now()
					if err := f(t.Context(), x); err != nil || time.Since(begin) > 0 {
						t.Errorf("again: %v after %s", err, time.Since(begin))
					}
				})
			})
		}
	}
}

// A held request for heads ends within five seconds when others have blocks that the followed node does not show, and goes
// on while the chain is quiet.
func TestHeldHeads(t *testing.T) {
	for name, m := range map[string]mode{"hangs": {hang: true}, "stands": {stood: 100}, "shows no heads": {quiet: true}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newNodes(t, 3)
				read(t, x, local.QueryStatus, "")
				x.all[0].set(m)
				out := make(chan []chain.Head, 1)
				go func() {
					h, err := x.Heads(t.Context(), 100)
					if err != nil {
						t.Error(err)
					}
					out <- h
				}()
				after(9 * time.Second)
				if m.hang && x.now() != "a" || len(out) > 0 {
					t.Error("a quiet chain was taken for a node that hangs")
				}
				x.w.make(1)
				begin := time.Now()
				if h := <-out; len(h) != 1 || h[0].Block != 101 {
					t.Errorf("heads %v", h)
				}
				if took := time.Since(begin); took > failover {
					t.Errorf("took %s", took)
				}
				if x.now() == "a" || x.told(Followed) != x.now() {
					t.Errorf("following %s, told of %q", x.now(), x.told(Followed))
				}
			})
		})
	}
}

// Who comes and goes is left alone for longer each time.
func TestFlapping(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 2)
		var pauses []time.Duration
		for range 8 {
			x.all[0].set(mode{refuse: true})
			x.with(func(b *book, now time.Time) { b.faulted(0, now, "refused") })
			begin := time.Now()
			for len(x.others(1)) == 0 {
				after(100 * time.Millisecond)
			}
			pauses = append(pauses, time.Since(begin))
			x.all[0].set(mode{})
			x.with(func(b *book, now time.Time) { b.answered(0, now) })
		}
		for i, d := range pauses {
			if want := min(time.Second<<i, 64*time.Second); d != want && i < 6 { // then a calm minute counts
				t.Errorf("pause %d is %s, want %s", i, d, want)
			}
		}
		after(20 * time.Minute)
		x.with(func(b *book, now time.Time) { b.faulted(0, now, "refused") })
		if got := time.Until(x.book.peers[0].until); got != time.Second {
			t.Errorf("long ago is forgotten: %s", got)
		}
	})
}

// watchHeads reads heads as a client does.
func (x *nodes) blocks(t *testing.T, n int) {
	t.Helper()
	for range n {
		x.w.make(1)
		after(250 * time.Millisecond)
		x.Quorum.mu.Lock()
		last := x.last
		x.Quorum.mu.Unlock()
		h, err := x.Heads(t.Context(), last)
		if err != nil || len(h) == 0 || last > 0 && h[0].Block != last+1 {
			t.Fatalf("after %d: heads %v, %v", last, h, err)
		}
	}
}

// Of three nodes the one with another state is set aside and named, whether it is followed or not; what is read is the
// majority's, and signing goes on.
func TestLiarOfThree(t *testing.T) {
	for liar := range 3 {
		for name, m := range map[string]mode{"state": {lie: true}, "snapshot": {forge: local.QuerySnapshot}, "selection": {forge: local.QuerySelection}} {
			bubble(t, func(t *testing.T) {
				x := newNodes(t, 3)
				read(t, x, local.QueryStatus, "")
				x.all[liar].set(m)
				x.blocks(t, 30)
				b := phaseBlock(t, x)
				var s chain.Snapshot
				if err := json.Unmarshal(read(t, x, local.QuerySnapshot, headOf(b).arg), &s); err != nil || s.Neurons[0].Stake != chain.Amount(b) {
					t.Errorf("%s of %d: snapshot %+v, %v", name, liar, s, err)
				}
				var sel chain.Selection
				if err := json.Unmarshal(read(t, x, local.QuerySelection, "3"), &sel); err != nil || sel.Root != hashOf(3, "root") {
					t.Errorf("%s of %d: selection %+v, %v", name, liar, sel, err)
				}
				if got, want := x.told(Aside), x.all[liar].name; got != want {
					t.Errorf("%s: set aside %q, want %s", name, got, want)
				}
				if x.now() == x.all[liar].name {
					t.Errorf("%s: still following the liar", name)
				}
				if err := x.Steady(t.Context()); err != nil || x.told(Disputed) != "" {
					t.Errorf("%s of %d: %v", name, liar, err)
				}
				x.all[liar].set(mode{})
				x.blocks(t, 300) // its minute is over
				if got := x.told(Back); got != x.all[liar].name {
					t.Errorf("%s: back: %q", name, got)
				}
			})
		}
	}
}

// Two nodes that contradict each other: reading goes on at the followed one, signing pauses with both named until one takes
// its word back; that one of them goes away decides nothing.
func TestTwoDisagree(t *testing.T) {
	for name, m := range map[string]mode{"state": {lie: true}, "selection": {forge: local.QuerySelection}} {
		bubble(t, func(t *testing.T) {
			x := newNodes(t, 2)
			read(t, x, local.QueryStatus, "")
			if err := x.Steady(t.Context()); err != nil {
				t.Fatal(err)
			}
			x.all[1].set(m)
			x.blocks(t, 30)
			read(t, x, local.QuerySelection, "3")
			after(fresh)
			err := x.Steady(t.Context())
			var d *DisputedError
			if !errors.As(err, &d) || !errors.Is(err, chain.ErrDisputed) || !errors.Is(err, chain.ErrUnavailable) || len(d.Sides) != 2 ||
				!strings.Contains(err.Error(), "from a;") || !strings.Contains(err.Error(), "from b)") {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := x.Submit(t.Context(), []byte("tx")); !errors.Is(err, chain.ErrDisputed) || x.all[0].got+x.all[1].got != 0 {
				t.Errorf("%s: submitted: %v", name, err)
			}
			x.blocks(t, 60)
			if x.now() != "a" || x.told(Followed) != "" || x.told(Aside) != "" {
				t.Errorf("%s: following %s, aside %q", name, x.now(), x.told(Aside))
			}
			x.all[1].set(mode{refuse: true})
			x.blocks(t, 30)
			if err := x.Steady(t.Context()); !errors.Is(err, chain.ErrDisputed) {
				t.Errorf("%s, one left: %v", name, err)
			}
			x.all[0].set(mode{refuse: true})
			x.all[1].set(m)
			x.blocks(t, 30)
			if x.now() != "b" {
				t.Errorf("%s: reading stopped with the followed node", name)
			}
			if err := x.Steady(t.Context()); !errors.Is(err, chain.ErrDisputed) {
				t.Errorf("%s, the other left: %v", name, err)
			}
			x.all[0].set(mode{})
			x.all[1].set(mode{})
			x.blocks(t, 300)
			after(fresh)
			if err := x.Steady(t.Context()); err != nil || len(x.notices) == 0 || x.notices[len(x.notices)-1].Kind != Settled {
				t.Errorf("%s: agreed again: %v, %v", name, err, x.notices)
			}
			if d, s := x.times(Disputed), x.times(Settled); d != 1 || s != 1 {
				t.Errorf("%s: told %d times that they disagree, %d times that they agree", name, d, s)
			}
			if c, err := x.Submit(t.Context(), []byte("tx")); err != nil || c != local.CodeOK {
				t.Errorf("%s: %v, %v", name, c, err)
			}
		})
	}
}

// A dispute about what no node has any more ends when the parties agree on the newest state.
func TestOutlivedDispute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 2)
		x.all[1].set(mode{forge: local.QuerySelection})
		read(t, x, local.QueryStatus, "")
		read(t, x, local.QuerySelection, "3")
		for range 3 {
			x.blocks(t, 10)
			if err := x.Steady(t.Context()); !errors.Is(err, chain.ErrDisputed) {
				t.Fatalf("selection: %v", err)
			}
		}
		for _, n := range x.all {
			n.set(mode{forget: true})
		}
		x.blocks(t, 10)
		if err := x.Steady(t.Context()); !errors.Is(err, chain.ErrDisputed) { // learns that it is gone
			t.Errorf("heads decide, and did not yet: %v", err)
		}
		x.blocks(t, 10)
		if err := x.Steady(t.Context()); err != nil || x.told(Aside) != "" {
			t.Errorf("gone: %v", err)
		}
	})
}

// Who is not answered by anybody does not sign.
func TestNobodyVouches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.blocks(t, 10)
		for _, n := range x.all {
			n.set(mode{refuse: true})
		}
		after(fresh)
		if err := x.Steady(t.Context()); !errors.Is(err, chain.ErrUnavailable) || errors.Is(err, chain.ErrDisputed) {
			t.Errorf("nobody: %v", err)
		}
		x.all[2].set(mode{})
		if err := x.Steady(t.Context()); err != nil {
			t.Errorf("one of three: %v", err)
		}
	})
}

// A dispute of two is decided by the third when it comes back, also against one that has gone silent by then.
func TestThirdDecides(t *testing.T) {
	for name, goes := range map[string]bool{"both there": false, "the liar is gone": true} {
		bubble(t, func(t *testing.T) {
			x := newNodes(t, 3)
			read(t, x, local.QueryStatus, "")
			x.all[2].set(mode{refuse: true})
			x.all[0].set(mode{lie: true})
			x.blocks(t, 30)
			after(fresh)
			if err := x.Steady(t.Context()); !errors.Is(err, chain.ErrDisputed) {
				t.Fatalf("%s: %v", name, err)
			}
			if goes {
				x.all[0].set(mode{refuse: true})
			}
			x.all[2].set(mode{})
			x.blocks(t, 300)
			if err := x.Steady(t.Context()); err != nil || x.told(Aside) != "a" || x.now() == "a" {
				t.Errorf("%s: %v; aside %q, following %s", name, err, x.told(Aside), x.now())
			}
		})
	}
}

// A node that stands or is far behind is stale; it is not read from and has no say, and counts again when it has caught up.
func TestStale(t *testing.T) {
	for name, m := range map[string]mode{"stands": {stood: 100}, "far behind": {behind: 60}} {
		bubble(t, func(t *testing.T) {
			x := newNodes(t, 3)
			read(t, x, local.QueryStatus, "")
			x.all[1].set(m)
			x.blocks(t, 100)
			if x.told(Stale) != "b" {
				t.Errorf("%s: stale %q", name, x.told(Stale))
			}
			x.all[0].set(mode{refuse: true})
			x.blocks(t, 1)
			if x.now() != "c" {
				t.Errorf("%s: following %s", name, x.now())
			}
			x.all[1].set(mode{})
			x.blocks(t, 30)
			if x.told(Caught) != "b" {
				t.Errorf("%s: caught up %q", name, x.told(Caught))
			}
		})
	}
}

// A node that makes blocks up does not carry the clock away: heads stop a little above what most have, and it is set aside.
func TestRacing(t *testing.T) {
	for name, hollow := range map[string]bool{"with state hashes": false, "without": true} {
		bubble(t, func(t *testing.T) {
			x := newNodes(t, 3)
			read(t, x, local.QueryStatus, "")
			x.blocks(t, 30)
			x.all[0].set(mode{ahead: 100_000, hollow: hollow})
			top := chain.Block(130)
			for range 200 {
				x.w.make(1)
				after(250 * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				h, err := x.Heads(ctx, top)
				cancel()
				if err == nil {
					top = h[len(h)-1].Block
				}
				if top > x.w.height+reach {
					t.Fatalf("%s: head %d at height %d", name, top, x.w.height)
				}
			}
			if x.now() == "a" || top < x.w.height || !hollow && x.told(Aside) != "a" {
				t.Errorf("%s: aside %q, head %d at height %d", name, x.told(Aside), top, x.w.height)
			}
		})
	}
}

// The client's clock starts at the status: one that claims a height that nobody else has waits until it is clear who is right.
func TestRacingStart(t *testing.T) {
	for name, hollow := range map[string]bool{"with state hashes": false, "without": true} {
		bubble(t, func(t *testing.T) {
			x := newNodes(t, 3)
			x.all[0].set(mode{ahead: 100_000, hollow: hollow})
			raw, err := x.Query(t.Context(), local.QueryStatus, "")
			if !hollow && !errors.Is(err, chain.ErrUnavailable) || hollow && (err != nil || !strings.Contains(string(raw), `"height":100`)) {
				t.Fatalf("%s: %s, %v", name, raw, err)
			}
			if x.told(Aside) != "" {
				t.Errorf("%s: accused although the others may stand still", name)
			}
			x.w.make(1)
			after(time.Second)
			_, _ = x.Query(t.Context(), local.QueryStatus, "") // now they are known to move
			var st local.Status
			if err := json.Unmarshal(read(t, x, local.QueryStatus, ""), &st); err != nil || st.Height != 101 {
				t.Errorf("%s: status %+v, %v", name, st, err)
			}
			if x.now() == "a" {
				t.Errorf("%s: following it", name)
			}
		})
	}
}

// A transaction that the followed node refuses goes to the next; the same one again goes to all, for a node that takes it and
// tells nobody.
func TestSubmit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.all[0].set(mode{reject: true})
		if c, err := x.Submit(t.Context(), []byte("one")); err != nil || c != local.CodeOK || x.all[1].got != 1 || x.all[2].got != 0 {
			t.Errorf("%v, %v", c, err)
		}
		x.all[0].set(mode{})
		for range 2 {
			if c, err := x.Submit(t.Context(), []byte("two")); err != nil || c != local.CodeOK {
				t.Errorf("%v, %v", c, err)
			}
		}
		if x.all[0].got != 2 || x.all[1].got != 2 || x.all[2].got != 1 {
			t.Errorf("got %d, %d, %d", x.all[0].got, x.all[1].got, x.all[2].got)
		}
		for _, n := range x.all {
			n.set(mode{reject: true})
		}
		if c, err := x.Submit(t.Context(), []byte("three")); err != nil || c != local.CodeNonce {
			t.Errorf("%v, %v", c, err)
		}
		if c, err := x.Submit(t.Context(), []byte("three")); err != nil || c != local.CodeNonce {
			t.Errorf("again: %v, %v", c, err)
		}
		for _, n := range x.all {
			n.set(mode{refuse: true})
		}
		for range 2 {
			if _, err := x.Submit(t.Context(), []byte("four")); !errors.Is(err, chain.ErrUnavailable) {
				t.Errorf("nobody: %v", err)
			}
		}
	})
}

// How many requests comparing costs in a window of 22 blocks, as DESIGN.md says.
func TestRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.blocks(t, 22)
		before := x.count(local.QueryHead)
		x.blocks(t, 22)
		if n := x.count(local.QueryHead) - before; n > 6 {
			t.Errorf("%d comparisons of heads in a window, three nodes", n)
		}
		for range 3 {
			read(t, x, local.QuerySelection, "2")
			read(t, x, local.QuerySnapshot, headOf(phaseBlock(t, x)).arg)
		}
		if s, d := x.count(local.QuerySelection), x.count(local.QuerySnapshot); s != 3 || d != 3 {
			t.Errorf("%d requests for a selection, %d for a snapshot", s, d)
		}
		read(t, x, local.QueryParams, "")
		read(t, x, local.QueryStatus, "")
		before = x.count(local.QueryStatus)
		read(t, x, local.QueryStatus, "")
		if s, p := x.count(local.QueryStatus)-before, x.count(local.QueryParams); s != 1 || p != 3 {
			t.Errorf("the status went to %d nodes, the parameters to %d", s, p)
		}
		var wg sync.WaitGroup
		for range 15 {
			wg.Go(func() {
				if _, err := x.Query(t.Context(), local.QuerySnapshot, "143"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := x.count(local.QuerySnapshot); d != 6 {
			t.Errorf("15 who ask the same make %d requests", d-3)
		}
	})
}

func TestSplit(t *testing.T) {
	for list, want := range map[string]int{"a:1": 1, "a:1,b:2,c:3": 3, " a:1 , b:2": 2, "[::1]:26,h:1": 2, "https://a/,b:2": 2, "https://a,https://b/x": 2, "https://a,https://A/": 0,
		"": 0, "a": 0, "a:1,": 0, "a:1,,b:2": 0, ":1": 0, "a:1,A:01": 0, "a:1,b:2,a:1": 0, "a:1;b:2": 0,
		"a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,b:1": 0} {
		got, err := Split(list)
		if len(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %q, %v", list, got, err)
		}
	}
	for list, ok := range map[string]bool{"a:1": true, "a:1,b:2": true, "a:1,b:x": false, "a:1,b:70000": false} {
		b, err := Dial(list, nil)
		if (err == nil) != ok {
			t.Errorf("%q: %v", list, err)
		}
		if _, several := b.(local.Steady); ok && several != strings.Contains(list, ",") {
			t.Errorf("%q is a %T", list, b)
		}
	}
}
