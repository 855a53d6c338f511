package quorum

import (
	"context"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
)

// history drives a quorum through whatever its nodes may do.
type history struct {
	*nodes
	ctx context.Context
	top chain.Block // newest head that was delivered
}

func (h *history) modes() *rapid.Generator[mode] {
	return rapid.SampledFrom([]mode{{}, {}, {}, {refuse: true}, {hang: true}, {quiet: true}, {lie: true}, {lie: true}, {forge: local.QuerySelection},
		{forge: local.QuerySnapshot}, {behind: 3}, {behind: 60}, {ahead: 1}, {ahead: 5000}, {ahead: 5000, hollow: true}, {stood: 110}, {reject: true}, {lie: true, ahead: 30}})
}

// heads reads like a client: what comes is contiguous, and a call does not take long while anybody answers.
func (h *history) heads(t *rapid.T) {
	ctx, cancel := context.WithTimeout(h.ctx, 6*time.Second)
	defer cancel()
	got, err := h.Heads(ctx, h.top)
	if err != nil && !errors.Is(err, chain.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("heads: %v", err)
	}
	for _, x := range got {
		if h.top > 0 && x.Block != h.top+1 {
			t.Fatalf("block %d after %d", x.Block, h.top)
		}
		h.top = x.Block
	}
}

// sign is what a client does before it signs. No error means: nothing is in dispute, and of the nodes that could be asked no
// two with a say contradict each other unless a majority decided.
func (h *history) sign(t *rapid.T) bool {
	err := h.Steady(h.ctx)
	if err != nil && !errors.Is(err, chain.ErrUnavailable) {
		t.Fatalf("steady: %v", err)
	}
	h.Quorum.mu.Lock()
	defer h.Quorum.mu.Unlock()
	if (h.book.err() != nil) != errors.Is(err, chain.ErrDisputed) {
		t.Fatalf("disputed %v, told %v", h.book.err(), err)
	}
	return err == nil
}

// groups counts the nodes with a say that show a block, by its state.
func (h *history) groups(b chain.Block) map[string]int {
	out := map[string]int{}
	for i, n := range h.all {
		h.w.mu.Lock()
		m, top := n.mode, n.top()
		if m.hollow {
			top -= m.ahead
		}
		h.w.mu.Unlock()
		if h.book.peers[i].aside || m.refuse || m.hang || top < b {
			continue
		}
		of := "truth"
		if m.lie {
			of = n.name
		}
		out[of]++
	}
	return out
}

// last lets everything rest and asks once more: the verdict must be the one that counting gives.
func (h *history) last(t *rapid.T) {
	<-time.After(lastPause + calm) // nobody is left alone for a failure
	h.w.make(5)
	if _, err := h.Query(h.ctx, local.QueryStatus, ""); err != nil {
		return
	}
	h.Quorum.mu.Lock()
	at, open := h.book.next(h.Quorum.last), h.book.err() != nil
	h.Quorum.mu.Unlock()
	signs := h.sign(t)
	h.Quorum.mu.Lock()
	defer h.Quorum.mu.Unlock()
	if at == 0 {
		return
	}
	groups, most := h.groups(at), 0
	for _, n := range groups {
		most = max(most, n)
	}
	if signs && len(groups) > 1 && most < h.book.majority() {
		t.Fatalf("signed while nodes say %v of block %d; disputed before: %v", groups, at, open)
	}
	if groups["truth"] >= h.book.majority() {
		if v := h.accepted[at]; v != "" && v != hashOf(at, "truth").String() {
			t.Fatalf("accepted %s of block %d, the majority has another state", v, at)
		}
	}
}

// play is one random history.
func play(ctx context.Context, t *rapid.T) {
	h := &history{nodes: newNodes(t, rapid.IntRange(1, 5).Draw(t, "nodes")), ctx: ctx}
	for range rapid.IntRange(5, 40).Draw(t, "steps") {
		switch rapid.SampledFrom([]string{"mode", "mode", "blocks", "blocks", "heads", "heads", "sign", "read", "wait", "submit"}).Draw(t, "step") {
		case "mode":
			h.all[rapid.IntRange(0, len(h.all)-1).Draw(t, "node")].set(h.modes().Draw(t, "mode"))
		case "blocks":
			h.w.make(chain.Block(rapid.SampledFrom([]int{1, 3, 50}).Draw(t, "blocks")))
		case "heads":
			h.heads(t)
		case "sign":
			h.sign(t)
		case "read":
			name := rapid.SampledFrom([]string{local.QueryStatus, local.QuerySelection, local.QuerySnapshot, local.QueryRun}).Draw(t, "name")
			_, _ = h.Query(ctx, name, headOf(phaseBlock(t, h.nodes)).arg)
		case "wait":
			<-time.After(time.Duration(rapid.SampledFrom([]int{100, 1000, 6000, 70000}).Draw(t, "ms")) * time.Millisecond)
		case "submit":
			ok := h.sign(t)
			if c, err := h.Submit(ctx, []byte{1}); err == nil && c == local.CodeOK && !ok && h.book.err() != nil {
				t.Fatal("a transaction went out while nodes disagree")
			}
		}
	}
	h.last(t)
	if len(h.twice) > 0 {
		t.Fatalf("blocks %v were accepted twice", h.twice)
	}
}

// Random histories of nodes that refuse, hang, lie, stand, lag, race and come back: no height is accepted with two states,
// heads are contiguous, and nothing is signed while nodes disagree.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var failed any
		bubble(t, func(*testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			defer func() { failed = recover() }() // a failure must leave the bubble before it is one
			play(ctx, rt)
		})
		if failed != nil {
			t.Log(failed) // what goroutines do first may differ when it is tried again
			panic(failed)
		}
	})
}
