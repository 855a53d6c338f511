package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"sn3/chain"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/internal/spec"
	"sn3/model/data"
	"sn3/model/tokenizer"
)

// source is what a new network trains on.
type source struct {
	spec     chain.DatasetSpec // without the locator
	manifest *data.Manifest
	from     data.Getter
	keys     []string // of all objects, those that others name first
}

// packed is a folder that sn3 data pack made, as DATA names it.
type packed struct {
	dir string // absolute
	source
}

// openData reads what lies in a folder; its objects are checked later (verify).
func openData(dir string) (*packed, error) {
	p := &packed{}
	var err error
	if p.dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("find dataset: %w", err)
	}
	pin, err := data.ReadPin(p.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: want a folder that sn3 data pack or sn3 data merge has finished; TEXT=<folder> takes plain text", err)
	}
	if err != nil {
		return nil, err
	}
	m, err := data.ReadManifest(p.dir, pin)
	if err != nil {
		return nil, err
	}
	if m.Provenance.Part != "" {
		return nil, fmt.Errorf("it is part %s of a dataset; join all parts with sn3 data merge", m.Provenance.Part)
	}
	if m.Provenance.Tokenizer == data.ByteTokenizer && m.Vocab != spec.ByteVocab {
		return nil, fmt.Errorf("its tokens are bytes and its vocabulary %d; pack it again without --vocab", m.Vocab)
	}
	p.source = source{spec: chain.DatasetSpec{Manifest: pin.Manifest, Root: pin.Root}, manifest: m, from: data.Folder(p.dir)}
	for _, list := range m.Shards {
		for _, x := range list {
			p.keys = append(p.keys, data.Key(x.Sum))
		}
	}
	if sum, ok := m.Provenance.TokenizerSum(); ok {
		p.keys = append(p.keys, data.Key(sum))
	}
	p.keys = append(p.keys, data.Key(pin.Manifest), data.PinFile) // a manifest that is there has its shards
	return p, nil
}

// textSource packs text whose tokens are its bytes.
func textSource(ctx context.Context, c config) (*source, error) {
	src, err := corpusDir(ctx, c.text)
	if err != nil {
		return nil, err
	}
	opt := data.Options{MaxTrain: 12 << 20}
	if c.text == "" {
		opt.Exts = []string{".go"}
	}
	c.out.say("text", "packing %s", src)
	corpus, err := data.Collect(src, opt)
	if err != nil {
		return nil, err
	}
	p, err := data.Pack(corpus)
	if err != nil {
		return nil, err
	}
	s := &source{spec: p.Spec, from: p}
	for _, o := range p.Objects {
		s.keys = append(s.keys, o.Key)
	}
	s.manifest, err = data.GetManifest(ctx, s.from, data.Pin{Manifest: p.Spec.Manifest, Root: p.Spec.Root})
	return s, err
}

// verify reads every object and refuses a dataset with one that is missing or wrong, and a tokenizer that is not the vocabulary's.
func (p *packed) verify(ctx context.Context, out voice) error {
	out.say("dataset", "checking %s: %.1f MiB", p.dir, float64(p.size())/(1<<20))
	var bad []string
	v, err := data.Verify(ctx, p.from, p.manifest, runtime.NumCPU(), func(key string, err error) {
		bad = append(bad, fmt.Sprintf("%s: %v", key, err))
	})
	if errors.Is(err, data.ErrUnsound) {
		return proc.Refused(fmt.Errorf("DATA=%s: %w, the first is %s; copy it again, or pack it again in another folder", p.dir, err, bad[0]))
	}
	if err != nil {
		return fmt.Errorf("check dataset: %w", err)
	}
	if _, err := p.tokenizer(ctx); err != nil {
		return proc.Refused(fmt.Errorf("DATA=%s: %w", p.dir, err))
	}
	out.say("dataset", "%d objects, all as the manifest says", v.Objects+1)
	return nil
}

// tokenizer is the dataset's own.
func (s *source) tokenizer(ctx context.Context) (tokenizer.Tokenizer, error) {
	name := s.manifest.Provenance.Tokenizer
	var file []byte
	if sum, ok := s.manifest.Provenance.TokenizerSum(); ok {
		var err error
		if file, err = s.from.Get(ctx, data.Key(sum), data.MaxTokenizer); err != nil {
			return nil, fmt.Errorf("read tokenizer: %w", err)
		}
	}
	tok, err := tokenizer.Load(name, file)
	if err == nil && tok.Vocab() > s.manifest.Vocab {
		err = fmt.Errorf("its tokenizer has %d tokens, its manifest says %d", tok.Vocab(), s.manifest.Vocab)
	}
	return tok, err
}

