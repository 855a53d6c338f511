package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/term"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/scripts/localnet/netdir"
)

// stuckBlocks without progress are worth a message.
const stuckBlocks = 40

func command(bin string, args ...string) (string, error) {
	out, err := exec.Command(bin, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// row is what is known about one window.
type row struct {
	Window  chain.Window
	Block   chain.Block
	Roots   map[string]chain.Hash // by node
	Winners []chain.Hotkey
	Loss    float64
	Bytes   map[string]int64
	Ratio   float64
	Tokens  int
	Early   int
	Seconds float64
	Scores  map[string]float64 // by hotkey, mean over validators
	votes   map[string]int     // scores behind each mean
}

// watch follows the diaries of all nodes and shows one line per window.
type watch struct {
	n       *network
	tails   map[string]*netTail
	rows    map[chain.Window]*row
	next    chain.Window // to be shown
	waiting map[string]string
	diverge []string
	tty     bool
	moved   time.Time // when a window was last shown
}

type netTail struct {
	*events.Tail
	name string
}

func newWatch(n *network) *watch {
	w := &watch{n: n, tails: map[string]*netTail{}, rows: map[chain.Window]*row{}, next: n.from, waiting: map[string]string{}, moved: time.Now(),
		tty: term.IsTerminal(int(os.Stdout.Fd()))}
	for _, m := range n.nodes {
		w.tails[m.Name] = &netTail{events.NewTail(n.dir.NodePath(m.Name, "data")), m.Name}
	}
	return w
}

// run returns nil when the planned windows are shown, else why it ended.
func (w *watch) run(ctx context.Context) error {
	fmt.Printf("\n%6s %6s  %-8s %-22s %-16s %8s  %-8s %s\n", "window", "block", "nats/B", "selected", "bytes (ratio)", "tok/s", "root", "agreed")
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := w.read(); err != nil {
			return err
		}
		for w.complete(w.next) {
			w.show(w.rows[w.next])
			w.next++
		}
		if w.n.until > 0 && w.next >= w.n.until {
			w.clear()
			return nil
		}
		for _, s := range w.n.heal() {
			w.line("! " + s)
		}
		if dead := w.n.dead(); len(dead) > 0 {
			w.clear()
			return fmt.Errorf("%s ended %d times; see make logs", strings.Join(dead, ", "), restarts+1)
		}
		if err := w.progress(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			w.clear()
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (w *watch) row(win chain.Window) *row {
	r := w.rows[win]
	if r == nil {
		r = &row{Window: win, Roots: map[string]chain.Hash{}, Bytes: map[string]int64{}, Scores: map[string]float64{}, votes: map[string]int{}}
		w.rows[win] = r
	}
	return r
}

func (w *watch) read() error {
	for name, t := range w.tails {
		list, err := t.Next()
		if err != nil {
			return err
		}
		for _, e := range list {
			w.take(name, e)
		}
	}
	return nil
}

// take enters one event.
func (w *watch) take(name string, e events.Event) {
	switch e.Kind {
	case events.Waiting:
		w.waiting[name] = e.Reason
		return
	case events.Resumed:
		delete(w.waiting, name)
		return
	case events.Diverged:
		if e.Window != chain.NoWindow && e.Window+1 < w.n.from {
			return // of an earlier run
		}
		w.diverge = append(w.diverge, fmt.Sprintf("%s in window %d", name, e.Window))
		w.line(fmt.Sprintf("! %s has another model than the network after window %d; it starts over from a checkpoint", name, e.Window))
		return
	case events.Applied, events.Eval, events.Train, events.Submit, events.Scored:
	default:
		return
	}
	r := w.row(e.Window)
	switch e.Kind {
	case events.Applied:
		r.Roots[name], r.Winners = *e.Root, e.Winners
		r.Block = max(r.Block, e.Block)
		delete(w.waiting, name)
	case events.Eval:
		r.Loss = e.Loss
	case events.Train:
		r.Tokens += e.Tokens
		r.Early += e.EarlySteps
		r.Seconds = max(r.Seconds, e.Seconds)
	case events.Submit:
		r.Bytes[name], r.Ratio = e.Bytes, e.Ratio
	case events.Scored:
		for h, s := range e.Scores {
			k := float64(r.votes[h])
			r.Scores[h] = (r.Scores[h]*k + s) / (k + 1)
			r.votes[h]++
		}
	}
}

// complete: every node applied the window and it was evaluated, or the network is two windows further.
func (w *watch) complete(win chain.Window) bool {
	r := w.rows[win]
	if r == nil {
		return false
	}
	if len(r.Roots) == len(w.tails) && r.Loss > 0 {
		return true
	}
	later := w.rows[win+2]
	return later != nil && len(later.Roots) > 0
}

func (r *row) agreed(nodes int) (string, bool) {
	count := map[chain.Hash]int{}
	most := 0
	for _, h := range r.Roots {
		count[h]++
		most = max(most, count[h])
	}
	if len(count) == 1 && len(r.Roots) == nodes {
		return "all", true
	}
	if len(count) <= 1 {
		return fmt.Sprintf("%d of %d so far", len(r.Roots), nodes), true
	}
	return fmt.Sprintf("NO: %d of %d", most, nodes), false
}

func (r *row) root() chain.Hash {
	for _, h := range r.Roots {
		return h
	}
	return chain.Hash{}
}

func (w *watch) show(r *row) {
	names := map[chain.Hotkey]string{}
	for _, x := range w.n.set.Nodes {
		names[x.Hotkey] = x.Name
	}
	var sel []string
	for _, h := range r.Winners {
		name := names[h]
		if name == "" {
			name = h.Short()
		}
		sel = append(sel, strings.TrimPrefix(name, "miner-"))
	}
	var bytes int64
	for _, b := range r.Bytes {
		bytes = max(bytes, b)
	}
	per := float64(w.n.run.Schedule.Length) * blockTime.Seconds()
	agreed, _ := r.agreed(len(w.tails))
	list := "miners " + strings.Join(sel, ",")
	if len(sel) == 0 {
		list = "none"
	}
	w.line(fmt.Sprintf("%6d %6d  %-8.4f %-22s %-16s %8.0f  %-8s %s", r.Window, r.Block, r.Loss, list,
		fmt.Sprintf("%d (%.0f×)", bytes, r.Ratio), float64(r.Tokens)/per, r.root().Short(), agreed))
	w.moved = time.Now()
}

// line prints above the progress bar.
func (w *watch) line(s string) {
	w.clear()
	fmt.Println(s)
}

func (w *watch) clear() {
	if w.tty {
		fmt.Print("\r\033[K")
	}
}

// progress draws the bar inside a window and says what is waited for when nothing moves.
func (w *watch) progress(ctx context.Context) error {
	limit := time.Duration(stuckBlocks+w.n.run.Schedule.Length) * blockTime
	if time.Since(w.moved) > limit {
		w.line("stuck: waiting for " + w.reason())
		w.moved = time.Now()
	}
	st, err := w.n.client.Status(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.waiting["chain"] = "the chain node does not answer"
		}
		return nil
	}
	delete(w.waiting, "chain")
	if !w.tty {
		return nil
	}
	win, ph := w.n.sched.Locate(st.Height)
	done := 0.0
	if t, ok := w.n.sched.Training(st.Height); ok {
		done = float64(st.Height-w.n.sched.At(t, chain.PhaseStart)) / float64(w.n.run.Schedule.Length)
	}
	const width = 24
	fill := int(done * width)
	fmt.Printf("\r\033[K  [%s%s] block %d, window %d: %s", strings.Repeat("=", fill), strings.Repeat(" ", width-fill), st.Height, win, ph)
	return nil
}

func (w *watch) reason() string {
	var all []string
	for name, why := range w.waiting {
		all = append(all, name+" ("+why+")")
	}
	if len(all) > 0 {
		return strings.Join(all, "; ")
	}
	if r := w.rows[w.next]; r != nil {
		for name := range w.tails {
			if _, ok := r.Roots[name]; !ok {
				all = append(all, name)
			}
		}
		return fmt.Sprintf("%s to apply window %d", strings.Join(all, ", "), w.next)
	}
	return fmt.Sprintf("window %d to be applied by anybody; %s", w.next, netdir.LastLine(w.n.dir.Path("chaind.log")))
}
