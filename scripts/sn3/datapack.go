package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model/data"
	"sn3/model/data/pack"
	"sn3/model/tokenizer"
)

func dataCommand() *cli.Command {
	return &cli.Command{Name: "data", Usage: "make, join, check and describe datasets", Subcommands: []*cli.Command{
		dataPackCommand(), dataMergeCommand(), dataVerifyCommand(), dataStatCommand()}}
}

func dataPackCommand() *cli.Command {
	c := command("pack", "turn text into a dataset; after an interruption the same command goes on", "INPUT...", -1, []cli.Flag{
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FOLDER` to make, to be copied to a bucket as it is (needed)"},
		&cli.StringFlag{Name: "tokenizer", Value: data.ByteTokenizer, Usage: "bytes, or a tokenizer.json `FILE`, or a Hugging Face folder with one"},
		&cli.IntFlag{Name: "vocab", Usage: "the model's vocabulary `V`, if it is padded beyond the tokenizer's"},
		&cli.BoolFlag{Name: "special-tokens", Usage: "make special tokens, BOS and EOS of what spells them in the text, as text with chat marks needs; else it is text like any other"},
		&cli.StringFlag{Name: "field", Value: pack.DefaultField, Usage: "`NAME` of the text in each line of .jsonl"},
		&cli.StringFlag{Name: "column", Value: pack.DefaultField, Usage: "`NAME` of the text's column in .parquet"},
		&cli.StringSliceFlag{Name: "as-text", Usage: "read files ending in `EXT`, as .md, as text too"},
		&cli.StringFlag{Name: "held-out", Value: fmt.Sprintf("1/%d", pack.DefaultHeldOut), Usage: "hold out documents whose hash is a multiple of N: `1/N`"},
		&cli.StringFlag{Name: "source", Usage: "`NAME` or address of where the text comes from, kept in the manifest"},
		&cli.StringFlag{Name: "licence", Usage: "`LICENCE` of the text, as SPDX or in words, kept in the manifest"},
		&cli.StringFlag{Name: "part", Usage: "pack part I of N only, on as many machines: `I/N`; then sn3 data merge"},
		&cli.StringFlag{Name: "part-by", Value: "file", Usage: "cut parts by `WHAT`: file, or document (every part reads all inputs; no duplicate in two parts)"},
		&cli.IntFlag{Name: "workers", DefaultText: "one for each core", Usage: "tokenise with `N` threads"},
		&cli.Uint64Flag{Name: "max-bad", Usage: "go on without up to `N` documents that cannot be read"},
		&cli.Int64Flag{Name: "dedup-memory", Value: pack.DefaultMemory >> 20, Usage: "`MIB` for finding duplicates, about 30 bytes a document"},
	}, dataPack)
	c.Description = "An INPUT is a file or a folder: " + pack.Kinds() + ", each also with .gz or .zst. The result depends only on names below the arguments, contents and options, not on " +
		"the number of workers or on interruptions. Exact duplicates are dropped. A document that cannot be read stops the command with its name, unless --max-bad allows it."
	return c
}

// packOptions reads the flags of pack.
func packOptions(c *cli.Context) (o pack.Options, err error) {
	if c.NArg() == 0 || c.String("out") == "" {
		return o, errors.New("give at least one INPUT, and --out FOLDER")
	}
	o = pack.Options{Inputs: c.Args().Slice(), AsText: c.StringSlice("as-text"), Field: c.String("field"), Column: c.String("column"), Vocab: c.Int("vocab"),
		Special: c.Bool("special-tokens"), Source: c.String("source"), Licence: c.String("licence"), Workers: c.Int("workers"), MaxBad: c.Uint64("max-bad"), Memory: c.Int64("dedup-memory") << 20}
	for i, ext := range o.AsText {
		if o.AsText[i] = strings.ToLower(ext); !strings.HasPrefix(ext, ".") {
			return o, fmt.Errorf("--as-text %q: an ending such as .md", ext)
		}
	}
	one, n, err := fraction(c.String("held-out"))
	if err != nil || one != 1 || n < 2 {
		return o, fmt.Errorf("--held-out %q: want 1/N with N at least 2", c.String("held-out"))
	}
	o.HeldOut = uint64(n)
	if p := c.String("part"); p != "" {
		if o.Part, o.Parts, err = fraction(p); err != nil || o.Part < 1 || o.Part > o.Parts {
			return o, fmt.Errorf("--part %q: want I/N with I from 1 to N", p)
		}
	}
	switch by := c.String("part-by"); by {
	case "file":
	case "document":
		o.ByDocument = true
	default:
		return o, fmt.Errorf("--part-by %q: file or document", by)
	}
	switch memory := c.Int64("dedup-memory"); {
	case o.Workers < 0 || o.Workers > pack.MaxWorkers:
		return o, fmt.Errorf("--workers %d: 1 to %d", o.Workers, pack.MaxWorkers)
	case o.Vocab < 0 || o.Vocab > data.MaxVocab:
		return o, fmt.Errorf("--vocab %d: 2 to %d", o.Vocab, data.MaxVocab)
	case memory < 1 || memory > 1<<30:
		return o, fmt.Errorf("--dedup-memory %d: 1 to %d (MiB)", memory, 1<<30)
	}
	return o, nil
}

// fraction reads I/N.
func fraction(s string) (i, n int, err error) {
	a, b, _ := strings.Cut(s, "/")
	if i, err = strconv.Atoi(a); err != nil {
		return 0, 0, err
	}
	n, err = strconv.Atoi(b)
	return i, n, err
}

// openTokenizer is bytes, a tokenizer.json or a folder with one.
func openTokenizer(name string) (tokenizer.Tokenizer, error) {
	if name == data.ByteTokenizer {
		return tokenizer.New(name)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, proc.Usage(fmt.Errorf("open tokenizer: %w", err))
	}
	if info.IsDir() {
		return tokenizer.Open(name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	return tokenizer.Parse(b)
}

// packMemory is what packing needs beside the set of hashes, before the collector works harder.
const packMemory = 448 << 20

const warnings = 20 // bad documents named on the terminal; all are counted

func dataPack(c *cli.Context) error {
	o, err := packOptions(c)
	if err != nil {
		return proc.Usage(err)
	}
	if o.Tokenizer, err = openTokenizer(c.String("tokenizer")); err != nil {
		return err
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	told := 0
	o.Warn = func(s string) {
		if told++; told <= warnings {
			fmt.Fprintln(os.Stderr, "left out:", proc.Printable(s))
		}
		if told == warnings {
			fmt.Fprintln(os.Stderr, "left out: further ones are only counted")
		}
	}
	o.Progress = packProgress()
	if os.Getenv("GOMEMLIMIT") == "" { // the set of hashes must not count twice in what the collector lets grow
		debug.SetMemoryLimit(o.Memory + packMemory)
	}
	res, err := pack.Run(ctx, c.String("out"), o)
	if errors.Is(err, pack.ErrOtherJob) || errors.Is(err, pack.ErrDone) || errors.Is(err, pack.ErrLocked) {
		err = proc.Refused(err)
	}
	if err != nil {
		return proc.Ended(ctx, err)
	}
	if res.Skipped.Files > 0 {
		fmt.Fprintf(os.Stderr, "%d files of other kinds were left out, the first is %s (--as-text reads more endings as text)\n", res.Skipped.Files, proc.Printable(res.Skipped.First))
	}
	if res.Done {
		fmt.Fprintln(os.Stderr, "this was packed before; nothing to do")
	}
	s := res.Source
	fmt.Printf("%d documents to train on, %d held out, %d tokens and %d; left out: %d duplicates, %d empty, %d bad\n", s.Documents[data.Train], s.Documents[data.HeldOut],
		s.Tokens[data.Train], s.Tokens[data.HeldOut], s.Duplicates, s.Empty, s.Bad)
	fmt.Printf("manifest %s\nroot     %s\n", res.Spec.Manifest, res.Spec.Root)
	return nil
}

// packProgress prints a line every two seconds and at checkpoints.
func packProgress() func(pack.Progress) {
	begin := time.Now()
	var last time.Time
	var from int64 = -1
	return func(p pack.Progress) {
		now := time.Now()
		if from < 0 {
			from = p.Read
		}
		if now.Sub(last) < 2*time.Second && p.File < p.Files && !p.Saved {
			return
		}
		last = now
		speed := float64(p.Read-from) / max(now.Sub(begin).Seconds(), 1e-3)
		left := ""
		if speed > 0 && p.Read < p.Size {
			left = fmt.Sprintf(", %s left", time.Duration(float64(p.Size-p.Read)/speed*1e9).Round(time.Second))
		}
		s := p.Source
		fmt.Fprintf(os.Stderr, "file %d of %d, %.1f of %.1f MB (%.0f%%), %.1f MB/s%s; %d documents, %d tokens, %d duplicates, %d bad%s\n", min(p.File+1, p.Files), p.Files,
			float64(p.Read)/1e6, float64(p.Size)/1e6, 100*float64(p.Read)/float64(max(p.Size, 1)), speed/1e6, left, s.Documents[0]+s.Documents[1], s.Tokens[0]+s.Tokens[1],
			s.Duplicates, s.Bad, map[bool]string{true: "; saved"}[p.Saved])
	}
}

func dataMergeCommand() *cli.Command {
	return command("merge", "join the parts of a dataset into one", "PART...", -1, []cli.Flag{
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FOLDER` to make (needed)"},
	}, func(c *cli.Context) error {
		if c.NArg() == 0 || c.String("out") == "" {
			return proc.Usage(errors.New("give the folders of the parts, and --out FOLDER"))
		}
		ctx, cancel := proc.Context(0)
		defer cancel(nil)
		res, err := pack.Merge(ctx, c.String("out"), c.Args().Slice())
		if errors.Is(err, pack.ErrMerge) || errors.Is(err, pack.ErrDone) || errors.Is(err, pack.ErrOtherJob) {
			err = proc.Refused(err)
		}
		if err != nil {
			return proc.Ended(ctx, err)
		}
		if res.Elsewhere > 0 {
			fmt.Fprintf(os.Stderr, "%d objects are not in the folders of the parts: they must be in the bucket before the dataset is used (sn3 data verify says)\n", res.Elsewhere)
		}
		fmt.Printf("%d parts, %d tokens to train on, %d held out\nmanifest %s\nroot     %s\n", c.NArg(), res.Manifest.Tokens(data.Train), res.Manifest.Tokens(data.HeldOut),
			res.Spec.Manifest, res.Spec.Root)
		return nil
	})
}

// printJSON prints a value as other commands do.
func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
