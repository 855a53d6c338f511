package hf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sn3/model"
)

// DefaultShard is the most bytes of tensors in a file, unless told otherwise: 5 GB, what transformers 4 wrote.
const DefaultShard = 5_000_000_000

// Companions are the files beside the weights that belong to a model and that a converter copies as they are.
var Companions = []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
	"tokenizer.model", "chat_template.jinja", "chat_template.json", "generation_config.json", "README.md", "LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md"}

// maxCompanion bounds a companion file in bytes; the largest tokenizers have about 40 MB.
const maxCompanion = 256 << 20

// ErrNotEmpty: the folder to write has something in it.
var ErrNotEmpty = errors.New("hf: the output folder is not empty")

// SaveOptions say how Save writes a folder.
type SaveOptions struct {
	DType    DType
	MaxShard int64             // most bytes of tensors in a file; 0: DefaultShard. A larger tensor gets a file of its own
	Meta     map[string]string // metadata of every weight file; nil: {"format": "pt"}
	Special  Special
	Files    map[string][]byte // further files, by name
	// Progress is told after every 64 rows how many of all values are written; nil: nobody.
	Progress func(done, all int)
}

// Save writes a model folder that transformers opens: config.json, the weights in one file or in shards with an index, and
// o.Files. The folder appears whole or not at all: it is written beside and renamed. dir must be empty or not exist. In memory
// is at most one band of 64 rows, beside what w holds.
func Save(ctx context.Context, dir string, w model.Weights, o SaveOptions) error {
	if err := vacant(dir); err != nil {
		return err
	}
	if o.MaxShard == 0 {
		o.MaxShard = DefaultShard
	}
	if o.MaxShard < 0 {
		return fmt.Errorf("save model: shards of %d bytes", o.MaxShard)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".partial-")
	if err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	if err = fill(ctx, tmp, w, o); err == nil {
		err = commit(tmp, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save model: %w", err), os.RemoveAll(tmp)) // makes room on a full disk
	}
	return nil
}

// vacant refuses a folder with something in it, before anything long begins.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("save model: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("%w: %s; choose another", ErrNotEmpty, dir)
	}
	return nil
}

// commit gives a whole folder its name. A name that was taken meanwhile by anything but an empty folder stays as it is.
func commit(tmp, dir string) error {
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := syncFile(tmp); err != nil {
		return err
	}
	if st, err := os.Lstat(dir); err == nil && st.IsDir() {
		if err := os.Remove(dir); err != nil { // fails unless it is empty
			return err
		}
	}
	if err := os.Rename(tmp, dir); err != nil { // fails over a file
		return err
	}
	return syncFile(filepath.Dir(dir))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// fill writes all files of a folder.
func fill(ctx context.Context, dir string, w model.Weights, o SaveOptions) error {
	c := w.Layout().Config()
	small := map[string][]byte{"config.json": ConfigWith(c, o.DType, o.Special)}
	for name, b := range o.Files {
		small[name] = b
	}
	shards, err := plan(w.Layout().Tensors(), o)
	if err != nil {
		return err
	}
	if len(shards) > 1 {
		if small[indexFile], err = index(shards, o.DType); err != nil {
			return err
		}
	}
	for name, b := range small {
		if err := writeFile(filepath.Join(dir, name), func(f *os.File) error { _, err := f.Write(b); return err }); err != nil {
			return err
		}
	}
	p := newPrinter(w, o.DType)
	defer p.stop()
	done := 0
	p.done = func(n int) error {
		if done += n; o.Progress != nil {
			o.Progress(done, w.Layout().Params())
		}
		return context.Cause(ctx)
	}
	for i, tensors := range shards {
		err := writeFile(filepath.Join(dir, shardName(i, len(shards))), func(f *os.File) error { return p.file(f, tensors, o.Meta) })
		if err != nil {
			return err
		}
	}
	return nil
}

// plan cuts the tensors, in order, into files of at most o.MaxShard bytes.
func plan(tensors []model.Tensor, o SaveOptions) (out [][]model.Tensor, err error) {
	width, err := o.DType.width()
	if err != nil {
		return nil, err
	}
	left := int64(0)
	for _, t := range tensors {
		size := width * int64(t.Len())
		if len(out) == 0 || size > left {
			out, left = append(out, nil), o.MaxShard
		}
		out[len(out)-1] = append(out[len(out)-1], t)
		left -= size
	}
	return out, nil
}

// shardName is the name of file i of n.
func shardName(i, n int) string {
	if n == 1 {
		return singleFile
	}
	return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
}

// index lists which file holds a tensor.
func index(shards [][]model.Tensor, dtype DType) ([]byte, error) {
	width, err := dtype.width()
	if err != nil {
		return nil, err
	}
	total, where := int64(0), map[string]string{}
	for i, tensors := range shards {
		for _, t := range tensors {
			total += int64(t.Len())
			where[t.Name] = shardName(i, len(shards))
		}
	}
	b, err := json.MarshalIndent(map[string]any{"metadata": map[string]int64{"total_parameters": total, "total_size": width * total}, "weight_map": where}, "", "  ")
	return append(b, '\n'), err
}

// writeFile makes a file that is on the disk when it returns.
func writeFile(path string, write func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReadCompanions reads those of Companions that a folder has.
func ReadCompanions(dir string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, name := range Companions {
		b, err := readSmall(filepath.Join(dir, name), maxCompanion)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		out[name] = b
	}
	return out, nil
}
