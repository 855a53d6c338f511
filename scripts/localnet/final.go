package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/hf"
	"sn3/model/sample"
	"sn3/model/tokenizer"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
)

// lossInto measures the newest checkpoint against the count models on the same held-out samples, and lets the first and the
// newest checkpoint write something.
func (n *network) lossInto(ctx context.Context, s *Summary, srv *netdir.Servers) error {
	policy := storage.DialPolicy{Loopback: true, LocalPort: srv.S3Port}
	l, err := storage.ParseLocator(n.run.Dataset.Locator)
	if err != nil {
		return err
	}
	b, err := storage.Open(l, nil, policy)
	if err != nil {
		return err
	}
	d, err := data.Open(ctx, data.From(b), n.run.Dataset, data.ReadOptions{Seq: n.run.Model.Seq, Vocab: n.run.Model.Vocab})
	if err != nil {
		return err
	}
	tok, err := tokenizerOf(ctx, n.run, d)
	if err != nil {
		return err
	}
	seed := []byte("sn3/final/1")
	set, err := d.HeldOut(ctx, seed, finalSamples(d))
	if err != nil {
		return err
	}
	if n.set.Data == "" { // text that was packed here is counted whole
		s.Baselines, err = d.Baselines(ctx, seed, finalSamples(d))
	} else {
		s.Baselines, err = baselines(ctx, d, tok, set)
	}
	if err != nil {
		return fmt.Errorf("count models: %w", err)
	}
	cfg := replica.ModelConfig(n.run)
	layout, err := model.NewLayout(cfg)
	if err != nil {
		return err
	}
	first := model.NewFlat(layout)
	first.Init(n.run.Seed)
	last, err := n.newest(ctx, s, policy, layout)
	if err != nil {
		return err
	}
	if s.TokenLoss, err = heldOut(ctx, cfg, last, set); err != nil {
		return err
	}
	s.FinalLoss = s.TokenLoss / bytesPerToken(tok, set)
	prompt := tok.Encode(nil, []byte("func "))
	if n.set.Data != "" { // who knows what language it is in
		prompt = set[0].X[:min(promptTokens, set[0].T)]
	}
	for key, w := range map[string]*model.Flat{"first": first, "last": last} {
		if s.Samples[key], err = write(ctx, cfg, w, tok, prompt); err != nil {
			return err
		}
	}
	return nil
}

// tokenizerOf is the run's tokenizer, which lies beside the dataset.
func tokenizerOf(ctx context.Context, r *chain.Run, d *data.Dataset) (tokenizer.Tokenizer, error) {
	file, err := d.Tokenizer(ctx)
	if err != nil {
		return nil, err
	}
	return tokenizer.Load(r.Tokenizer, file)
}

// finalSamples is how many held-out samples have finalTokens tokens, or all.
func finalSamples(d *data.Dataset) int {
	return int(min(uint64(max(1, finalTokens/d.Seq())), d.Samples(data.HeldOut)))
}

// bytesPerToken is the text behind a predicted token of set, on average; control tokens have none.
func bytesPerToken(tok tokenizer.Tokenizer, set []model.Batch) float64 {
	text, tokens := 0, 0
	for _, b := range set {
		text, tokens = text+len(tokenizer.Plain(nil, tok, b.Y)), tokens+len(b.Y)
	}
	return float64(max(text, 1)) / float64(tokens)
}

// newest reads the newest checkpoint that a validator's bucket has and whose root is the one that all agreed on.
func (n *network) newest(ctx context.Context, s *Summary, policy storage.DialPolicy, layout *model.Layout) (*model.Flat, error) {
	roots := map[chain.Window]string{}
	for _, w := range s.Windows {
		roots[w.Window] = w.Root
	}
	var best *model.Flat
	problem := errors.New("no validator has a checkpoint")
	for _, m := range n.set.Nodes {
		if m.Role != "validator" {
			continue
		}
		l, err := storage.Local(m.Name)
		if err != nil {
			return nil, err
		}
		b, err := storage.Open(l, nil, policy)
		if err != nil {
			return nil, err
		}
		windows := checkpoints(ctx, b)
		if len(windows) == 0 || best != nil && windows[len(windows)-1] <= s.Final {
			continue
		}
		w := windows[len(windows)-1]
		flat, err := fetch(ctx, b, w, roots[w], layout)
		if err != nil {
			problem = fmt.Errorf("checkpoint %d of %s: %w", w, m.Name, err)
			continue
		}
		best, s.Final = flat, w
	}
	if best == nil {
		return nil, problem
	}
	return best, nil
}

// fetch reads the model of a checkpoint and compares its root.
func fetch(ctx context.Context, b *storage.Bucket, w chain.Window, root string, layout *model.Layout) (*model.Flat, error) {
	raw, err := b.Get(ctx, fmt.Sprintf("checkpoint/%d/model.safetensors", w), int64(4*layout.Params())+1<<20)
	if err != nil {
		return nil, err
	}
	flat, err := hf.ReadModel(bytes.NewReader(raw), int64(len(raw)), layout.Config())
	if err != nil {
		return nil, err
	}
	got, err := gradients.Root(flat)
	if err != nil {
		return nil, err
	}
	if root != "" && got.String() != root {
		return nil, fmt.Errorf("root %s, the nodes agreed on %s", got.Short(), root[:8])
	}
	return flat, nil
}

// write lets a model go on after a prompt, in about as many bytes whatever its tokens are.
func write(ctx context.Context, c model.Config, w *model.Flat, tok tokenizer.Tokenizer, prompt []int32) (string, error) {
	g, err := sample.New(c, w)
	if err != nil {
		return "", err
	}
	tokens := 160
	if tok.Name() != data.ByteTokenizer {
		tokens = 60
	}
	ids, err := g.Generate(ctx, prompt, sample.Options{Tokens: tokens, Temperature: 0.6, Seed: 1, Vocab: tok.Vocab()})
	if err != nil {
		return "", err
	}
	return proc.Printable(tokenizer.Text(tok.Decode(nil, append(slices.Clone(prompt), ids...)))), nil
}
