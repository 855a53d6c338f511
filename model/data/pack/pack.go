// Package pack makes datasets (package data) from files: .txt, .jsonl and .parquet, plain or packed with gzip or zstd. It reads
// them as streams, tokenises with several workers, drops exact duplicates, splits by document hash, and goes on where it was
// killed. The result depends on names below the arguments, contents and options only, not on workers, crashes, or the order in
// which a file system lists a folder.
package pack

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"sn3/chain"
	"sn3/model/data"
	"sn3/model/tokenizer"
)

// Defaults of Options, and a limit.
const (
	DefaultHeldOut = 100       // one document in so many
	DefaultMemory  = 384 << 20 // of the set of hashes: about 13 million documents
	DefaultField   = "text"
	MaxWorkers     = 1024
)

// Options say what to pack; zero values are the defaults.
type Options struct {
	Inputs []string // files and folders
	AsText []string // more endings of text files, as ".md"
	Field  string   // of a line of JSON
	Column string   // of a parquet file, nested ones with dots

	Tokenizer tokenizer.Tokenizer
	Vocab     int    // of the model if it is larger than the tokenizer's
	HeldOut   uint64 // N: documents whose hash is a multiple of N are held out
	Source    string // where the text comes from
	Licence   string
	// Special makes special tokens, BOS and EOS of what spells them in the text, for text that was prepared so. Else it is text
	// like any other, and no document can end itself or begin another.
	Special bool
	Part    int // pack part Part of Parts only, from 1; 0 with 0 packs all
	Parts   int
	// ByDocument cuts parts by document hash: every part reads all inputs, and no two parts hold the same document. Else parts
	// are cut by file.
	ByDocument bool

	Workers int    // tokenise so many batches at once
	MaxBad  uint64 // go on without so many documents that cannot be read
	Memory  int64  // bytes for the set of hashes

	Progress func(Progress) // called after every batch; may be nil
	Warn     func(string)   // told of every bad document; may be nil

	fault func(step string) error // tests
	every int64                   // tests: bytes between checkpoints
	pages int                     // tests: pages of a shard
	batch int64                   // tests: bytes of a batch
}

// Progress says how far a job is.
type Progress struct {
	Read, Size  int64 // bytes of the input files
	Source      data.Source
	File, Files int
	Saved       bool // a life after this one begins no earlier
}

// Result is a finished job.
type Result struct {
	Spec    chain.DatasetSpec
	Source  data.Source
	Vocab   int
	Files   int
	Skipped Skipped
	Resumed bool // it went on where an earlier life ended
	Done    bool // it was done already; nothing was read
}

// ErrBad: more documents cannot be read than the options allow.
var ErrBad = errors.New("pack: documents that cannot be read")

// ErrDone: the folder holds another finished dataset.
var ErrDone = errors.New("pack: the folder holds a finished dataset of another job")

