package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model/data"
	"sn3/storage"
)

// place is where a dataset lies.
type place struct {
	name string
	from data.Getter
	pin  data.Pin
}

// datasets calls f with the dataset of an argument, a folder or a bucket's address, or with every mirror of the network's.
func datasets(c *cli.Context, f func(ctx context.Context, p place) error) error {
	if c.NArg() > 1 {
		return proc.Usage(errors.New("give one FOLDER or bucket URL, or --local or --chain for the network's dataset"))
	}
	if c.NArg() == 0 {
		return with(c, nil, func(ctx context.Context, n *network) error {
			from, err := n.mirrors()
			if err != nil {
				return err
			}
			var errs []error
			for _, m := range from {
				g, ok := m.Ranger.(data.Getter)
				if !ok {
					return fmt.Errorf("mirror %s cannot be read whole", m.Name)
				}
				errs = append(errs, f(ctx, place{m.Name, g, data.Pin{Manifest: n.run.Dataset.Manifest, Root: n.run.Dataset.Root}}))
			}
			return errors.Join(errs...)
		})
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	p, err := placeOf(ctx, c.Args().First())
	if err != nil {
		return proc.Ended(ctx, err)
	}
	return proc.Ended(ctx, f(ctx, p))
}

// placeOf opens a folder or bucket and reads which dataset it holds.
func placeOf(ctx context.Context, arg string) (p place, err error) {
	p.name = arg
	if info, err := os.Stat(arg); err == nil && info.IsDir() {
		p.from = data.Folder(arg)
	} else {
		l, policy, err := storage.ParseURL(arg)
		if err != nil {
			return p, proc.Usage(fmt.Errorf("%q is neither a folder nor a bucket: %w", arg, err))
		}
		b, err := storage.Open(l, nil, policy)
		if err != nil {
			return p, err
		}
		p.name, p.from = l.String(), b
	}
	raw, err := p.from.Get(ctx, data.PinFile, 1<<20)
	if err != nil {
		return p, fmt.Errorf("read %s in %s: %w; it says which dataset there is, and comes with the folder that sn3 data pack makes", data.PinFile, p.name, err)
	}
	p.pin, err = data.ParsePin(raw)
	return p, err
}

func dataVerifyCommand() *cli.Command {
	return command("verify", "read every object of a dataset and check hashes, proofs and ids", "[FOLDER or BUCKET URL]", -1, []cli.Flag{
		&cli.IntFlag{Name: "workers", DefaultText: "one for each core", Usage: "read `N` objects at once"},
	}, func(c *cli.Context) error {
		workers := c.Int("workers")
		if workers < 0 {
			return proc.Usage(fmt.Errorf("--workers %d: at least 1", workers))
		}
		if workers == 0 {
			workers = runtime.NumCPU()
		}
		return datasets(c, func(ctx context.Context, p place) error {
			m, err := data.GetManifest(ctx, p.from, p.pin)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			v, err := data.Verify(ctx, p.from, m, workers, func(key string, err error) {
				fmt.Fprintf(os.Stderr, "bad: %s: %v\n", key, err)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			fmt.Printf("%s: %d objects, %d tokens of a vocabulary of %d: all as the manifest says\n", p.name, v.Objects+1, v.Tokens, m.Vocab)
			return nil
		})
	})
}

func dataStatCommand() *cli.Command {
	return command("stat", "say what is in a dataset", "[FOLDER or BUCKET URL]", -1, []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "as JSON"},
	}, func(c *cli.Context) error {
		return datasets(c, func(ctx context.Context, p place) error {
			m, err := data.GetManifest(ctx, p.from, p.pin)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if c.Bool("json") {
				return printJSON(fields{"manifest": p.pin.Manifest, "root": p.pin.Root, "vocab": m.Vocab, "bytes_per_token": m.Width(),
					"shards": []int{len(m.Shards[data.Train]), len(m.Shards[data.HeldOut])}, "provenance": m.Provenance})
			}
			return printStat(p, m)
		})
	})
}

func printStat(p place, m *data.Manifest) error {
	v := m.Provenance
	fmt.Printf("manifest   %s\nroot       %s\ntokenizer  %s, vocabulary %d, %d bytes a token\n", p.pin.Manifest, p.pin.Root, v.Tokenizer, m.Vocab, m.Width())
	if v.HeldOut > 0 {
		fmt.Printf("held out   one document in %d, by hash\n", v.HeldOut)
	}
	switch v.Special {
	case data.SpecialAsText:
		fmt.Println("specials   control tokens spelled out in the text are text")
	case data.SpecialAsTokens:
		fmt.Println("specials   control tokens spelled out in the text are those tokens")
	}
	if v.Part != "" {
		fmt.Printf("part       %s: merge it with the others before use\n", v.Part)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SOURCE\tLICENCE\tSPLIT\tDOCUMENTS\tTOKENS\tTEXT BYTES\tBYTES/TOKEN\tDUPLICATES\tEMPTY\tBAD")
	word := func(s string) string {
		if s == "" {
			return "not given"
		}
		return s
	}
	all := data.Source{Name: "all"}
	rows := slices.Clone(v.Sources)
	for _, s := range v.Sources {
		all.Add(s)
	}
	if len(rows) > 1 {
		rows = append(rows, all)
	}
	for _, s := range rows {
		for _, t := range []data.Split{data.Train, data.HeldOut} {
			rest := "\t\t"
			if t == data.Train {
				rest = fmt.Sprintf("%d\t%d\t%d", s.Duplicates, s.Empty, s.Bad)
			}
			fmt.Fprintf(w, "%s\t%s\t%v\t%d\t%d\t%d\t%.3f\t%s\n", word(s.Name), word(s.Licence), t, s.Documents[t], s.Tokens[t], s.Bytes[t],
				float64(s.Bytes[t])/float64(max(s.Tokens[t], 1)), rest)
		}
	}
	return w.Flush()
}
