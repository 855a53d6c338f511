package main

import (
	"context"

	"sn3/model"
	"sn3/model/data"
	"sn3/model/tokenizer"
)

// countedText is how much of a dataset's training text the count models see, in bytes: as much as make up packs of plain text.
const countedText = 12 << 20

// baselines are count models of the text behind a dataset's tokens: whatever the tokens are, they count bytes, so losses per
// byte can be compared. They predict the bytes of the targets of set, from the bytes that a model of those sequences has
// seen; control tokens have none.
func baselines(ctx context.Context, d *data.Dataset, tok tokenizer.Tokenizer, set []model.Batch) (data.Baselines, error) {
	c := data.NewCounts()
	const read = 256 // samples at once
	left, samples := countedText, d.Samples(data.Train)
	for at := uint64(0); at < samples && left > 0; at += read {
		var ask []uint64
		for i := at; i < min(at+read, samples); i++ {
			ask = append(ask, i)
		}
		part, err := d.Load(ctx, ask)
		if err != nil {
			return data.Baselines{}, err
		}
		for _, b := range part { // samples that follow each other: their inputs are the text
			text := tokenizer.Plain(nil, tok, b.X)
			text = text[:min(len(text), left)]
			c.Add(text)
			left -= len(text)
		}
	}
	var bytes []model.Batch
	for _, b := range set {
		for i := range b.B {
			bytes = append(bytes, inBytes(tok, b.X[i*b.T], b.Y[i*b.T:(i+1)*b.T]))
		}
	}
	return c.Baselines(bytes)
}

// inBytes is a sequence of tokens as one of bytes: the first token is context, the others are predicted. Where there is no
// context, a 0 stands for it.
func inBytes(tok tokenizer.Tokenizer, first int32, rest []int32) model.Batch {
	text := tokenizer.Plain(nil, tok, []int32{first})
	if len(text) == 0 {
		text = []byte{0}
	}
	known := len(text)
	text = tokenizer.Plain(text, tok, rest)
	b := model.Batch{B: 1, T: max(1, len(text)-1), X: make([]int32, len(text)-1), Y: make([]int32, len(text)-1)}
	for i := range b.X {
		b.X[i], b.Y[i] = int32(text[i]), int32(text[i+1])
		if i+1 < known {
			b.Y[i] = -100 // context is not predicted
		}
	}
	return b
}
