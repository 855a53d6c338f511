package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/hf"
	"sn3/model/tokenizer"
)

// source is a model to try: its folder, checked, and its tokenizer. No weight has been read yet.
type source struct {
	*hf.Folder
	what  string
	tok   tokenizer.Tokenizer // nil: noTok says why
	noTok error
	files map[string][]byte // hf.Companions, of what is converted
	clean func() error
}

// Close gives up the folder.
func (s *source) Close() error {
	err := s.Folder.Close()
	if s.clean != nil {
		err = errors.Join(err, s.clean())
	}
	return err
}

// modelArg is the folder that a command was given, as its argument or with --checkpoint; "" for none.
func modelArg(c *cli.Context) (string, error) {
	switch c.NArg() {
	case 0:
		return c.String("checkpoint"), nil
	case 1:
		return c.Args().First(), nil
	}
	return "", proc.Usage(fmt.Errorf("%s takes at most one folder, got %d", c.Command.Name, c.NArg()))
}

// openSource opens a folder, or the newest checkpoint of a network, which is fetched into a temporary folder.
func openSource(ctx context.Context, dir string, n *network) (*source, error) {
	if dir != "" {
		return openFolder(dir, dir)
	}
	cp, err := n.newest(ctx, nil)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "sn3-checkpoint-")
	if err != nil {
		return nil, fmt.Errorf("make temporary folder: %w", err)
	}
	clean := func() error { return os.RemoveAll(tmp) }
	if err := cp.save(ctx, tmp, hf.F32); err != nil {
		return nil, errors.Join(err, clean())
	}
	s, err := openFolder(tmp, fmt.Sprintf("window %d", cp.manifest.Window))
	if err != nil {
		return nil, errors.Join(err, clean())
	}
	s.clean = clean
	return s, nil
}

// openFolder opens a folder to run its model.
func openFolder(dir, what string) (*source, error) {
	s, err := openModel(dir, what)
	if err != nil {
		return nil, err
	}
	if s.tok == nil {
		return nil, errors.Join(proc.Refused(s.noTok), s.Close())
	}
	return s, nil
}

// openModel opens a folder to convert it; that needs no tokenizer, but one that is there must be the model's.
func openModel(dir, what string) (*source, error) {
	f, err := hf.OpenFolder(dir)
	switch {
	case errors.Is(err, hf.ErrFormat):
		return nil, proc.Refused(err)
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(*fs.PathError)):
		return nil, proc.Usage(err)
	case err != nil:
		return nil, err
	}
	s := &source{Folder: f, what: what}
	if s.tok, s.noTok = tokenizer.Open(dir); s.noTok != nil {
		s.tok = nil
		return s, nil
	}
	if err := fits(f.Config, s.tok); err != nil {
		return nil, errors.Join(proc.Refused(err), f.Close())
	}
	return s, nil
}

// fits refuses a tokenizer that is not the model's. A model may have a few rows more than there are tokens: embeddings are
// padded to round numbers (by 2 % in the models that do it most).
func fits(c model.Config, tok tokenizer.Vocabulary) error {
	if n := tok.Vocab(); n > c.Vocab || n < c.Vocab-c.Vocab/16 {
		return fmt.Errorf("config.json has vocab_size %d, tokenizer.json %d tokens: they are not of the same model", c.Vocab, n)
	}
	return nil
}

// engineFlags say how a model is run.
func engineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "threads", Value: runtime.NumCPU(), Usage: "compute `N` threads"},
		&cli.StringFlag{Name: "precision", Value: "f32", Usage: "of matrix products: `f32|bf16`"},
	}
}

func engineOptions(c *cli.Context) (model.Options, error) {
	o := model.Options{Threads: c.Int("threads"), Precision: model.Precision(c.String("precision"))}
	if o.Threads < 1 {
		return o, proc.Usage(fmt.Errorf("--threads %d: at least 1", o.Threads))
	}
	if o.Precision != model.F32 && o.Precision != model.BF16 {
		return o, proc.Usage(fmt.Errorf("unknown precision %q; use f32 or bf16", o.Precision))
	}
	return o, nil
}

// readInput reads a text from a file, or from stdin if it is "-". A closed context ends the wait for somebody's typing, or for
// whoever writes to a pipe.
func readInput(ctx context.Context, path string, limit int64) ([]byte, error) {
	type read struct {
		b   []byte
		err error
	}
	done := make(chan read, 1)
	go func() {
		b, err := readFile(path, limit)
		done <- read{b, err}
	}()
	select {
	case r := <-done:
		return r.b, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func readFile(path string, limit int64) ([]byte, error) {
	if path == "-" {
		return readAtMost(os.Stdin, "stdin", limit)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, proc.Usage(err)
	}
	defer f.Close()
	return readAtMost(f, path, limit)
}

func readAtMost(r io.Reader, name string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, proc.Refused(fmt.Errorf("%s is longer than %d MiB", name, limit>>20))
	}
	return b, nil
}
