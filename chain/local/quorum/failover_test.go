package quorum

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// calls are what a client does, each with its answer checked.
var calls = map[string]func(context.Context, *nodes) error{
	"status": func(ctx context.Context, x *nodes) error { return x.says(ctx, local.QueryStatus, "", `"height":100`) },
	"snapshot": func(ctx context.Context, x *nodes) error {
		return x.says(ctx, local.QuerySnapshot, "100", `"Block":100`)
	},
	"account": func(ctx context.Context, x *nodes) error { return x.says(ctx, local.QueryAccount, "me", `"nonce":10`) },
	"tx":      func(ctx context.Context, x *nodes) error { return x.says(ctx, local.QueryTx, "in", `"block":90`) },
	"price":   func(ctx context.Context, x *nodes) error { return x.says(ctx, local.QueryStakes, "me", "") },
	"steady":  func(ctx context.Context, x *nodes) error { return x.Steady(ctx) },
	"submit": func(ctx context.Context, x *nodes) error {
		c, err := x.Submit(ctx, []byte("tx"))
		return errors.Join(err, c.Err())
	},
	"heads": func(ctx context.Context, x *nodes) error {
		h, err := x.Heads(ctx, 99)
		if err == nil && (len(h) != 1 || h[0].Block != 100) {
			err = fmt.Errorf("heads %v", h)
		}
		return err
	},
}

// says asks, and wants a text in the answer.
func (x *nodes) says(ctx context.Context, name, arg, want string) error {
	raw, err := x.Query(ctx, name, arg)
	if err == nil && !strings.Contains(string(raw), want) {
		err = fmt.Errorf("answer %s, want %s", raw, want)
	}
	return err
}

// However many nodes hang, refuse or babble, as long as one answers everything goes on within five seconds: in a program that
// has just begun, and in one that knows all nodes as good; and what is asked next is answered as soon.
func TestOneOfManyAnswers(t *testing.T) {
	for fault, m := range map[string]mode{"hang": {hang: true}, "refuse": {refuse: true}, "babble": {babble: true}} {
		for _, n := range []int{2, 3, 5, MaxEndpoints} {
			for _, warm := range []bool{false, true} {
				for call, f := range calls {
					bubble(t, func(t *testing.T) {
						x := newNodes(t, n)
						x.w.txs["in"] = 90
						if warm {
							read(t, x, local.QueryStatus, "")
						}
						for _, nd := range x.all[:n-1] {
							nd.set(m)
						}
						for try := range 3 {
							begin := time.Now()
							if err := f(t.Context(), x); err != nil {
								t.Errorf("%d of %d %s, warm %v, %s: %v", n-1, n, fault, warm, call, err)
							}
							if took := time.Since(begin); took > failover {
								t.Errorf("%d of %d %s, warm %v, %s: try %d took %s", n-1, n, fault, warm, call, try, took)
							}
						}
					})
				}
			}
		}
	}
}

// A block that is made at any moment while heads are waited for is shown within five seconds, however many nodes hang, answer
// everything but heads, or stand.
func TestHeldHeadsOfMany(t *testing.T) {
	for fault, m := range map[string]mode{"hang": {hang: true}, "show no heads": {quiet: true}, "stand": {stood: 100}} {
		for _, n := range []int{2, 3, 5, MaxEndpoints} {
			if m.stood > 0 && n > 2 {
				continue // a majority that stands is right
			}
			for wait := time.Duration(0); wait < 2*quiet+limit; wait += 100 * time.Millisecond {
				bubble(t, func(t *testing.T) {
					x := newNodes(t, n)
					read(t, x, local.QueryStatus, "")
					for _, nd := range x.all[:n-1] {
						nd.set(m)
					}
					out := make(chan []chain.Head, 1)
					go func() {
						h, err := x.Heads(t.Context(), 100)
						if err != nil {
							t.Error(err)
						}
						out <- h
					}()
					after(wait)
					x.w.make(1)
					begin := time.Now()
					if h := <-out; len(h) != 1 || h[0].Block != 101 {
						t.Errorf("%d of %d %s: heads %v", n-1, n, fault, h)
					}
					if want := x.all[n-1].name; x.now() != want {
						t.Errorf("%d of %d %s: following %s, not %s, which shows heads", n-1, n, fault, x.now(), want)
					}
					if took := time.Since(begin); took > failover {
						t.Errorf("%d of %d %s, a block after %s: it took %s", n-1, n, fault, wait, took)
					}
				})
			}
		}
	}
}

// Nodes that failed a while ago and are left alone are asked when the others begin to hang.
func TestWhoFailedIsAskedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.with(func(b *book, now time.Time) {
			for range 7 {
				b.faulted(1, now, "refused")
				b.faulted(2, now, "refused")
			}
		})
		x.all[0].set(mode{hang: true})
		begin := time.Now()
		if read(t, x, local.QuerySnapshot, "100"); time.Since(begin) > failover {
			t.Errorf("after %s", time.Since(begin))
		}
	})
}

