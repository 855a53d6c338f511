package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/sample"
	"sn3/model/tokenizer"
)

// maxPrompt bounds what is read of a prompt, in bytes.
const maxPrompt = 16 << 20

func generateCommand() *cli.Command {
	flags := append([]cli.Flag{checkpointFlag(),
		&cli.StringFlag{Name: "prompt", Value: "func main() {\n", Usage: "`TEXT` to continue; - reads it from stdin"},
		&cli.IntFlag{Name: "tokens", Value: 200, Usage: "add at most `N` tokens"},
		&cli.Float64Flag{Name: "temperature", Value: 0.7, Usage: "`T` of the choice; 0 = always the likeliest token"},
		&cli.IntFlag{Name: "top-k", Usage: "choose among the `K` likeliest tokens; 0 = all"},
		&cli.Float64Flag{Name: "top-p", Value: 1, Usage: "choose among the likeliest tokens that have the probability `P` together; 1 = all"},
		&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "`SEED` of the choice", EnvVars: []string{"SN3_SAMPLE_SEED"}}}, engineFlags()...)
	return command("generate", "let a model continue a text: a folder, or the network's newest checkpoint", "[FOLDER]", -1, flags, func(c *cli.Context) error {
		g, err := generation(c)
		if err != nil {
			return err
		}
		if g.dir != "" { // needs no network
			ctx, cancel := proc.Context(0)
			defer cancel(nil)
			return proc.Ended(ctx, g.run(ctx, c, nil))
		}
		return with(c, nil, func(ctx context.Context, n *network) error { return g.run(ctx, c, n) })
	})
}

// generator is what a generate command was told.
type generator struct {
	dir    string
	engine model.Options
	sample sample.Options
}

// generation reads the flags; mistakes in them are found before a network is asked.
func generation(c *cli.Context) (g generator, err error) {
	if g.dir, err = modelArg(c); err != nil {
		return g, err
	}
	if g.engine, err = engineOptions(c); err != nil {
		return g, err
	}
	o := sample.Options{Tokens: c.Int("tokens"), Temperature: c.Float64("temperature"), TopK: c.Int("top-k"), TopP: c.Float64("top-p"), Seed: c.Uint64("seed")}
	switch {
	case o.Tokens < 1:
		err = fmt.Errorf("--tokens %d: at least 1", o.Tokens)
	case !(o.Temperature >= 0) || math.IsInf(o.Temperature, 0):
		err = fmt.Errorf("--temperature %v: a number of at least 0", o.Temperature)
	case o.TopK < 0:
		err = fmt.Errorf("--top-k %d: at least 0", o.TopK)
	case !(o.TopP > 0 && o.TopP <= 1):
		err = fmt.Errorf("--top-p %v: above 0, at most 1", o.TopP)
	}
	if err != nil {
		return g, proc.Usage(err)
	}
	g.sample = o
	return g, nil
}

func (g generator) run(ctx context.Context, c *cli.Context, n *network) (err error) {
	prompt := []byte(c.String("prompt"))
	if c.String("prompt") == "-" {
		if prompt, err = readInput(ctx, "-", maxPrompt); err != nil {
			return err
		}
	}
	s, err := openSource(ctx, g.dir, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ids := s.begin(prompt)
	switch {
	case len(ids) == 0:
		return proc.Usage(errors.New("the prompt is empty, and the tokenizer has no token that begins a text; give --prompt"))
	case len(ids) > s.Config.Seq:
		return proc.Refused(fmt.Errorf("the prompt has %d tokens, the model sees %d (max_position_embeddings); shorten it", len(ids), s.Config.Seq))
	}
	seq := min(s.Config.Seq, len(ids)+min(g.sample.Tokens, s.Config.Seq)) // --tokens may be any number
	e := cpu.New("")
	if err := roomFor(s.Config, decodeNeed(e, s.Config, g.engine, seq), freeMemory()); err != nil {
		return proc.Refused(err)
	}
	m, err := sample.Open(ctx, e, s.Config, s.Folder, seq, g.engine)
	if err != nil {
		return err
	}
	g.sample.Stop, g.sample.Vocab = s.ends(), s.tok.Vocab()
	return write(ctx, m, s.tok, prompt, ids, g.sample)
}

// begin is a prompt in tokens, after the one that begins a text if there is one.
func (s *source) begin(prompt []byte) []int32 {
	var ids []int32
	if bos, ok := s.tok.BOS(); ok {
		ids = append(ids, bos)
	}
	ids = s.tok.Encode(ids, prompt)
	if len(ids) > 1 && ids[0] == ids[1] && s.tok.Special(ids[0]) { // the prompt has it written out
		ids = ids[1:]
	}
	return ids
}

// ends are the tokens that end a text.
func (s *source) ends() []int32 {
	out := slices.Clone(s.Special.EOS)
	if eos, ok := s.tok.EOS(); ok {
		out = append(out, eos)
	}
	return out
}

// write prints a prompt and what follows it, character by character as they are complete, until its reader has enough (| head).
func write(ctx context.Context, m *sample.Sampler, tok tokenizer.Tokenizer, prompt []byte, ids []int32, o sample.Options) error {
	show := func(text string) error {
		_, err := os.Stdout.WriteString(proc.Printable(text))
		return err
	}
	stream := tokenizer.NewStream(tok)
	err := show(tokenizer.Text(prompt))
	if err == nil {
		err = m.Stream(ctx, ids, o, func(id int32) error { return show(stream.Next(id)) })
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	if last := show(stream.Flush() + "\n"); err == nil {
		err = last
	}
	return err
}
