package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// A worker is a process that does one piece of work, as often as it is told: ours (bench work) or a Python file. It says when it
// is ready by a line of JSON, then answers each request by one. A process of its own gives each its own memory and threads, and
// several can wait while one of them works.
type worker struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	said  *tail
	ready ready

	once  sync.Once
	ended error // of close
}

// ready is a worker's first line.
type ready struct {
	What   string    `json:"what"`   // program, version, kernels
	Losses []float64 `json:"losses"` // of the steps that warmed it up
	Error  string    `json:"error,omitempty"`
}

// request asks for n turns.
type request struct {
	N int `json:"n"`
}

// reply says how they went.
type reply struct {
	Seconds float64 `json:"seconds"`
	Work    float64 `json:"work"` // done in all turns, in the unit of the task
	Memory  int64   `json:"memory"`
	Allocs  *uint64 `json:"allocs,omitempty"`
	Figures figures `json:"figures,omitempty"` // of the turns, what else was measured
	Others  float64 `json:"others,omitempty"`  // seconds of processor time that the worker's own workers used
	Error   string  `json:"error,omitempty"`

	others float64
}

// figures are what a turn measured beside its time, by name.
type figures map[string][]float64

func (f figures) add(name string, v ...float64) { f[name] = append(f[name], v...) }

// errWorker: a worker ended, or said why it cannot go on.
var errWorker = errors.New("worker failed")

// start runs argv with env added to ours, and waits until the worker is ready.
func start(ctx context.Context, env []string, argv ...string) (*worker, error) {
	w := &worker{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), said: &tail{}}
	w.cmd.Env, w.cmd.Stderr = append(os.Environ(), env...), w.said
	killWhole(w.cmd)
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	w.in, w.out = in, bufio.NewScanner(out)
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	if err := w.read(ctx, &w.ready); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if w.ready.Error != "" {
		return nil, errors.Join(fmt.Errorf("%w: %s", errWorker, w.ready.Error), w.close())
	}
	return w, nil
}

func (w *worker) read(ctx context.Context, to any) error {
	if !w.out.Scan() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := w.close() // waits for all that it said
		return errors.Join(fmt.Errorf("%w: it ended without an answer: %s", errWorker, w.said), err)
	}
	if err := json.Unmarshal(w.out.Bytes(), to); err != nil {
		return fmt.Errorf("%w: it said %.100q", errWorker, w.out.Text())
	}
	return nil
}

// ask has n turns made.
func (w *worker) ask(ctx context.Context, n int) (r reply, err error) {
	all, own, from := busy(), used(w.cmd.Process.Pid), time.Now()
	_ = json.NewEncoder(w.in).Encode(request{n}) // to one that has ended; read says so
	if err := w.read(ctx, &r); err != nil {
		return r, err
	}
	if r.Error != "" || !(r.Seconds > 0) {
		return r, fmt.Errorf("%w: %s", errWorker, r.Error)
	}
	r.others = max(0, busy()-all-(used(w.cmd.Process.Pid)-own)-r.Others) / time.Since(from).Seconds()
	return r, nil
}

// patience is how long a worker may take to end when its input does.
const patience = 10 * time.Second

// close ends the worker. That it was killed, by its context or because it does not listen, is not an error.
func (w *worker) close() error {
	w.once.Do(func() {
		w.in.Close()
		defer time.AfterFunc(patience, func() { _ = w.cmd.Process.Kill() }).Stop()
		if err := w.cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) && !errors.Is(err, context.Canceled) && !errors.Is(err, exec.ErrWaitDelay) {
			w.ended = fmt.Errorf("end %s: %w", w.cmd.Path, err)
		}
	})
	return w.ended
}

// contender is a worker in a comparison, and how it did.
type contender struct {
	by      string
	w       *worker
	turns   int // of a round; 0: as many as take about roundTime
	replies []reply
}

// roundTime is how long a round should take: long against a clock tick, short against the moods of a shared machine.
const roundTime = 700 * time.Millisecond

// interleave lets the contenders make their rounds in turn, in alternating order, each after a wait of at most so long for the
// other processes of the machine to be quiet.
func interleave(ctx context.Context, rounds int, wait time.Duration, cs []*contender) error {
	for _, c := range cs {
		if c.turns > 0 {
			continue
		}
		r, err := c.w.ask(ctx, 1)
		if err != nil {
			return fmt.Errorf("%s: %w", c.by, err)
		}
		c.turns = max(1, int(roundTime.Seconds()/r.Seconds))
	}
	order := slices.Clone(cs)
	for range rounds {
		for _, c := range order {
			r, err := c.round(ctx, wait)
			if err != nil {
				return fmt.Errorf("%s: %w", c.by, err)
			}
			c.replies = append(c.replies, r)
		}
		slices.Reverse(order)
	}
	return nil
}

// tries is how often a round that others disturbed is made again.
const tries = 2

// round makes a round; one that others disturbed is made again while there is hope, and the least disturbed counts: programs
// whose threads wait for each other lose far more to a busy machine than others do.
func (c *contender) round(ctx context.Context, wait time.Duration) (best reply, err error) {
	for i := 0; i == 0 || i <= tries && wait > 0 && best.others > quietShare; i++ {
		awaitQuiet(ctx, wait)
		r, err := c.w.ask(ctx, c.turns)
		if err != nil {
			return r, err
		}
		if i == 0 || r.others < best.others {
			best = r
		}
	}
	return best, nil
}

// row is a contender's figure: work per second, or with unit ms the milliseconds of a turn.
func (c *contender) row(what, unit string, threads int) Row {
	var v, others []float64
	last := c.replies[len(c.replies)-1]
	for _, r := range c.replies {
		x := r.Work / r.Seconds
		if unit == "ms" {
			x = 1e3 * r.Seconds / float64(c.turns)
		}
		v, others = append(v, x), append(others, r.others)
	}
	row := Row{Case: what, By: c.by, Threads: threads, Unit: unit, Memory: last.Memory, Others: median(others)}.spread(v)
	if last.Allocs != nil {
		each := float64(*last.Allocs) / float64(c.turns)
		row.Allocs, row.Note = &each, fmt.Sprintf("%.3g allocs/turn", each)
	}
	return row
}

// tail keeps the end of what a process says, and if it is a Go program that fell over, how its account of that begins: the end of
// it only says which goroutine somebody started.
type tail struct {
	mu    sync.Mutex
	b     []byte
	crash []byte // from where the account begins
}

// Lengths of what a tail keeps.
const (
	keptTail  = 4 << 10
	keptCrash = 2 << 10
)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if t.crash == nil {
		if at := fallen(t.b); at >= 0 {
			t.crash = slices.Clone(t.b[at:])
		}
	} else {
		t.crash = append(t.crash, p...)
	}
	t.crash = t.crash[:min(len(t.crash), keptCrash)]
	t.b = t.b[max(0, len(t.b)-keptTail):]
	return len(p), nil
}

// fallen finds the line with which the runtime begins to say why it ends.
func fallen(b []byte) int {
	for _, line := range []string{"panic: ", "fatal error: "} {
		if bytes.HasPrefix(b, []byte(line)) {
			return 0
		}
		if at := bytes.Index(b, []byte("\n"+line)); at >= 0 {
			return at + 1
		}
	}
	return -1
}

// String is the beginning of why a program fell over, or else the last lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crash != nil {
		lines := strings.Split(strings.TrimSpace(string(t.crash)), "\n")
		return strings.Join(lines[:min(len(lines), 12)], " | ")
	}
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