// Who answers what is no answer while others do is left.
func TestBabbler(t *testing.T) {
	for _, name := range []string{local.QueryRun, local.QueryStakes} {
		bubble(t, func(t *testing.T) {
			x := newNodes(t, 3)
			read(t, x, local.QueryStatus, "")
			x.all[0].set(mode{babble: true})
			if err := x.says(t.Context(), name, "", ""); err != nil || x.now() == "a" {
				t.Errorf("%s: %v, following %s", name, err, x.now())
			}
			if _, err := x.Query(t.Context(), "nonsense", ""); err == nil || errors.Is(err, chain.ErrUnavailable) || x.book.peers[1].faults+x.book.peers[2].faults > 0 {
				t.Errorf("a question that nobody understands: %v", err)
			}
			for _, n := range x.all {
				n.set(mode{babble: true})
			}
			faults := x.book.peers[1].faults
			if _, err := x.Query(t.Context(), local.QuerySelection, "9"); err == nil || errors.Is(err, chain.ErrUnavailable) || x.book.peers[1].faults > faults {
				t.Errorf("what all answer alike is nobody's fault: %v", err)
			}
		})
	}
}

// A transaction is in a block when as many nodes say so as do not, and one more: the word of one of two is not enough while
// the other one answers, and that of one of three never.
func TestAcknowledged(t *testing.T) {
	for n := 2; n <= 5; n++ {
		for liars := 1; 2*liars <= n; liars++ {
			bubble(t, func(t *testing.T) {
				x := newNodes(t, n)
				read(t, x, local.QueryStatus, "")
				for _, nd := range x.all[:liars] {
					nd.set(mode{invent: true})
				}
				begin := time.Now()
				if raw, err := x.Query(t.Context(), local.QueryTx, "tx"); !errors.Is(err, chain.ErrNotFound) || time.Since(begin) > failover {
					t.Errorf("%d of %d: %s, %v after %s", liars, n, raw, err, time.Since(begin))
				}
				for _, nd := range x.all[:liars] {
					nd.set(mode{})
				}
				x.w.mu.Lock()
				x.w.txs["tx"] = 101
				x.w.mu.Unlock()
				x.w.make(1)
				if err := x.says(t.Context(), local.QueryTx, "tx", `"block":101`); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The nonce that is signed with is a majority's. Two that differ are asked until they agree, and else named: with a nonce to
// come one of them could have the same payment made twice.
func TestNonce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for liar := range 3 {
			x := newNodes(t, 3)
			x.all[liar].set(mode{nonce: 3})
			if err := x.says(t.Context(), local.QueryAccount, "me", `"nonce":10`); err != nil || x.told(Aside)+x.told(Disputed) != "" {
				t.Errorf("liar %d of 3: %v, told %v", liar, err, x.notices)
			}
		}
		x := newNodes(t, 2)
		x.all[0].set(mode{nonce: 3})
		begin := time.Now()
		raw, err := x.Query(t.Context(), local.QueryAccount, "me")
		if !errors.Is(err, chain.ErrUnavailable) || !strings.Contains(err.Error(), "from a; ") || !strings.Contains(err.Error(), "account me") || time.Since(begin) > failover {
			t.Errorf("one of 2 lies: %s, %v", raw, err)
		}
		x.all[0].set(mode{hang: true})
		if err := x.says(t.Context(), local.QueryAccount, "me", `"nonce":10`); err != nil {
			t.Errorf("one of 2 is away: %v", err)
		}

		x = newNodes(t, 2)
		x.w.make(9)
		x.all[1].set(mode{behind: 1})
		x.w.make(1)
		go func() { after(time.Second); x.all[1].set(mode{}) }()
		if err := x.says(t.Context(), local.QueryAccount, "me", `"nonce":11`); err != nil {
			t.Errorf("one of 2 is a block behind: %v", err)
		}
		x.all[1].set(mode{stood: 100})
		x.book.peers[1].stale = true
		if err := x.says(t.Context(), local.QueryAccount, "me", `"nonce":11`); err != nil {
			t.Errorf("one of 2 is stale: %v", err)
		}

		x = newNodes(t, 2)
		x.w.make(5)
		x.all[1].set(mode{behind: 2})
		begin = time.Now()
		if err := x.says(t.Context(), local.QueryAccount, "me", `"balance":105`); err != nil || time.Since(begin) > 0 {
			t.Errorf("the same nonce and another balance: %v after %s", err, time.Since(begin))
		}
	})
}

// Who failed a moment ago is asked all the same before something is signed: a node that lies must not have to do more than to
// disturb another one.
func TestNonceAsksEveryone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 2)
		x.all[0].set(mode{nonce: 3, joined: true})
		x.with(func(b *book, now time.Time) { b.faulted(1, now, "disturbed") })
		if raw, err := x.Query(t.Context(), local.QueryAccount, "me"); !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%s, %v", raw, err)
		}
		x.w.txs["tx@90"] = 95
		x.with(func(b *book, now time.Time) { b.faulted(1, now, "disturbed") })
		x.all[0].set(mode{stood: 94})
		if raw, err := x.Query(t.Context(), local.QueryTx, "tx@90"); !errors.Is(err, chain.ErrUnavailable) || errors.Is(err, chain.ErrNotFound) {
			t.Errorf("one of two says that it is in no block: %s, %v", raw, err)
		}
		if raw, err := x.Query(t.Context(), local.QueryTx, "tx"); !errors.Is(err, chain.ErrUnavailable) && !errors.Is(err, chain.ErrNotFound) {
			t.Errorf("one of two says that it is in a block: %s, %v", raw, err)
		}
	})
}

