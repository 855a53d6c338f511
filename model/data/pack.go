package data

import (
	"context"
	"errors"
	"fmt"

	"sn3/chain"
)

// Packed is a dataset as objects. It is also a Ranger, so a dataset can be opened without a bucket.
type Packed struct {
	// Objects are the shards in order, then the manifest: uploaded in this order, a manifest that is there has its shards.
	Objects []Object
	// Spec pins the dataset; the caller fills in the Locator of the bucket.
	Spec chain.DatasetSpec
}

// Pack cuts a corpus, whose tokens are its bytes, into shards and a manifest.
func Pack(c *Corpus) (*Packed, error) {
	if len(c.Train) == 0 || len(c.HeldOut) == 0 {
		return nil, fmt.Errorf("pack dataset: %d bytes to train on and %d held out; both must hold text", len(c.Train), len(c.HeldOut))
	}
	p := &Packed{}
	b, err := NewBuilder(1<<8, func(sum chain.Hash, object []byte) error {
		p.Objects = append(p.Objects, Object{Key(sum), object})
		return nil
	})
	if err != nil {
		return nil, err
	}
	source := Source{Documents: [splits]uint64{uint64(c.Report.TrainFiles), uint64(c.Report.HeldFiles)}}
	for s, text := range [splits][]byte{c.Train, c.HeldOut} {
		if err := b.Append(Split(s), text); err != nil {
			return nil, err
		}
		source.Bytes[s], source.Tokens[s] = uint64(len(text)), uint64(len(text))
	}
	_, p.Spec, err = b.Finish(Provenance{Tokenizer: ByteTokenizer, BOS: None, EOS: 0, Sources: []Source{source}})
	if err != nil {
		return nil, fmt.Errorf("pack dataset: %w", err)
	}
	return p, nil
}

// Size is the number of bytes to upload.
func (p *Packed) Size() (n int64) {
	for _, o := range p.Objects {
		n += int64(len(o.Data))
	}
	return n
}

// Get implements Getter.
func (p *Packed) Get(ctx context.Context, key string, max int64) ([]byte, error) {
	for _, o := range p.Objects {
		if o.Key == key && int64(len(o.Data)) <= max {
			return p.GetRange(ctx, key, 0, int64(len(o.Data)))
		}
	}
	return nil, fmt.Errorf("get %s: %w", key, errNoObject)
}

var errNoObject = errors.New("no such object")

// GetRange implements Ranger over the objects in memory.
func (p *Packed) GetRange(_ context.Context, key string, off, n int64) ([]byte, error) {
	for _, o := range p.Objects {
		if o.Key != key {
			continue
		}
		if off < 0 || n < 0 || off > int64(len(o.Data)) || n > int64(len(o.Data))-off {
			return nil, fmt.Errorf("get range of %s: %d bytes from %d on of %d", key, n, off, len(o.Data))
		}
		return append([]byte(nil), o.Data[off:off+n]...), nil
	}
	return nil, fmt.Errorf("get range of %s: %w", key, errNoObject)
}
