package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
)

func chainFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "parts", Value: strings.Join(chainParts, ","), Usage: "what is measured"},
		&cli.StringFlag{Name: "nodes", Value: "1,4", Usage: "validators of the networks that take transactions"},
		&cli.Int64Flag{Name: "block-time", Value: 250, Usage: "milliseconds between blocks"},
		&cli.IntFlag{Name: "txs", Value: 3000, Usage: "transactions of a round"},
		&cli.IntFlag{Name: "samples", Value: 8, Usage: "transactions of a round whose latency is measured"},
		&cli.IntFlag{Name: "miners", Value: 256, Usage: "seats of miners"},
		&cli.IntFlag{Name: "validators", Value: 16, Usage: "seats of validators"},
		&cli.IntFlag{Name: "rows", Value: 64, Usage: "validators whose sealed rows are revealed in one block"},
		&cli.IntFlag{Name: "windows", Value: 20, Usage: "windows of the network whose restart and replay are measured"},
		&cli.IntFlag{Name: "disk-windows", Value: 700, Usage: "windows of the network whose disk is measured"},
		&cli.IntFlag{Name: "accounts", Value: 200_000, Usage: "accounts of the large state whose snapshots are measured; 0: of a fresh state only"},
		&cli.IntFlag{Name: "snapshots", Value: 16, Usage: "snapshots of each of the two"},
		&cli.Int64Flag{Name: "life-block-time", Value: 100, Usage: "milliseconds between the blocks of the former"},
		&cli.Int64Flag{Name: "disk-block-time", Value: 10, Usage: "milliseconds between the blocks of the latter"},
		&cli.StringFlag{Name: "profile", Usage: "write profiles of CPU and locks of our work to `PREFIX`-PART.prof and beside it"},
	}
}

// chainParts in the order in which they are measured.
var chainParts = []string{"tx", "latency", "window", "state", "life", "disk", "snapshot"}

// chainRun is one run of bench chain.
type chainRun struct {
	*bench
	dir   string
	c     chainJob
	nodes []int
	n     int // folders used
}

// chain measures the chain: its nodes against the bare engine, its state machine against signatures alone.
func (b *bench) chain() error {
	parts := strings.Split(b.flags.String("parts"), ",")
	for _, p := range parts {
		if !slices.Contains(chainParts, p) {
			return proc.Usage(fmt.Errorf("unknown part %q; there are %s", p, strings.Join(chainParts, ", ")))
		}
	}
	r := &chainRun{bench: b, c: chainJob{Nodes: 1, BlockMS: b.flags.Int64("block-time"), Miners: b.flags.Int("miners"), Validators: b.flags.Int("validators"), Txs: b.flags.Int("txs"), Windows: b.flags.Int("windows")}}
	for s := range strings.SplitSeq(b.flags.String("nodes"), ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 16 {
			return proc.Usage(fmt.Errorf("nodes %q: numbers from 1 to 16 with commas", b.flags.String("nodes")))
		}
		r.nodes = append(r.nodes, n)
	}
	seats := r.c.Miners + max(r.c.Validators, b.flags.Int("rows"))
	if r.c.Miners < 1 || r.c.Validators < 1 || b.flags.Int("rows") < 1 || seats > 512 || b.flags.Int("accounts") < 0 || min(r.c.Txs, r.c.Windows, b.flags.Int("samples"), b.flags.Int("snapshots"), b.flags.Int("disk-windows")) < 1 || min(r.c.BlockMS, b.flags.Int64("life-block-time"), b.flags.Int64("disk-block-time")) < 1 {
		return proc.Usage(errors.New("counts and times must be at least 1, seats at most 512"))
	}
	dir, remove, err := scratch()
	if err != nil {
		return err
	}
	r.dir = dir
	acts := map[string]func() error{"tx": r.throughput, "latency": r.latency, "window": r.window, "state": r.state, "life": r.life, "disk": r.disk, "snapshot": r.snapshot}
	for _, p := range parts {
		if err = acts[p](); err != nil {
			break
		}
	}
	return errors.Join(err, remove())
}

// job is one of ours, in a folder of its own.
func (r *chainRun) job(task string, c chainJob) job {
	r.n++
	j := job{Task: task, Dir: filepath.Join(r.dir, strconv.Itoa(r.n)), Threads: r.threads, Chain: c}
	if prefix := r.flags.String("profile"); prefix != "" && !c.Bare {
		j.Profile = fmt.Sprintf("%s-%s-%d.prof", prefix, strings.TrimPrefix(task, "chain-"), r.n)
	}
	return j
}

