package main

import (
	"context"
	"fmt"

	"sn3/model/data"
	"sn3/storage"
)

// mirrors are the buckets with the network's dataset, the first one first.
func (n *network) mirrors() (out []data.Mirror, err error) {
	for _, raw := range append([][]byte{n.run.Dataset.Locator}, n.run.Dataset.Mirrors...) {
		l, err := storage.ParseLocator(raw)
		if err != nil {
			return nil, fmt.Errorf("read dataset locator: %w", err)
		}
		b, err := storage.Open(l, nil, n.policy)
		if err != nil {
			return nil, fmt.Errorf("open data bucket %s: %w", l, err)
		}
		out = append(out, data.Mirror{Name: l.String(), Ranger: b})
	}
	return out, nil
}

// dataset opens the network's dataset in sequences of seq tokens, keeping nothing on disk.
func (n *network) dataset(ctx context.Context, seq int) (*data.Dataset, error) {
	from, err := n.mirrors()
	if err != nil {
		return nil, err
	}
	return data.Open(ctx, from, n.run.Dataset, data.ReadOptions{Seq: seq, Vocab: n.run.Model.Vocab, Tokenizer: n.run.Tokenizer})
}
