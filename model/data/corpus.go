package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Defaults of Options.
const (
	DefaultMaxTrain   = 24 << 20 // bytes to train on
	DefaultMinTrain   = 1 << 20
	DefaultMinHeldOut = 257 << 10 // 256 KiB of predicted bytes (DESIGN §11) and a little
	heldOutPart       = 20        // one part in 20 is held out
	maxFile           = 16 << 20  // of a larger file only so much is read
	generatedHead     = 8 << 10   // where a "Code generated" line is looked for
)

// ErrNoText: the folder does not hold enough text.
var ErrNoText = errors.New("data: not enough text")

// Options say what to collect; zero values are the defaults.
type Options struct {
	Exts       []string // file name endings wanted, such as ".go"; nil takes every text file
	MaxTrain   int64
	MinTrain   int64
	MinHeldOut int64
}

func (o Options) withDefaults() Options {
	set := func(v *int64, def int64) {
		if *v == 0 {
			*v = def
		}
	}
	set(&o.MaxTrain, DefaultMaxTrain)
	set(&o.MinTrain, min(DefaultMinTrain, o.MaxTrain))
	set(&o.MinHeldOut, DefaultMinHeldOut)
	return o
}

// Corpus is text cut into its two splits, documents joined by a 0 byte.
type Corpus struct {
	Train, HeldOut []byte
	Report         Report
}

// Report says what was collected.
type Report struct {
	SplitBy    string `json:"split_by"` // "folder", "file" or "block"
	TrainFiles int    `json:"train_files"`
	HeldFiles  int    `json:"held_out_files"`
	Repeats    int    `json:"repeats"`  // held-out files left out because they mostly repeat training text
	Skipped    int    `json:"skipped"`  // files that are no text, or generated
	NotUsed    int    `json:"not_used"` // files beyond MaxTrain
}

// document is one piece of text and where it came from.
type document struct {
	name string // path below the root, with "/"; of a block with its number
	text []byte
}

// Collect reads the text files below dir. Left out are folders named testdata, vendor or with a leading dot, tables, code that
// says it is generated, and what is not UTF-8 without 0 bytes.
//
// Held out are whole packages (folders): in ascending order of SHA-256 of their path, those too large passed over, they fill
// a twentieth of the text, at least MinHeldOut; the others are trained on, up to MaxTrain. Held-out files that share more than
// half of their lines with the training text are dropped. A folder with too few packages is split by file, then by blocks of
// 16 KiB. The result depends only on names and contents.
func Collect(dir string, o Options) (*Corpus, error) {
	o = o.withDefaults()
	root, err := filepath.EvalSymlinks(dir) // WalkDir does not enter a root that is a link
	if err != nil {
		return nil, fmt.Errorf("collect text: %w; name a folder that exists", err)
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("collect text: %s is not a folder; name the folder that holds the text (%w)", dir, errors.Join(ErrNoText, err))
	}
	files, total, err := find(root, o.Exts)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	if need := o.MinTrain + o.MinHeldOut; total < need {
		return nil, fmt.Errorf("collect text in %s: %w: found %d KiB in %d files%s, need at least %d KiB; use a folder with more text", dir, ErrNoText,
			total>>10, len(files), ending(o.Exts), need>>10)
	}
	var last error
	for _, cut := range []splitter{byFolder(), byFile(), byBlock()} {
		c, err := collect(&reader{root: root}, files, total, cut, o)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrNoText) {
			return nil, unreadable(dir, err)
		}
		last = err
	}
	return nil, fmt.Errorf("collect text in %s: %w", dir, last)
}

// unreadable is an error of the disk: leaving a file out silently would make the corpus depend on who reads it.
func unreadable(dir string, err error) error {
	return fmt.Errorf("collect text in %s: %w; make it readable or use another folder", dir, err)
}

// ending says in words which files were wanted.
func ending(exts []string) string {
	if exts == nil {
		return ""
	}
	return " ending in " + strings.Join(exts, " or ")
}