// ask lets workers make rounds by turns; turns 0 is about a second. The caller closes them.
func (r *chainRun) ask(by []string, turns int, jobs ...job) (cs []*contender, done func(), err error) {
	done = func() {
		for _, c := range cs {
			_ = c.w.close() // what a worker could say, it has said
		}
	}
	for i, j := range jobs {
		w, err := ours(r.ctx, j)
		if err != nil {
			return nil, done, fmt.Errorf("%s: %w", by[i], err)
		}
		cs = append(cs, &contender{by: by[i], w: w, turns: turns})
	}
	return cs, done, interleave(r.ctx, r.rounds, r.wait, cs)
}

func (r *chainRun) pair(n shape, txs int) (ours, bare chainJob) {
	ours = r.c
	ours.Nodes, ours.Apart, ours.Txs = n.nodes, n.apart, txs
	bare = ours
	bare.Bare = true
	return ours, bare
}

// throughput is how many signed transactions a second get into blocks; the bare engine takes the same bytes. On one machine all
// nodes share its cores, and each of them recovers each signature once: what that and the engine leave is the limit beside them.
func (r *chainRun) throughput() error {
	r.section("chain tx", "%d signed transfers a round, handed in in the nodes' process, blocks of %d ms", r.c.Txs, r.c.BlockMS)
	cs, done, err := r.ask([]string{"signatures alone"}, 0, r.stateJob("signatures", r.c))
	done()
	if err != nil {
		return err
	}
	alone := cs[0].row("recover senders", "tx/s", 0)
	r.add(alone)
	for _, n := range r.networks() {
		own, bare := r.pair(n, r.c.Txs)
		cs, done, err := r.ask([]string{"bare engine", "sn3"}, 1, r.job("chain-tx", bare), r.job("chain-tx", own))
		done()
		if err != nil {
			return err
		}
		base := cs[0].row(n.String(), "tx/s", 0)
		mine := cs[1].row(n.String(), "tx/s", 0)
		mine.Share, mine.Of = mine.Median/base.Median, "bare engine"
		limit := Row{Case: n.String(), By: "engine and signatures", Unit: "tx/s"}.spread([]float64{1 / (1/base.Median + float64(n.nodes)/alone.Median)})
		limit.Note = fmt.Sprintf("one after the other; sn3 is %.2f of it", mine.Median/limit.Median)
		r.add(base)
		r.add(mine)
		r.add(limit)
	}
	return nil
}

// shape is how many validators a network has, and whether each is a process.
type shape struct {
	nodes int
	apart bool
}

// networks are those that take transactions: several nodes in one process, then as processes.
func (r *chainRun) networks() (out []shape) {
	for _, n := range r.nodes {
		if out = append(out, shape{n, false}); n > 1 {
			out = append(out, shape{n, true})
		}
	}
	return out
}

func (x shape) String() string {
	switch {
	case x.nodes == 1:
		return "1 validator"
	case x.apart:
		return fmt.Sprint(x.nodes, " processes")
	}
	return fmt.Sprint(x.nodes, " validators")
}

// latency is from handing in a transaction until its block is committed, one after the other.
func (r *chainRun) latency() error {
	samples := r.flags.Int("samples")
	r.section("chain latency", "%d transactions a round, one after the other, blocks of %d ms", samples, r.c.BlockMS)
	for _, n := range r.networks() {
		own, bare := r.pair(n, samples)
		cs, done, err := r.ask([]string{"bare engine", "sn3"}, 1, r.job("chain-latency", bare), r.job("chain-latency", own))
		if err != nil {
			done()
			return err
		}
		for _, q := range []float64{0.5, 0.95} {
			base := cs[0].quantile(n.String(), "ms", q, "ms")
			mine := cs[1].quantile(n.String(), "ms", q, "ms")
			mine.Share, mine.Of = mine.Median/base.Median, "bare engine"
			r.add(base)
			r.add(mine)
		}
		done()
	}
	return nil
}

// figures are those of a name from all rounds.
func (c *contender) figures(name string) (out []float64) {
	for _, r := range c.replies {
		out = append(out, r.Figures[name]...)
	}
	return out
}