// size is about how many bytes the objects have.
func (s *source) size() int64 {
	n := s.manifest.Tokens(data.Train) + s.manifest.Tokens(data.HeldOut)
	return int64(n)*int64(s.manifest.Width()) + int64(n)/8
}

// String says how much there is.
func (s *source) String() string {
	if s.manifest.Provenance.Tokenizer == data.ByteTokenizer {
		return fmt.Sprintf("%.1f MiB to train on, %.1f MiB held out", float64(s.manifest.Tokens(data.Train))/(1<<20), float64(s.manifest.Tokens(data.HeldOut))/(1<<20))
	}
	return fmt.Sprintf("%d tokens to train on, %d held out, %.2f bytes a token, vocabulary %d", s.manifest.Tokens(data.Train), s.manifest.Tokens(data.HeldOut),
		s.bytesPerToken(), s.manifest.Vocab)
}

// bytesPerToken is the text behind a held-out token, on average.
func (s *source) bytesPerToken() float64 {
	var text, tokens uint64
	for _, x := range s.manifest.Provenance.Sources {
		text, tokens = text+x.Bytes[data.HeldOut], tokens+x.Tokens[data.HeldOut]
	}
	if text == 0 || tokens == 0 {
		return 1
	}
	return float64(text) / float64(tokens)
}

// enough refuses a dataset that does not hold what one window takes. The idle seat is dealt samples like a miner.
func (s *source) enough(r *chain.Run, miners int) error {
	per := uint64(r.Train.InnerSteps) * uint64(r.Train.Batch)
	need, seq := per*uint64(miners+1), uint64(r.Model.Seq)
	held := uint64(max(evalSet, r.Score.HeldOut))
	have := func(split data.Split) uint64 { return (max(s.manifest.Tokens(split), 1) - 1) / seq }
	if n := have(data.Train); n < need {
		return proc.Refused(fmt.Errorf("%w: %d miners take %d samples of %d tokens a window, it has %d to train on; use more text, fewer MINERS, or a MODEL "+
			"with a smaller train.batch or train.inner_steps", data.ErrTooSmall, miners, need, seq, n))
	}
	if n := have(data.HeldOut); n < held {
		return proc.Refused(fmt.Errorf("%w: validators measure on %d held-out samples of %d tokens, it has %d; pack more text, or with a larger --held-out, or use a MODEL "+
			"with a smaller model.seq", data.ErrTooSmall, held, seq, n))
	}
	return nil
}

// matches refuses a preset whose tokens are not the dataset's, with what to do.
func (c config) matches() error {
	run, err := c.preset.Run(c.windows)
	if err != nil {
		return err
	}
	if c.data == nil {
		if run.Tokenizer == data.ByteTokenizer {
			return nil
		}
		return fmt.Errorf("MODEL=%s takes its tokens from a dataset: give DATA=<folder made by sn3 data pack>; without one, use MODEL=%s, or a copy of one with its shape "+
			"changed (sn3 preset NAME prints it)", c.model, strings.Join(preset.Local(), " or MODEL="))
	}
	m := c.data.manifest
	what := fmt.Sprintf("the dataset in %s has tokens of %s with a vocabulary of %d", c.data.dir, name(nil, m.Provenance.Tokenizer), m.Vocab)
	switch {
	case run.Tokenizer != "" && run.Tokenizer != m.Provenance.Tokenizer:
		return fmt.Errorf("MODEL=%s is for tokens of %s with a vocabulary of %d, %s: %s", c.model, name(nil, run.Tokenizer), run.Model.Vocab, what, instead(m))
	case run.Model.Vocab != m.Vocab:
		return fmt.Errorf("MODEL=%s has a vocabulary of %d, %s: %s", c.model, run.Model.Vocab, what, instead(m))
	}
	return nil
}

// instead says which presets a dataset goes with.
func instead(m *data.Manifest) string {
	var fit []string
	for _, n := range preset.Names() {
		if r, err := preset.Run(n, 0); err == nil && r.Model.Vocab == m.Vocab && (r.Tokenizer == "" || r.Tokenizer == m.Provenance.Tokenizer) {
			fit = append(fit, "MODEL="+n)
		}
	}
	own := fmt.Sprintf("a copy of a preset with model.vocab %d and tokenizer \"dataset\" (sn3 preset 8m > mine.json, MODEL=mine.json)", m.Vocab)
	if m.Provenance.Tokenizer == data.ByteTokenizer {
		own = "a copy of one of them (sn3 preset local > mine.json, MODEL=mine.json)"
	}
	return "use " + strings.Join(append(fit, own), ", or ")
}