// collect makes a corpus with one way of splitting.
func collect(r *reader, files []file, total int64, cut splitter, o Options) (*Corpus, error) {
	target := max(min(total, o.MaxTrain)/heldOutPart, o.MinHeldOut+o.MinHeldOut/4) // room for what is dropped
	c := &Corpus{Report: Report{SplitBy: cut.name}}
	var train, held []document
	var nTrain, nHeld int64
	for _, u := range cut.units(files) {
		if nTrain >= o.MaxTrain && nHeld >= target {
			c.Report.NotUsed += len(u.files)
			continue
		}
		docs, skipped, err := r.read(u)
		if err != nil {
			return nil, err
		}
		c.Report.Skipped += skipped
		if n := size(docs); nHeld < target && nHeld+n <= 2*target {
			held, nHeld = append(held, docs...), nHeld+n
			continue
		}
		docs = within(docs, o.MaxTrain-nTrain)
		train, nTrain = append(train, docs...), nTrain+size(docs)
	}
	held, c.Report.Repeats = original(held, train)
	c.Train, c.HeldOut = join(train), join(held)
	c.Report.TrainFiles, c.Report.HeldFiles = len(train), len(held)
	if int64(len(c.Train)) < o.MinTrain || int64(len(c.HeldOut)) < o.MinHeldOut {
		return nil, fmt.Errorf("%w: %d KiB to train on (need %d) and %d KiB held out (need %d); files left out: %d generated or no text, %d that repeat "+
			"others; use a folder with more text", ErrNoText, len(c.Train)>>10, o.MinTrain>>10, len(c.HeldOut)>>10, o.MinHeldOut>>10, c.Report.Skipped, c.Report.Repeats)
	}
	return c, nil
}

func size(docs []document) (n int64) {
	for _, d := range docs {
		n += int64(len(d.text)) + 1
	}
	return n
}

// within cuts docs to n bytes, the last one at a line.
func within(docs []document, n int64) []document {
	for i, d := range docs {
		if n -= int64(len(d.text)) + 1; n < 0 {
			d.text = wholeLines(d.text[:max(0, int64(len(d.text))+n)])
			return append(docs[:i:i], d) // the cut one may be empty: join leaves it out
		}
	}
	return docs
}

func wholeLines(b []byte) []byte { return b[:bytes.LastIndexByte(b, '\n')+1] }

// join sorts documents by name and ends each with a 0 byte.
func join(docs []document) []byte {
	slices.SortFunc(docs, func(a, b document) int { return strings.Compare(a.name, b.name) })
	out := make([]byte, 0, size(docs))
	for _, d := range docs {
		if len(d.text) > 0 {
			out = append(append(out, d.text...), 0)
		}
	}
	return out
}

// file is a candidate, by its path below the root with "/".
type file struct {
	name string
	size int64
}

// find lists the files whose names are wanted, and their total size.
func find(root string, exts []string) (files []file, total int64, err error) {
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if p != root && (e.Name() == "testdata" || e.Name() == "vendor" || strings.HasPrefix(e.Name(), ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !e.Type().IsRegular() || !wanted(e.Name(), exts) {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		n := min(info.Size(), maxFile)
		files, total = append(files, file{filepath.ToSlash(rel), n}), total+n
		return nil
	})
	return files, total, err
}

// wanted goes by the name alone. Tables of numbers are no text: tables.go, p256_table.go, malloc_tables_generated.go.
func wanted(name string, exts []string) bool {
	ext := path.Ext(name)
	if exts != nil && !slices.Contains(exts, ext) || strings.HasPrefix(name, ".") {
		return false
	}
	base := strings.TrimSuffix(name, ext)
	return ext != ".go" || !strings.Contains(base, "tables") && !strings.HasSuffix(base, "_table")
}

// reader reads units.
type reader struct {
	root  string
	whole map[string][]byte // files that are read block by block, checked; nil for what is no text
}

// read returns a unit's documents, and how many of its files are no text.
func (r *reader) read(u unit) (docs []document, skipped int, err error) {
	for _, f := range u.files {
		text, err := r.text(f, u.block >= 0)
		if err != nil {
			return nil, 0, err
		}
		if text == nil {
			if u.block <= 0 { // a file of many blocks counts once
				skipped++
			}
			continue
		}
		if u.block >= 0 {
			text = block(text, u.block, f.blocks())
			f.name = blockName(f, u.block)
		}
		docs = append(docs, document{f.name, text})
	}
	return docs, skipped, nil
}

// text reads a file, nil if it is generated, empty or not text; again says that the same file will be asked for again.
func (r *reader) text(f file, again bool) ([]byte, error) {
	if text, ok := r.whole[f.name]; ok {
		return text, nil
	}
	h, err := os.Open(filepath.Join(r.root, filepath.FromSlash(f.name)))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(h, maxFile))
	if err = errors.Join(err, h.Close()); err != nil {
		return nil, err
	}
	if len(text) == maxFile {
		text = wholeLines(text)
	}
	if len(text) == 0 || generated(text) || bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
		text = nil
	}
	if again {
		if r.whole == nil {
			r.whole = map[string][]byte{}
		}
		r.whole[f.name] = text
	}
	return text, nil
}

// generated says whether a program wrote the text (https://go.dev/s/generatedcode, and its likes in other languages).
func generated(text []byte) bool {
	for line := range bytes.Lines(text[:min(len(text), generatedHead)]) {
		for _, mark := range []string{"// Code generated ", "# Code generated ", "/* Code generated "} {
			if bytes.HasPrefix(line, []byte(mark)) {
				return true
			}
		}
	}
	return false
}
