package main

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/data"
	"sn3/model/hf"
	"sn3/model/sample"
	"sn3/model/tokenizer"
)

func checkpointFlag() cli.Flag {
	return &cli.StringFlag{Name: "checkpoint", Usage: "checkpoint `FOLDER` (default: the network's newest)"}
}

// loaded is a checkpoint in memory.
func loaded(ctx context.Context, c *cli.Context, n *network) (model.Config, *model.Flat, string, error) {
	if dir := c.String("checkpoint"); dir != "" {
		cfg, w, err := hf.OpenDir(dir)
		return cfg, w, dir, err
	}
	cp, err := n.newest(ctx, nil)
	if err != nil {
		return model.Config{}, nil, "", err
	}
	files, err := cp.fetch(ctx)
	if err != nil {
		return model.Config{}, nil, "", err
	}
	cfg, err := hf.ParseConfig(files["config.json"])
	if err != nil {
		return cfg, nil, "", err
	}
	w, err := cp.weights(files)
	return cfg, w, fmt.Sprintf("window %d", cp.manifest.Window), err
}

func evalCommand() *cli.Command {
	flags := []cli.Flag{checkpointFlag(), &cli.IntFlag{Name: "samples", Value: 2048, Usage: "`N` held-out samples"}}
	return command("eval", "measure a checkpoint's loss on the network's held-out text", "", 0, flags, func(c *cli.Context) error {
		if n := c.Int("samples"); n < 1 {
			return proc.Usage(fmt.Errorf("--samples %d: at least 1", n))
		}
		return with(c, nil, func(ctx context.Context, n *network) error {
			cfg, w, what, err := loaded(ctx, c, n)
			if err != nil {
				return err
			}
			b, err := n.bucket(n.run.Dataset.Locator)
			if err != nil {
				return err
			}
			d, err := data.Open(ctx, b, n.run.Dataset, "", n.run.Model.Seq)
			if err != nil {
				return err
			}
			held, err := d.HeldOut(ctx, []byte("sn3/eval/1"), c.Int("samples"))
			if err != nil {
				return err
			}
			judge, err := cpu.New("").NewJudge(cfg, model.Options{Threads: runtime.NumCPU()})
			if err != nil {
				return err
			}
			if err := judge.Reset(ctx, w); err != nil {
				return err
			}
			l, err := judge.Losses(ctx, nil, 0, [][]model.Batch{held})
			if err != nil {
				return err
			}
			var mean float64
			for _, x := range l[0] {
				mean += x / float64(len(l[0]))
			}
			fmt.Printf("%s: held-out loss %.4f nats per token (perplexity %.3f) over %d samples of %d tokens\n", what, mean, math.Exp(mean), len(l[0]), n.run.Model.Seq)
			return nil
		})
	})
}

func generateCommand() *cli.Command {
	flags := []cli.Flag{checkpointFlag(),
		&cli.StringFlag{Name: "prompt", Value: "func main() {\n", Usage: "`TEXT` to continue"},
		&cli.IntFlag{Name: "tokens", Value: 200, Usage: "add `N` tokens"},
		&cli.Float64Flag{Name: "temperature", Value: 0.7, Usage: "`T` of the choice; 0 = always the likeliest token"},
		&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "`SEED` of the choice", EnvVars: []string{"SN3_SAMPLE_SEED"}}}
	act := func(ctx context.Context, c *cli.Context, n *network) error {
		cfg, w, _, err := loaded(ctx, c, n)
		if err != nil {
			return err
		}
		tok, err := tokenizer.New("bytes")
		if err != nil {
			return err
		}
		if cfg.Vocab != tok.Vocab() {
			return proc.Refused(fmt.Errorf("the checkpoint has %d tokens, the byte tokenizer %d", cfg.Vocab, tok.Vocab()))
		}
		g, err := sample.New(cfg, w)
		if err != nil {
			return err
		}
		o := sample.Options{Tokens: c.Int("tokens"), Temperature: c.Float64("temperature"), Seed: c.Uint64("seed")}
		ids, err := g.Generate(ctx, tok.Encode(nil, []byte(c.String("prompt"))), o)
		if err != nil {
			return err
		}
		fmt.Println(proc.Printable(c.String("prompt") + string(tok.Decode(nil, ids))))
		return nil
	}
	return command("generate", "let a checkpoint continue a text", "", 0, flags, func(c *cli.Context) error {
		if n, t := c.Int("tokens"), c.Float64("temperature"); n < 1 || !(t >= 0) {
			return proc.Usage(fmt.Errorf("--tokens %d --temperature %v: at least 1 and 0", n, t))
		}
		if c.String("checkpoint") != "" { // needs no network
			ctx, cancel := proc.Context(0)
			defer cancel(nil)
			return proc.Ended(ctx, act(ctx, c, nil))
		}
		return with(c, nil, func(ctx context.Context, n *network) error { return act(ctx, c, n) })
	})
}
