package main

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/scripts/localnet/netdir"
)

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

// keepRows is for how many shown windows late events are still taken; the summary reads the diaries again.
const keepRows = 16

// columns is a line of the table, at most 80 characters wide.
const columns = "%6v %6v %7v  %-18s %-13s %6v %-8s %s"

// watch follows the diaries of all nodes and shows one line per window.
type watch struct {
	n       *network
	out     voice
	tails   map[string]*netTail
	rows    map[chain.Window]*row
	next    chain.Window // to be shown
	waiting map[string]string
	diverge []string
	pace    pace
	silent  string // why the chain does not answer
}

type netTail struct {
	*events.Tail
	name string
}

func newWatch(n *network) *watch {
	w := &watch{n: n, out: n.out, tails: map[string]*netTail{}, rows: map[chain.Window]*row{}, next: n.from, waiting: map[string]string{}}
	for _, m := range n.nodes {
		w.tails[m.Name] = &netTail{events.NewTail(n.dir.NodePath(m.Name, "data")), m.Name}
	}
	return w
}

// run returns nil when the planned windows are shown, else why it ended.
func (w *watch) run(ctx context.Context) error {
	if w.out.json == nil {
		fmt.Printf("\n"+columns+"\n", "window", "block", "nats/B", "selected", "bytes (ratio)", "tok/s", "root", "agreed")
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := w.read(); err != nil {
			return err
		}
		for w.complete(w.next) {
			w.show(w.rows[w.next])
			delete(w.rows, w.next-keepRows)
			w.next++
		}
		if w.n.until > 0 && w.next >= w.n.until {
			w.out.clear()
			return nil
		}
		for _, s := range w.n.heal() {
			w.out.warn("! " + s)
		}
		if dead := w.n.dead(); len(dead) > 0 {
			w.out.clear()
			return fmt.Errorf("%s; started %d times in all, not again; make logs shows more", strings.Join(dead, "; "), netdir.Restarts+1)
		}
		w.progress(ctx)
		select {
		case <-ctx.Done():
			w.out.clear()
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
	case events.Resumed, events.Start:
		delete(w.waiting, name)
		return
	case events.Diverged:
		if e.Window != chain.NoWindow && e.Window+1 < w.n.from {
			return // of an earlier run
		}
		at := "before window 0"
		if e.Window != chain.NoWindow {
			at = fmt.Sprintf("after window %d", e.Window)
		}
		w.diverge = append(w.diverge, name+" "+at)
		if e.Window == chain.NoWindow || e.Window+keepRows >= w.next {
			w.out.warn(fmt.Sprintf("! %s HAS ANOTHER MODEL THAN THE NETWORK %s; it starts over from a checkpoint", name, at))
		}
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
	x := w.n.window(r, len(w.tails))
	if w.out.json != nil {
		w.out.json.Info("window", "window", x)
		return
	}
	var bytes int64
	for _, b := range r.Bytes {
		bytes = max(bytes, b)
	}
	agreed, _ := r.agreed(len(w.tails))
	w.out.line(fmt.Sprintf(columns, r.Window, r.Block, fmt.Sprintf("%.4f", x.Loss), selected(x.Winners), fmt.Sprintf("%d (%.0f×)", bytes, r.Ratio),
		fmt.Sprintf("%.0f", x.TokensPerSec), r.root().Short(), agreed))
}

// selected names winners in little room: miners 1-4,7.
func selected(names []string) string {
	var numbers []int
	var out []string
	for _, n := range names {
		if i, err := strconv.Atoi(strings.TrimPrefix(n, "miner-")); err == nil && strings.HasPrefix(n, "miner-") {
			numbers = append(numbers, i)
		} else {
			out = append(out, n)
		}
	}
	sort.Ints(numbers)
	var ranges []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		r := strconv.Itoa(numbers[i])
		if j > i {
			r += "-" + strconv.Itoa(numbers[j])
		}
		ranges, i = append(ranges, r), j+1
	}
	if len(ranges) > 0 {
		out = append([]string{"miners " + strings.Join(ranges, ",")}, out...)
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, "+")
}

// progress draws the bar inside a window and says what is waited for when nothing moves.
func (w *watch) progress(ctx context.Context) {
	ask, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := w.n.client.Status(ask)
	if err != nil {
		st.Height, w.silent = 0, err.Error()
	}
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	switch w.pace.look(now, st.Height, w.n.sched.At(w.next, chain.PhaseApply), w.n.blockTime()) {
	case theChain:
		why := netdir.LastLine(w.n.dir.Path("chaind.log"))
		if st.Height == 0 {
			why = w.silent + "; " + why
		}
		w.out.warn("stuck: waiting for " + w.pace.stopped(now) + ": " + why)
	case theWindows:
		w.out.warn("stuck: waiting for " + w.reason())
	}
	if st.Height == 0 || !w.out.tty {
		return
	}
	win, ph := w.n.sched.Locate(st.Height)
	done := 0.0
	if t, ok := w.n.sched.Training(st.Height); ok {
		done = float64(st.Height-w.n.sched.At(t, chain.PhaseStart)) / float64(w.n.run.Schedule.Length)
	}
	const width = 24
	fill := min(int(done*width), width)
	w.out.bar(fmt.Sprintf("  [%s%s] block %d, window %d: %s", strings.Repeat("=", fill), strings.Repeat(" ", width-fill), st.Height, win, ph))
}

// reason is what keeps the next window from being applied: what nodes say they wait for, else who has not applied it.
func (w *watch) reason() string {
	by := map[string][]string{} // reason -> nodes
	for name, why := range w.waiting {
		by[why] = append(by[why], name)
	}
	var all []string
	for why, names := range by {
		sort.Strings(names)
		all = append(all, why+" ("+strings.Join(names, ", ")+")")
	}
	sort.Strings(all)
	if len(all) > 0 {
		return strings.Join(all, "; ")
	}
	r := w.rows[w.next]
	if r == nil || len(r.Roots) == 0 {
		return fmt.Sprintf("window %d to be applied by anybody; make logs may tell why", w.next)
	}
	for name := range w.tails {
		if _, ok := r.Roots[name]; !ok {
			all = append(all, name)
		}
	}
	sort.Strings(all)
	if len(all) == 0 {
		return fmt.Sprintf("the held-out loss after window %d, which validators measure", w.next)
	}
	return fmt.Sprintf("%s to apply window %d", strings.Join(all, ", "), w.next)
}
