package pack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sn3/chain"
	"sn3/model/data"
)

// ErrMerge: the parts do not belong together, or make no dataset that can be trained on.
var ErrMerge = errors.New("pack: the parts make no dataset")

// Merged says what Merge made.
type Merged struct {
	Spec      chain.DatasetSpec
	Manifest  *data.Manifest
	Objects   int // linked or copied into the folder
	Elsewhere int // not in the folders of the parts: they must be in the bucket

	elsewhere map[chain.Hash]bool
}

// opened is a part.
type opened struct {
	dir   string
	pin   data.Pin
	m     *data.Manifest
	index int // 0: not a numbered part
	form  string
}

// Merge joins parts, each a folder with at least its dataset.json and manifest, into one dataset below out. Shards stay as they
// are: they are linked (or copied) where the parts hold them, and else expected in the bucket. Numbered parts must be all there,
// each once, and are put in order; others follow as given.
//
// A document has one hash, so it is held out everywhere or nowhere: no duplicate lies in both splits, provided that all parts
// hold out one in the same N, which is checked. Parts cut by document share no document. Parts cut by file, and datasets that
// were packed apart, may share some; the same shard twice is refused.
func Merge(ctx context.Context, out string, dirs []string) (Merged, error) {
	parts, err := openParts(dirs)
	if err != nil {
		return Merged{}, err
	}
	m, err := join(parts)
	if err != nil {
		return Merged{}, err
	}
	for name, what := range map[string]error{data.PinFile: ErrDone, workFolder: ErrOtherJob} {
		if exists(filepath.Join(out, name)) {
			return Merged{}, fmt.Errorf("merge into %s: %w; give another folder", out, what)
		}
	}
	if err := os.MkdirAll(filepath.Join(out, "data"), 0o755); err != nil {
		return Merged{}, fmt.Errorf("make output folder: %w", err)
	}
	res := Merged{Manifest: m, elsewhere: map[chain.Hash]bool{}}
	for _, p := range parts {
		if err := p.bring(ctx, out, &res); err != nil {
			return res, fmt.Errorf("merge %s: %w", p.dir, err)
		}
	}
	res.Elsewhere = len(res.elsewhere)
	s := &store{dir: out, fault: func(string) error { return nil }}
	if res.Spec, err = m.Put(s.put); err != nil {
		return res, err
	}
	return res, s.finish(data.Pin{Manifest: res.Spec.Manifest, Root: res.Spec.Root})
}

// openParts reads the manifests and puts the parts in order.
func openParts(dirs []string) ([]opened, error) {
	var parts []opened
	for _, dir := range dirs {
		pin, err := data.ReadPin(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open part: %w; %s holds no finished dataset: run its sn3 data pack to the end", err, dir)
		}
		if err != nil {
			return nil, fmt.Errorf("open part %s: %w", dir, err)
		}
		m, err := data.ReadManifest(dir, pin)
		if err != nil {
			return nil, fmt.Errorf("open part %s: %w", dir, err)
		}
		p := opened{dir: dir, pin: pin, m: m}
		number, form, ok := strings.Cut(m.Provenance.Part, "/")
		if ok {
			if p.index, err = strconv.Atoi(number); err != nil || p.index < 1 {
				return nil, fmt.Errorf("open part %s: %w: it calls itself %q", dir, ErrMerge, m.Provenance.Part)
			}
			p.form = form
		}
		parts = append(parts, p)
	}
	slices.SortStableFunc(parts, func(a, b opened) int { return a.index - b.index })
	return parts, complete(parts)
}

// complete checks that numbered parts are all there.
func complete(parts []opened) error {
	if len(parts) == 0 {
		return fmt.Errorf("%w: there are none", ErrMerge)
	}
	form := parts[len(parts)-1].form
	if form == "" {
		return nil
	}
	total, _, _ := strings.Cut(form, " ")
	n, err := strconv.Atoi(total)
	if err != nil || n < 1 {
		return fmt.Errorf("%w: %s calls itself part of %q", ErrMerge, parts[len(parts)-1].dir, form)
	}
	have := map[int]string{}
	for _, p := range parts {
		switch {
		case p.index == 0:
			return fmt.Errorf("%w: %s is whole, others are parts: merge the parts first", ErrMerge, p.dir)
		case p.form != form:
			return fmt.Errorf("%w: %s is part %d/%s, others are of %s", ErrMerge, p.dir, p.index, p.form, form)
		case have[p.index] != "":
			return fmt.Errorf("%w: %s and %s are both part %d", ErrMerge, have[p.index], p.dir, p.index)
		}
		have[p.index] = p.dir
	}
	for i := 1; i <= n; i++ {
		if have[i] == "" {
			return fmt.Errorf("%w: part %d of %d is missing", ErrMerge, i, n)
		}
	}
	return nil
}

