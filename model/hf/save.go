package hf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

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
// o.Files. The folder appears whole or not at all: it is written beside and renamed. One that is there and empty (it may be a
// mount) is filled at the end, config.json last: nobody opens it before. In memory is at most one band of 64 rows, beside what
// w holds.
func Save(ctx context.Context, dir string, w model.Weights, o SaveOptions) error {
	there, err := vacant(dir)
	if err != nil {
		return err
	}
	if o.MaxShard == 0 {
		o.MaxShard = DefaultShard
	}
	if o.MaxShard < 0 {
		return fmt.Errorf("save model: shards of %d bytes", o.MaxShard)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	parent, name, commit := filepath.Dir(dir), filepath.Base(dir)+".partial-", moveTo
	if there {
		parent, name, commit = dir, ".partial-", moveInto
	} else if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, name)
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

// Vacant refuses a folder that Save would: do so before anything long begins.
func Vacant(dir string) error {
	_, err := vacant(dir)
	return err
}

// vacant refuses a folder with something in it, and says whether there is an empty one.
func vacant(dir string) (there bool, err error) {
	if dir == "" {
		return false, errors.New("save model: the output folder has no name")
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if to, err := os.Readlink(dir); err == nil {
			return false, fmt.Errorf("save model: %s is a link to %s, which is not there", dir, to)
		}
		return false, nil
	case err != nil:
		return false, fmt.Errorf("save model: %w", err)
	case len(entries) > 0:
		return false, fmt.Errorf("%w: %s has %s; choose another", ErrNotEmpty, dir, entries[0].Name())
	}
	return true, nil
}

// moveTo gives a whole folder its name. A name that was taken meanwhile stays as it is.
func moveTo(tmp, dir string) error {
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := syncFile(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil { // fails over a file and over a folder
		return err
	}
	return syncFile(filepath.Dir(dir))
}

// moveInto moves the files of a whole folder to the one above, unless something has come there meanwhile.
func moveInto(tmp, dir string) (err error) {
	if now, err := os.ReadDir(dir); err != nil || len(now) != 1 {
		return errors.Join(fmt.Errorf("%w: %s was empty at first", ErrNotEmpty, dir), err)
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	sort.SliceStable(entries, func(i, j int) bool { return entries[j].Name() == "config.json" && entries[i].Name() != "config.json" })
	for _, e := range entries {
		to := filepath.Join(dir, e.Name())
		if err := os.Rename(filepath.Join(tmp, e.Name()), to); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, os.Remove(to))
			}
		}()
	}
	return errors.Join(os.Remove(tmp), syncFile(dir))
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

// ReadCompanions reads those of Companions that a folder has. One that is a link must lead to a file of the folder, or of the
// blobs beside it, which the Hub's cache links to: else a stranger's folder could carry off whatever its reader may read.
func ReadCompanions(dir string) (map[string][]byte, error) {
	out := map[string][]byte{}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("read companions: %w", err)
	}
	for _, name := range Companions {
		path := filepath.Join(dir, name)
		b, err := readSmall(path, maxCompanion)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = within(dir, path)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		out[name] = b
	}
	return out, nil
}

// within refuses a path that leads out of a folder and its blobs.
func within(dir, path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	for _, home := range []string{dir, filepath.Join(dir, "..", "..", "blobs")} {
		if strings.HasPrefix(real, home+string(filepath.Separator)) {
			return nil
		}
	}
	return invalid("%s is a link to %s, out of the folder: put the file itself there if it belongs to the model", filepath.Base(path), real)
}

// regular refuses companions that nobody could read to their end.
func regular(dir string) error {
	for _, name := range Companions {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && !st.Mode().IsRegular() {
			return invalid("%s is not a regular file", name)
		}
	}
	return nil
}
