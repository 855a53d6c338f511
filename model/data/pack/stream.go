package pack

import (
	"context"
	"encoding/binary"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"sn3/model/data"
)

const (
	batchBytes      = 1 << 20  // text of a batch, if its documents are small
	checkpointBytes = 32 << 20 // of text between checkpoints
)

// flight is how many bytes of text may be on their way: with the tokens made of them, about five times as much memory.
func flight(workers int) int64 { return int64(32<<20 + workers*2*batchBytes) }

// stream brings every document from the reader through the workers to take, in order: the reader makes batches and queues each
// twice, for the workers and, in order, for the loop below. What is on its way is bounded by its size.
func (p *packer) stream(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	room := semaphore.NewWeighted(flight(p.o.Workers))
	work, order := make(chan *batch), make(chan *batch, 4*p.o.Workers+64)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return p.produce(ctx, func(b *batch) error {
			b.size = min(b.size, flight(p.o.Workers))
			if err := room.Acquire(ctx, b.size); err != nil {
				return err
			}
			for _, c := range []chan<- *batch{order, work} {
				select {
				case c <- b:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range p.o.Workers {
		e := &encoder{tok: p.o.Tokenizer, special: p.o.special(), field: p.o.Field, bos: p.bos, eos: p.eos, vocab: p.o.Vocab, width: p.builder.Width(), files: p.files}
		g.Go(func() error {
			for b := range work {
				if err := e.run(b); err != nil {
					return err
				}
				close(b.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		for b := range order {
			select {
			case <-b.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := p.take(b); err != nil {
				return err
			}
			room.Release(b.size)
		}
		return nil
	})
	return g.Wait()
}

// produce reads the files from p's position on and emits batches.
func (p *packer) produce(ctx context.Context, emit func(*batch) error) error {
	src := &source{column: p.o.Column, tmp: p.store.path(""), read: p.read}
	at := p.at // the loop moves p.at meanwhile
	for i := range at.File {
		p.read.Add(p.files[i].size)
	}
	b := &batch{done: make(chan struct{})}
	flush := func(next position) error {
		full := b
		full.after, full.read = next, p.read.Load()
		b = &batch{done: make(chan struct{})}
		return emit(full)
	}
	for i := at.File; i < len(p.files); i++ {
		var n, skip uint64
		if i == at.File {
			skip = at.Items
		}
		err := src.items(ctx, p.files[i], func(x item) error {
			if n++; n <= skip {
				return nil
			}
			b.items = append(b.items, placed{x, i})
			if b.size += int64(len(x.raw)) + 256; b.size >= p.o.batch {
				return flush(position{i, n})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return flush(position{len(p.files), 0})
}

// take adds a batch to the dataset, and sets a checkpoint when enough has come together.
func (p *packer) take(b *batch) error {
	for i := range b.out {
		if err := p.document(b, &b.out[i]); err != nil {
			return err
		}
	}
	p.at = b.after
	if p.source.Bad > p.o.MaxBad {
		return p.tooBad()
	}
	p.since += b.size
	save := p.since >= p.o.every
	if save {
		if err := p.checkpoint(); err != nil {
			return err
		}
	}
	if p.o.Progress != nil {
		p.o.Progress(Progress{Read: b.read, Size: p.size, Source: p.source, File: b.after.File, Files: len(p.files), Saved: save})
	}
	return nil
}

// document adds a document where it belongs, or counts why it does not.
func (p *packer) document(b *batch, d *document) error {
	switch {
	case d.bad != "":
		if p.source.Bad++; p.o.Warn != nil {
			p.o.Warn(d.bad)
		}
		return nil
	case d.empty:
		p.source.Empty++
		return nil
	case p.o.ByDocument && p.o.Parts > 0 && int(binary.BigEndian.Uint64(d.sum[16:])%uint64(p.o.Parts)) != p.o.Part-1:
		return nil // another part's
	}
	fresh, err := p.seen.add(d.sum[:])
	if err != nil {
		return err
	}
	if !fresh {
		p.source.Duplicates++
		return nil
	}
	p.count++
	p.hashes = append(p.hashes, d.sum[:seenKey]...)
	s := data.Train
	if binary.BigEndian.Uint64(d.sum[:])%p.o.HeldOut == 0 {
		s = data.HeldOut
	}
	p.source.Documents[s]++
	p.source.Bytes[s] += uint64(d.text)
	p.source.Tokens[s] += uint64((d.to - d.from) / p.builder.Width())
	return p.builder.Append(s, b.buf[d.from:d.to])
}

func (p *packer) checkpoint() error {
	err := p.store.checkpoint(record{At: p.at, Source: p.source, Seen: p.count}, p.builder, p.hashes)
	p.hashes, p.since = p.hashes[:0], 0
	return err
}