// join makes the manifest of all parts.
func join(parts []opened) (*data.Manifest, error) {
	first := parts[0].m
	m := &data.Manifest{Vocab: first.Vocab, Provenance: first.Provenance}
	m.Provenance.Part, m.Provenance.Sources = "", nil
	from := map[chain.Hash]string{}
	for _, p := range parts {
		a, b := first.Provenance, p.m.Provenance
		switch {
		case b.Tokenizer != a.Tokenizer || p.m.Vocab != first.Vocab || b.BOS != a.BOS || b.EOS != a.EOS:
			return nil, fmt.Errorf("%w: %s and %s have other tokenizers, marks or vocabularies", ErrMerge, parts[0].dir, p.dir)
		case b.Special != a.Special:
			return nil, fmt.Errorf("%w: %s and %s made other tokens of control tokens in the text (--special-tokens)", ErrMerge, parts[0].dir, p.dir)
		case b.HeldOut != a.HeldOut || b.HeldOut == 0 && len(parts) > 1:
			return nil, fmt.Errorf("%w: %s holds out one document in %d, %s one in %d: a document could be in both splits", ErrMerge, parts[0].dir, a.HeldOut, p.dir, b.HeldOut)
		}
		for s := range m.Shards {
			for _, x := range p.m.Shards[s] {
				if old := from[x.Sum]; old != "" {
					return nil, fmt.Errorf("%w: %s and %s hold the same shard %s", ErrMerge, old, p.dir, x.Sum)
				}
				from[x.Sum] = p.dir
			}
			m.Shards[s] = append(m.Shards[s], p.m.Shards[s]...)
		}
		for _, x := range b.Sources {
			at := slices.IndexFunc(m.Provenance.Sources, func(y data.Source) bool { return y.Name == x.Name && y.Licence == x.Licence })
			if at < 0 {
				m.Provenance.Sources = append(m.Provenance.Sources, x)
				continue
			}
			m.Provenance.Sources[at].Add(x)
		}
	}
	if train, held := m.Tokens(data.Train), m.Tokens(data.HeldOut); train == 0 || held == 0 {
		return nil, fmt.Errorf("%w: together they hold %d tokens to train on and %d held out; both splits must hold text: pack them again with a larger part held out (--held-out)",
			ErrMerge, train, held)
	}
	return m, nil
}

// bring links or copies the objects that a part holds.
func (p opened) bring(ctx context.Context, out string, res *Merged) error {
	var sums []chain.Hash
	for _, list := range p.m.Shards {
		for _, x := range list {
			sums = append(sums, x.Sum)
		}
	}
	if sum, ok := p.m.Provenance.TokenizerSum(); ok {
		sums = append(sums, sum) // the same of all parts
	}
	for _, sum := range sums {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := filepath.FromSlash(data.Key(sum))
		from, to := filepath.Join(p.dir, key), filepath.Join(out, key)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			res.elsewhere[sum] = true
			continue
		}
		if err != nil {
			return err
		}
		delete(res.elsewhere, sum)
		if !info.Mode().IsRegular() || os.Link(from, to) != nil { // a link, which leads nowhere from there; another disk
			if err := copyChecked(from, to, sum); err != nil {
				return err
			}
		}
		res.Objects++
	}
	return nil
}

// copyChecked copies an object, which must be what its name says.
func copyChecked(from, to string, sum chain.Hash) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, data.MaxTokenizer+1))
	if err != nil {
		return err
	}
	if chain.Hash(sha256.Sum256(b)) != sum {
		return fmt.Errorf("copy %s: %w", from, data.ErrCorrupt)
	}
	return keep(to, b)
}
