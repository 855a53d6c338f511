package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/tokenizer"
)

// maxText bounds the text that eval reads into memory, in bytes.
const maxText = 256 << 20

// evalRows is how many tokens eval gives the engine at once, about.
const evalRows = 2048

func checkpointFlag() cli.Flag {
	return &cli.StringFlag{Name: "checkpoint", Usage: "the same as the argument: a model `FOLDER` (default: the network's newest checkpoint)"}
}

func evalCommand() *cli.Command {
	flags := append([]cli.Flag{checkpointFlag(),
		&cli.StringFlag{Name: "text", EnvVars: []string{"SN3_EVAL_TEXT"}, Usage: "`FILE` to measure on, - for stdin (default: the network's held-out text)"},
		&cli.IntFlag{Name: "samples", Value: 2048, Usage: "`N` held-out samples of the network"},
		&cli.IntFlag{Name: "seq", Usage: "cut --text into sequences of `T` tokens (default: as long as the model sees, at most 2048)"}}, engineFlags()...)
	return command("eval", "measure a model's loss on a text: a folder, or the network's newest checkpoint", "[FOLDER]", -1, flags, func(c *cli.Context) error {
		dir, err := modelArg(c)
		if err != nil {
			return err
		}
		o, err := engineOptions(c)
		if err != nil {
			return err
		}
		if n, t := c.Int("samples"), c.Int("seq"); n < 1 || t < 0 || t == 1 {
			return proc.Usage(fmt.Errorf("--samples %d: at least 1; --seq %d: at least 2", n, t))
		}
		if dir != "" && c.String("text") != "" { // needs no network
			ctx, cancel := proc.Context(0)
			defer cancel(nil)
			return proc.Ended(ctx, eval(ctx, c, nil, dir, o))
		}
		return with(c, nil, func(ctx context.Context, n *network) error { return eval(ctx, c, n, dir, o) })
	})
}

func eval(ctx context.Context, c *cli.Context, n *network, dir string, o model.Options) (err error) {
	s, err := openSource(ctx, dir, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var set []model.Batch
	what := c.String("text")
	if what != "" {
		set, err = s.text(ctx, what, c.Int("seq"))
	} else {
		what = "the network's held-out text"
		set, err = s.heldOut(ctx, n, c.Int("samples"))
	}
	if err != nil {
		return err
	}
	e := cpu.New("")
	if err := roomFor(s.Config, judgeNeed(e, s.Config, o, set[0].B, set[0].T), freeMemory()); err != nil {
		return proc.Refused(err)
	}
	m, err := s.measure(ctx, e, o, set)
	if err != nil {
		return err
	}
	perByte := "no bytes to count by"
	if m.bytes > 0 {
		perByte = fmt.Sprintf("%.4f nats per byte", m.nats/float64(m.bytes))
	}
	_, err = fmt.Printf("%s on %s: loss %.4f nats per token (perplexity %.3f), %s, over %d tokens and %d bytes in sequences of %d\n",
		s.what, what, m.perToken(), math.Exp(m.perToken()), perByte, m.tokens, m.bytes, set[0].T)
	return err
}

// text cuts a file into sequences that overlap by one token, so that every token but the first is predicted once.
func (s *source) text(ctx context.Context, path string, seq int) ([]model.Batch, error) {
	switch {
	case seq > s.Config.Seq:
		return nil, proc.Refused(fmt.Errorf("--seq %d: the model sees %d tokens (max_position_embeddings)", seq, s.Config.Seq))
	case seq == 0:
		seq = min(s.Config.Seq, 2048)
	}
	raw, err := readInput(ctx, path, maxText)
	if err != nil {
		return nil, err
	}
	ids := s.begin(raw)
	if len(ids) < 2 {
		return nil, proc.Refused(fmt.Errorf("%s has %d tokens: nothing to predict", path, len(ids)))
	}
	var out []model.Batch
	rows := max(1, evalRows/seq)
	for len(ids) > 1 {
		b := model.Batch{T: min(seq, len(ids)-1)}
		b.B = min(rows, (len(ids)-1)/b.T)
		n := b.B * b.T
		b.X, b.Y = ids[:n], ids[1:n+1]
		out, ids = append(out, b), ids[n:]
	}
	return out, nil
}

// heldOut draws the network's fixed evaluation set.
func (s *source) heldOut(ctx context.Context, n *network, samples int) ([]model.Batch, error) {
	seq := n.run.Model.Seq
	if seq > s.Config.Seq {
		return nil, proc.Refused(fmt.Errorf("the network's samples have %d tokens, the model sees %d (max_position_embeddings)", seq, s.Config.Seq))
	}
	if !sameTokenizer(n.run.Tokenizer, s.tok) {
		return nil, proc.Refused(fmt.Errorf("the network's text is in tokens of %s, the folder's tokenizer.json is %s; measure on --text FILE", n.run.Tokenizer, s.tok.Name()))
	}
	d, err := n.dataset(ctx, seq)
	if err != nil {
		return nil, err
	}
	return d.HeldOut(ctx, []byte("sn3/eval/1"), samples)
}

// sameTokenizer says whether a folder's tokenizer is the one that a run names. Bytes travel as a tokenizer.json of their own.
func sameTokenizer(run string, tok tokenizer.Tokenizer) bool {
	if b, err := tokenizer.New(run); err == nil {
		return string(b.Files()["tokenizer.json"]) == string(tok.Files()["tokenizer.json"])
	}
	return run == tok.Name()
}

// measured is a loss over a text.
type measured struct {
	nats          float64
	tokens, bytes int // predicted ones; control tokens have no bytes
}

func (m measured) perToken() float64 { return m.nats / float64(m.tokens) }

// measure loads the weights and adds up the losses of a set.
func (s *source) measure(ctx context.Context, e model.Engine, o model.Options, set []model.Batch) (m measured, err error) {
	c := s.Config
	c.Seq = set[0].T
	judge, err := e.NewJudge(c, o)
	if err != nil {
		return m, err
	}
	if err := judge.Reset(ctx, s); err != nil {
		return m, err
	}
	losses, err := judge.Losses(ctx, nil, 0, [][]model.Batch{set})
	if err != nil {
		return m, err
	}
	rows := losses[0]
	var text []byte
	for _, b := range set {
		for range b.B {
			m.nats += rows[0] * float64(b.T)
			rows = rows[1:]
		}
		text = tokenizer.Plain(text[:0], s.tok, b.Y)
		m.tokens, m.bytes = m.tokens+len(b.Y), m.bytes+len(text)
	}
	if math.IsNaN(m.nats) || math.IsInf(m.nats, 0) {
		return m, fmt.Errorf("measure loss: %w: the sum is %v; the weights are damaged or training diverged", model.ErrDiverged, m.nats)
	}
	return m, nil
}