func (o Options) withDefaults() (Options, error) {
	set := func(v *string, def string) {
		if *v == "" {
			*v = def
		}
	}
	set(&o.Field, DefaultField)
	set(&o.Column, DefaultField)
	if o.HeldOut == 0 {
		o.HeldOut = DefaultHeldOut
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Workers == 0 {
		o.Workers = min(runtime.NumCPU(), MaxWorkers)
	}
	if o.every == 0 {
		o.every = checkpointBytes
	}
	if o.batch == 0 {
		o.batch = batchBytes
	}
	if o.fault == nil {
		o.fault = func(string) error { return nil }
	}
	if o.Tokenizer == nil {
		return o, errors.New("pack: no tokenizer")
	}
	if o.Vocab == 0 {
		o.Vocab = o.Tokenizer.Vocab()
	}
	for _, w := range []string{o.Source, o.Licence} {
		if err := data.CheckWord(w); err != nil {
			return o, fmt.Errorf("pack: source and licence: %w", err)
		}
	}
	switch {
	case o.Workers < 1 || o.Workers > MaxWorkers || o.Memory < 1<<20:
		return o, fmt.Errorf("pack: %d workers, %d bytes for hashes: 1 to %d, and at least 1 MiB", o.Workers, o.Memory, MaxWorkers)
	case o.HeldOut < 2:
		return o, fmt.Errorf("pack: one in %d held out would leave nothing to train on", o.HeldOut)
	case o.Parts < 0 || o.Part < 0 || o.Part > o.Parts || (o.Part == 0) != (o.Parts == 0):
		return o, fmt.Errorf("pack: part %d of %d", o.Part, o.Parts)
	case o.Vocab < o.Tokenizer.Vocab() || o.Vocab > data.MaxVocab:
		return o, fmt.Errorf("pack: a vocabulary of %d, the tokenizer has %d", o.Vocab, o.Tokenizer.Vocab())
	}
	return o, nil
}

// special is what the manifest says about control tokens in the text.
func (o Options) special() string {
	switch {
	case o.Tokenizer.Name() == data.ByteTokenizer:
		return ""
	case o.Special:
		return data.SpecialAsTokens
	}
	return data.SpecialAsText
}

// partName stands in the provenance of a part. It names the whole, so that parts of other inputs or options do not merge.
func (o Options) partName(whole [sha256.Size]byte) string {
	if o.Parts == 0 {
		return ""
	}
	by := "file"
	if o.ByDocument {
		by = "document"
	}
	return fmt.Sprintf("%d/%d by %s of %x", o.Part, o.Parts, by, whole[:8])
}

// job identifies what a result depends on: options, and names and sizes of all inputs.
func (o Options) job(files []input, bos, eos int) (whole [sha256.Size]byte, err error) {
	type named struct {
		Name   string
		Kind   kind
		Packed string
		Size   int64
	}
	list := make([]named, len(files))
	for i, f := range files {
		list[i] = named{f.name, f.kind, f.packed, f.size}
	}
	b, err := json.Marshal([]any{"sn3/pack/2", o.Tokenizer.Name(), bos, eos, o.special(), o.Vocab, o.Field, o.Column, o.HeldOut, o.Source, o.Licence, list})
	if err != nil {
		return whole, fmt.Errorf("pack: name the job: %w", err)
	}
	return sha256.Sum256(b), nil
}

// begin is the first line of a job's journal: its identity, and when the files it reads were changed.
func begin(whole [sha256.Size]byte, part string, files []input) header {
	stamp := sha256.New()
	for _, f := range files {
		stamp.Write(binary.BigEndian.AppendUint64(nil, uint64(f.stamp)))
	}
	job := sha256.Sum256(append(whole[:], part...))
	return header{hex.EncodeToString(job[:]), hex.EncodeToString(stamp.Sum(nil))}
}

// Run packs. After an error, or a death at any point, the same options go on where the last checkpoint was.
func Run(ctx context.Context, out string, o Options) (Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Result{}, err
	}
	files, skipped, err := list(o.Inputs, o.AsText)
	if err != nil {
		return Result{}, err
	}
	bos, eos, err := marks(o.Tokenizer)
	if err != nil {
		return Result{}, err
	}
	whole, err := o.job(files, bos, eos)
	if err != nil {
		return Result{}, err
	}
	if o.Parts > 0 && !o.ByDocument {
		if files, err = part(files, o.Part, o.Parts); err != nil {
			return Result{}, err
		}
	}
	name := o.partName(whole)
	h := begin(whole, name, files)
	res := Result{Vocab: o.Vocab, Files: len(files), Skipped: skipped}
	if done, err := finished(out, h, &res); err != nil || done && !exists(filepath.Join(out, workFolder)) {
		return res, err
	}
	res.Done = false
	p := &packer{o: o, part: name, files: files, bos: bos, eos: eos, store: &store{dir: out, fault: o.fault}, seen: newSeen(o.Memory), read: new(atomic.Int64)}
	for _, f := range files {
		p.size += f.size
	}
	if p.builder, err = data.NewBuilder(o.Vocab, p.store.put); err != nil {
		return res, err
	}
	if o.pages > 0 {
		p.builder.Shrink(o.pages)
	}
	err = p.run(ctx, h, &res)
	if err = errors.Join(err, p.store.close()); errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w; make room, then the same command goes on", err)
	}
	if err != nil {
		return res, fmt.Errorf("pack into %s: %w", out, err)
	}
	return res, nil
}