// of is the row of a figure.
func (c *contender) of(what, unit, name string) Row {
	row := c.row(what, unit, 0)
	row.Allocs, row.Note, row.Memory = nil, "", 0
	return row.spread(c.figures(name))
}

// quantile is the row of a quantile of a figure over all rounds.
func (c *contender) quantile(what, unit string, q float64, name string) Row {
	row := c.of(fmt.Sprintf("%s p%.0f", what, 100*q), unit, name)
	v := slices.Sorted(slices.Values(c.figures(name)))
	row.Median = v[min(len(v)-1, int(q*float64(len(v))))]
	return row
}

// window is whether what everybody does in a window finds room in one block.
func (r *chainRun) window() error {
	r.section("chain window", "a record of %d miners, record and sealed row of %d validators", r.c.Miners, r.c.Validators)
	cs, done, err := r.ask([]string{"sn3"}, 1, r.job("chain-window", r.c))
	defer done()
	if err != nil {
		return err
	}
	const room = 4 << 20
	size := cs[0].of("all of them", "bytes", "bytes")
	size.Share, size.Of = size.Median/room, "a block's room"
	r.add(size)
	r.add(cs[0].of("all of them", "tx", "txs"))
	r.add(cs[0].of("they are in", "blocks", "blocks"))
	r.add(cs[0].of("from the first to the last", "ms", "ms"))
	return nil
}

func (r *chainRun) stateJob(block string, c chainJob) job {
	j := r.job("chain-state", c)
	j.Form = block
	if j.Profile != "" {
		j.Profile = strings.TrimSuffix(j.Profile, ".prof") + "-" + strings.ReplaceAll(block, " ", "-") + ".prof"
	}
	return j
}

// blocksARound are few: what leads to each of them takes far longer than itself.
const blocksARound = 5

// state is the state machine alone, block by block.
func (r *chainRun) state() error {
	rows := r.c
	rows.Miners, rows.Validators = max(1, r.c.Miners-r.flags.Int("rows")), r.flags.Int("rows")
	r.section("chain state", "blocks of the state machine alone, %d seats; of reveals %d with %d sealed rows", r.c.Miners+r.c.Validators, rows.Miners+rows.Validators, rows.Validators)
	for _, x := range []struct {
		base, block string
		c           chainJob
		what        string
	}{{"signatures", "window cold", r.c, "a window"}, {"empty", "window", r.c, "a window, senders known"}, {"open", "reveal", rows, "rows revealed, epoch"}, {"empty", "epoch", rows, "epoch"}} {
		base := map[string]string{"signatures": "its signatures, all cores", "empty": "an empty block", "open": "opening the rows alone"}[x.base]
		cs, done, err := r.ask([]string{base, "sn3"}, blocksARound, r.stateJob(x.base, x.c), r.stateJob(x.block, x.c))
		if err != nil {
			done()
			return err
		}
		first, mine := cs[0].row(x.what, "ms", 0), cs[1].row(x.what, "ms", 0)
		mine.Share, mine.Of = mine.Median/first.Median, base
		r.add(first)
		r.add(mine)
		done()
	}
	return nil
}

// life is what a node costs that has lived through some windows: memory, starting, replaying, following.
func (r *chainRun) life() error {
	c := r.c
	c.BlockMS = r.flags.Int64("life-block-time")
	r.section("chain life", "one validator, %d windows of %d miners and %d validators, blocks of %d ms", c.Windows, c.Miners, c.Validators, c.BlockMS)
	w, err := ours(r.ctx, r.job("chain-life", c))
	if err != nil {
		return err
	}
	defer w.close()
	x := &contender{by: "sn3", w: w}
	reply, err := w.ask(r.ctx, 1)
	if err != nil {
		return err
	}
	x.turns, x.replies = 1, append(x.replies, reply)
	start := x.of("start", "ms", "start ms")
	start.Memory, start.Note = reply.Memory, fmt.Sprintf("after %.0f blocks and %.0f transactions", x.figures("blocks")[0], x.figures("txs")[0])
	r.add(start)
	for _, name := range []string{"replay blocks/s", "replay tx/s", "catch-up blocks/s", "catch-up tx/s"} {
		what, unit, _ := strings.Cut(name, " ")
		r.add(x.of(what, unit, name))
	}
	return nil
}