// What one node says while the others are away is not kept: it is compared when they are back.
func TestOneVoiceIsNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.all[0].set(mode{forge: local.QuerySelection})
		x.all[1].set(mode{refuse: true})
		x.all[2].set(mode{refuse: true})
		read(t, x, local.QuerySelection, "3")
		x.all[1].set(mode{})
		x.all[2].set(mode{})
		after(lastPause)
		var sel chain.Selection
		if err := json.Unmarshal(read(t, x, local.QuerySelection, "3"), &sel); err != nil || sel.Root != hashOf(3, "root") || x.told(Aside) != "a" {
			t.Errorf("selection %+v, %v; set aside %q", sel, err, x.told(Aside))
		}
	})
}

// That a transaction is in no block takes a majority that knows all of them, or all who answer.
func TestInNoBlock(t *testing.T) {
	for n := 2; n <= 5; n++ {
		for joined := 0; joined <= n; joined++ {
			bubble(t, func(t *testing.T) {
				x := newNodes(t, n)
				read(t, x, local.QueryStatus, "")
				for _, nd := range x.all[:joined] {
					nd.set(mode{joined: true})
				}
				want := chain.ErrNotFound
				if joined > 0 && n-joined <= n/2 {
					want = chain.ErrPruned
				}
				if raw, err := x.Query(t.Context(), local.QueryTx, "tx@90"); !errors.Is(err, want) {
					t.Errorf("%d of %d joined: %s, %v, want %v", joined, n, raw, err, want)
				}
			})
		}
	}
}

// Slow is not away: a node that is slower than a majority keeps its place, the followed one too if others would be asked no
// sooner; and where all are slow, as on a bad line, answers come all the same.
func TestSlow(t *testing.T) {
	for slow := range 3 {
		bubble(t, func(t *testing.T) {
			x := newNodes(t, 3)
			read(t, x, local.QueryStatus, "")
			x.all[slow].set(mode{slow: time.Second})
			for b := 97; b <= 100; b++ {
				if err := x.says(t.Context(), local.QuerySnapshot, fmt.Sprint(b), fmt.Sprintf(`"Block":%d`, b)); err != nil {
					t.Error(err)
				}
			}
			if x.now() != "a" || x.book.peers[slow].faults > 0 {
				t.Errorf("%d is slow: following %s, %d faults", slow, x.now(), x.book.peers[slow].faults)
			}
		})
	}
	bubble(t, func(t *testing.T) { // a majority that has nothing yet is an answer
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		x.all[2].set(mode{hang: true})
		begin := time.Now()
		if _, err := x.Query(t.Context(), local.QueryTx, "tx"); !errors.Is(err, chain.ErrNotFound) || time.Since(begin) > moment {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
	bubble(t, func(t *testing.T) {
		x := newNodes(t, 3)
		read(t, x, local.QueryStatus, "")
		for _, n := range x.all {
			n.set(mode{slow: 6 * time.Second})
		}
		if err := x.says(t.Context(), local.QuerySnapshot, "100", `"Block":100`); err != nil {
			t.Error(err)
		}
	})
}

// Whoever finds out what, the operator reads it in the order in which it was so.
func TestToldInOrder(t *testing.T) {
	x := newNodes(t, 2)
	var was, told []string
	x.tell = func(n Notice) {
		for range 3 {
			runtime.Gosched() // as writing a line may
		}
		told = append(told, n.Reason)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				x.with(func(b *book, now time.Time) {
					was = append(was, fmt.Sprint(i, j))
					b.note(Disputed, "", fmt.Sprint(i, j))
				})
			}
		})
	}
	all.Wait()
	if !slices.Equal(was, told) {
		t.Error("told in another order")
	}
}
