package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/hf"
)

func importCommand() *cli.Command {
	return command("import", "check a Llama folder from Hugging Face and write it in the form that pull gives: float32, with its state root", "FOLDER", 1,
		[]cli.Flag{outputFlag("model")}, func(c *cli.Context) error {
			ctx, cancel := proc.Context(0)
			defer cancel(nil)
			return proc.Ended(ctx, importFolder(ctx, c.Args().First(), c.String("out")))
		})
}

// importFolder converts src to out without having the model in memory, and compares what was written by its root.
func importFolder(ctx context.Context, src, out string) (err error) {
	s, err := openConversion(src, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	w := finite{s.Folder, ctx, hf.F32}
	root, err := gradients.Root(w)
	if err != nil {
		return err
	}
	o := hf.SaveOptions{DType: hf.F32, MaxShard: math.MaxInt64, Meta: map[string]string{"format": "pt", "sn3.root": root.String()}}
	if err := save(ctx, out, s, w, o); err != nil {
		return err
	}
	if err := sameRoot(ctx, out, root); err != nil {
		return err
	}
	fmt.Printf("%s: Llama of %d parameters in %s, vocabulary %d, sees %d tokens\nroot %s, layout %s\n%s has it in float32\n", src, s.Layout().Params(),
		strings.Join(s.DTypes(), ", "), s.Config.Vocab, s.Config.Seq, root, chain.Hash(s.Layout().Hash()).Short(), out)
	return nil
}

// sameRoot reads a folder that was just written.
func sameRoot(ctx context.Context, dir string, want chain.Hash) error {
	f, err := hf.OpenFolder(dir)
	if err != nil {
		return err
	}
	root, err := gradients.Root(finite{f, ctx, hf.F32})
	if err == nil && root != want {
		err = fmt.Errorf("%s reads back with root %s, %s was written: the disk or the memory of this machine is not sound", dir, root.Short(), want.Short())
	}
	return errors.Join(err, f.Close())
}

func exportCommand() *cli.Command {
	flags := []cli.Flag{outputFlag("export"),
		&cli.StringFlag{Name: "dtype", Value: "f32", Usage: "`TYPE` of the weights written: f32 or bf16"},
		&cli.StringFlag{Name: "max-shard-size", Value: "5GB", Usage: "most `BYTES` of weights in a file, as 500MB, 5GB or 2GiB"}}
	return command("export", "write a pulled, imported or any Llama folder as a Hugging Face folder, in shards", "FOLDER", 1, flags, func(c *cli.Context) error {
		dtype, err := parseDType(c.String("dtype"))
		if err != nil {
			return err
		}
		shard, err := parseSize(c.String("max-shard-size"))
		if err != nil {
			return err
		}
		ctx, cancel := proc.Context(0)
		defer cancel(nil)
		o := hf.SaveOptions{DType: dtype, MaxShard: shard, Meta: map[string]string{"format": "pt"}}
		return proc.Ended(ctx, exportFolder(ctx, c.Args().First(), c.String("out"), o))
	})
}

func exportFolder(ctx context.Context, src, out string, o hf.SaveOptions) (err error) {
	s, err := openConversion(src, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := save(ctx, out, s, finite{s.Folder, ctx, o.DType}, o); err != nil {
		return err
	}
	fmt.Printf("%d parameters in %s\n%s opens with transformers: AutoModelForCausalLM.from_pretrained(%q)\n", s.Layout().Params(), o.DType, out, out)
	return nil
}

// openConversion opens what is converted, with the files beside it, and refuses an output folder that could not be written,
// before anything long begins.
func openConversion(src, out string) (*source, error) {
	switch err := hf.Vacant(out); {
	case errors.Is(err, hf.ErrNotEmpty):
		return nil, proc.Refused(err)
	case err != nil:
		return nil, proc.Usage(err)
	}
	s, err := openModel(src, src)
	if err != nil {
		return nil, err
	}
	if s.files, err = hf.ReadCompanions(s.Dir()); errors.Is(err, hf.ErrFormat) {
		err = proc.Refused(err)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// save writes a folder with everything that belongs to the model.
func save(ctx context.Context, out string, s *source, w model.Weights, o hf.SaveOptions) error {
	if s.noTok != nil {
		proc.Note(fmt.Sprintf("the weights are converted, but this model's text cannot be read here: %v", s.noTok))
	}
	o.Files, o.Special, o.Progress = s.files, s.Special, progress()
	err := hf.Save(ctx, out, w, o)
	if errors.Is(err, hf.ErrNotEmpty) {
		return proc.Refused(err)
	}
	return err
}

// progress shows a person how far a conversion is; nil where nobody looks.
func progress() func(done, all int) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	last := -1
	return func(done, all int) {
		percent := int(100 * int64(done) / int64(all))
		if percent == last {
			return
		}
		last = percent
		end := "\r"
		if done == all {
			end = "\n"
		}
		fmt.Fprintf(os.Stderr, "%3d %% written%s", percent, end)
	}
}

// finite refuses weights that no run can start from, or could not once they are written as dtype, and ends with its context:
// hashing a large model takes minutes.
type finite struct {
	model.Weights
	ctx   context.Context
	dtype hf.DType
}

// maxBF16 is the least float32 that rounds to infinity in bfloat16.
const maxBF16 = 0x1.ffp127

// Read implements model.Weights.
func (f finite) Read(dst []float32, c model.ChunkRange) error {
	if err := context.Cause(f.ctx); err != nil {
		return err
	}
	if err := f.Weights.Read(dst, c); err != nil {
		return err
	}
	for i, x := range dst {
		if x-x != 0 || f.dtype == hf.BF16 && (x >= maxBF16 || x <= -maxBF16) { // NaN or infinite
			from, _ := f.Layout().Span(c)
			return proc.Refused(fmt.Errorf("%w: %s holds %v, which is not finite in %s", hf.ErrFormat, tensorAt(f.Layout(), from+i), x, f.dtype))
		}
	}
	return nil
}

// tensorAt is the name of the tensor that an element in chunk order is of: chunk order and tensor order begin tensors alike.
func tensorAt(l *model.Layout, at int) string {
	name := ""
	for _, t := range l.Tensors() {
		if t.Off > at {
			break
		}
		name = t.Name
	}
	return name
}

// parseSize reads bytes with a unit: KB, MB, GB are powers of 1000, as in transformers, KiB, MiB, GiB of 1024.
func parseSize(s string) (int64, error) {
	text, factor := strings.ToUpper(strings.TrimSpace(s)), 1.0
	for _, u := range []struct {
		suffix string
		factor float64
	}{{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if n *= factor; err != nil || !(n >= 1 && n < 1<<62) {
		return 0, proc.Usage(fmt.Errorf("size %q: want bytes as 500MB, 5GB or 2GiB", s))
	}
	return int64(n), nil
}