// finished says whether the folder holds the result of the same job; ErrDone if it is that of another.
func finished(out string, h header, res *Result) (bool, error) {
	pin, err := data.ReadPin(out)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if pin.Job != h.Job {
		return false, fmt.Errorf("%w: %s; give another folder", ErrDone, out)
	}
	res.Spec, res.Done = chain.DatasetSpec{Manifest: pin.Manifest, Root: pin.Root}, true
	m, err := data.ReadManifest(out, pin)
	if err != nil {
		return false, err
	}
	res.Source = m.Provenance.Sources[0]
	return true, nil
}

// packer is a job at work.
type packer struct {
	o        Options
	part     string // its name, "" for all
	files    []input
	bos, eos int
	store    *store
	builder  *data.Builder
	seen     *seen
	read     *atomic.Int64 // bytes of files
	size     int64         // of all of them

	at     position
	source data.Source
	count  int64  // hashes so far
	hashes []byte // those since the last checkpoint
	since  int64  // bytes since the last checkpoint
}

func (p *packer) run(ctx context.Context, h header, res *Result) error {
	records, err := p.store.start(h)
	if err != nil {
		return err
	}
	// it may have been done between the look before and the lock, or by a life that died while it cleaned up
	if done, err := finished(p.store.dir, h, res); done || err != nil && len(records) == 0 {
		return errors.Join(err, p.store.clean())
	} else if err != nil {
		return err
	}
	if err := p.store.sweep(); err != nil {
		return err
	}
	last, err := p.store.restore(records, p.builder, p.seen)
	if err != nil {
		return err
	}
	res.Resumed = len(records) > 0
	p.at, p.source, p.count = last.At, last.Source, last.Seen
	p.source.Name, p.source.Licence = p.o.Source, p.o.Licence
	if p.at.File < 0 || p.at.File > len(p.files) {
		return fmt.Errorf("%w: it is at file %d of %d", ErrJournal, p.at.File, len(p.files))
	}
	if p.source.Bad > p.o.MaxBad {
		return p.tooBad()
	}
	if err := p.stream(ctx); err != nil {
		return err
	}
	if err := p.checkpoint(); err != nil { // so that the last steps can be repeated
		return err
	}
	res.Source = p.source
	if err := p.enough(); err != nil {
		return err
	}
	return p.finish(h, res)
}

// enough refuses a dataset that cannot be used. A part may hold nothing: its files may, and the others wait for it.
func (p *packer) enough() error {
	d := p.source.Documents
	if p.o.Parts > 0 {
		return nil
	}
	if d[data.Train]+d[data.HeldOut] == 0 {
		return fmt.Errorf("no document in %d files: %d bad, %d empty", len(p.files), p.source.Bad, p.source.Empty)
	}
	if d[data.Train] == 0 || d[data.HeldOut] == 0 {
		share := max(2, d[data.Train]/4)
		if d[data.Train] == 0 {
			share = p.o.HeldOut + 1
		}
		return fmt.Errorf("%d documents to train on and %d held out; both splits must hold text: give more documents, or hold out another share (--held-out 1/%d, in another folder)",
			d[data.Train], d[data.HeldOut], share)
	}
	return nil
}

func (p *packer) tooBad() error {
	return fmt.Errorf("%w: %d, allowed are %d; repair the input, or go on without them: --max-bad %d", ErrBad, p.source.Bad, p.o.MaxBad, max(10, 10*p.source.Bad))
}

func (p *packer) finish(h header, res *Result) error {
	if p.o.Tokenizer.Name() != data.ByteTokenizer {
		file := p.o.Tokenizer.Files()["tokenizer.json"]
		if err := p.store.put(sha256.Sum256(file), file); err != nil {
			return fmt.Errorf("keep tokenizer: %w", err)
		}
	}
	_, spec, err := p.builder.Finish(data.Provenance{Tokenizer: p.o.Tokenizer.Name(), BOS: p.bos, EOS: p.eos, Special: p.o.special(), HeldOut: p.o.HeldOut,
		Part: p.part, Sources: []data.Source{p.source}})
	if err != nil {
		return err
	}
	res.Spec = spec
	return p.store.finish(data.Pin{Manifest: spec.Manifest, Root: spec.Root, Job: h.Job})
}

// Kinds lists the file name endings that are read, for help texts.
func Kinds() string { return strings.Join(slices.Sorted(maps.Keys(endings)), ", ") }
