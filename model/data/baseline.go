package data

import (
	"context"
	"fmt"
	"math"

	"sn3/model"
)

// Smoothing names how the count models share out probability; it stands beside their losses wherever they are shown.
const Smoothing = "interpolated Witten-Bell; order 0 add-one over 256 bytes"

// Baselines are the losses of count models in nats per byte, and on how many predicted bytes they were measured.
type Baselines struct {
	Order0    float64 `json:"order0"`
	Bigram    float64 `json:"bigram"` // order 1: given the byte before
	Order2    float64 `json:"order2"` // given the two bytes before
	Positions int     `json:"positions"`
	Trained   int     `json:"trained_bytes"`
	Smoothing string  `json:"smoothing"`
}

// Counts holds how often each byte followed each context in a training text. It takes 64 MiB while it lives.
type Counts struct {
	n          int
	order0     [256]uint32
	order1     []uint32 // [before][byte]
	order2     []uint32 // [before before][before][byte]
	back, last byte     // the two bytes before the next one; valid if n >= 2, n >= 1
}

// NewCounts starts with nothing seen.
func NewCounts() *Counts {
	return &Counts{order1: make([]uint32, 1<<16), order2: make([]uint32, 1<<24)}
}

// Add counts the next part of the training text. Parts follow each other as if they were one.
func (c *Counts) Add(text []byte) {
	for _, y := range text {
		c.order0[y]++
		if c.n >= 1 {
			c.order1[int(c.last)<<8|int(y)]++
		}
		if c.n >= 2 {
			c.order2[int(c.back)<<16|int(c.last)<<8|int(y)]++
		}
		c.back, c.last = c.last, y
		c.n++
	}
}

// Baselines measures the three models on the counted targets of batches, with the contexts that a model of sequences has: at
// the first position of a sequence only one byte is known, so order 2 falls back to order 1 there.
//
//	p0(y)      = (c(y) + 1) / (n + 256)
//	pk(y | h)  = (c(h y) + t(h) p(k-1)(y | h')) / (c(h) + t(h))     t(h): how many different bytes followed h
//
// h' is h without its oldest byte; a context never seen gives p(k-1) (Witten and Bell 1991, interpolated).
func (c *Counts) Baselines(sets []model.Batch) (Baselines, error) {
	b := Baselines{Trained: c.n, Smoothing: Smoothing}
	one, two := newRows(c.order1), newRows(c.order2)
	for _, s := range sets {
		for i, y := range s.Y {
			x := s.X[i]
			if y == -100 {
				continue
			}
			if uint32(x) > 255 || uint32(y) > 255 {
				return Baselines{}, fmt.Errorf("measure count models: token %d or %d is no byte", x, y)
			}
			p0 := (float64(c.order0[y]) + 1) / float64(c.n+256)
			p1 := one.mix(int(x), int(y), p0)
			p2 := p1
			if i%s.T > 0 {
				p2 = two.mix(int(s.X[i-1])<<8|int(x), int(y), p1)
			}
			b.Order0 -= math.Log(p0)
			b.Bigram -= math.Log(p1)
			b.Order2 -= math.Log(p2)
			b.Positions++
		}
	}
	if b.Positions == 0 {
		return Baselines{}, fmt.Errorf("measure count models: no positions")
	}
	n := float64(b.Positions)
	b.Order0, b.Bigram, b.Order2 = b.Order0/n, b.Bigram/n, b.Order2/n
	return b, nil
}

// rows caches the sums of 256-wide rows of counts.
type rows struct {
	counts []uint32
	sums   map[int][2]float64 // row -> total, number of different bytes
}

func newRows(counts []uint32) rows { return rows{counts, map[int][2]float64{}} }

// mix is the smoothed probability of y in a row, over the lower order's p.
func (r rows) mix(row, y int, p float64) float64 {
	s, ok := r.sums[row]
	if !ok {
		for _, n := range r.counts[row<<8:][:256] {
			s[0] += float64(n)
			if n > 0 {
				s[1]++
			}
		}
		r.sums[row] = s
	}
	if s[0] == 0 {
		return p
	}
	return (float64(r.counts[row<<8|y]) + s[1]*p) / (s[0] + s[1])
}

// Baselines trains the count models on the train split and measures them on the same n held-out samples, drawn by beacon,
// that HeldOut returns.
func (d *Dataset) Baselines(ctx context.Context, beacon []byte, n int) (Baselines, error) {
	if d.manifest.Provenance.Tokenizer != ByteTokenizer {
		return Baselines{}, fmt.Errorf("measure count models: the dataset's tokens are not bytes")
	}
	c := NewCounts()
	ids, text := make([]int32, bytePage), make([]byte, bytePage)
	for off := uint64(0); off < d.Len(Train); off += bytePage {
		part := ids[:min(bytePage, d.Len(Train)-off)]
		if err := d.read(ctx, Train, part, off); err != nil {
			return Baselines{}, err
		}
		for i, id := range part {
			text[i] = byte(id)
		}
		c.Add(text[:len(part)])
	}
	held, err := d.HeldOut(ctx, beacon, n)
	if err != nil {
		return Baselines{}, err
	}
	return c.Baselines(held)
}
