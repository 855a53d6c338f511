package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"sn3/chain"
)

// Object is something to upload to the data bucket.
type Object struct {
	Key  string
	Data []byte
}

// Packed is a dataset as objects. It is also a Ranger, so a dataset can be opened without a bucket.
type Packed struct {
	// Objects are the shards in order, then the manifest: uploaded in this order, a manifest that is there has its shards.
	Objects []Object
	// Spec pins the dataset; the caller fills in the Locator of the bucket.
	Spec chain.DatasetSpec
}

// Pack cuts a corpus into pages, shards and a manifest. The shards alias the corpus.
func Pack(c *Corpus) (*Packed, error) {
	if len(c.Train) == 0 || len(c.HeldOut) == 0 {
		return nil, fmt.Errorf("pack dataset: %d bytes to train on and %d held out; both must hold text", len(c.Train), len(c.HeldOut))
	}
	p := &Packed{}
	m := &Manifest{Lengths: [2]uint64{uint64(len(c.Train)), uint64(len(c.HeldOut))}}
	for _, text := range [][]byte{c.Train, c.HeldOut} {
		for rest := text; len(rest) > 0; {
			n := min(PageSize, len(rest))
			m.Pages = append(m.Pages, leafHash(rest[:n]))
			rest = rest[n:]
		}
		for rest := text; len(rest) > 0; {
			n := min(MaxShard, len(rest))
			m.Shards = append(m.Shards, p.add(rest[:n]))
			rest = rest[n:]
		}
	}
	b := m.Encode()
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("pack dataset: %d bytes of text are more than one manifest can list", len(c.Train)+len(c.HeldOut))
	}
	p.Spec = chain.DatasetSpec{Manifest: p.add(b), Root: m.Root()}
	return p, nil
}

func (p *Packed) add(b []byte) chain.Hash {
	sum := chain.Hash(sha256.Sum256(b))
	p.Objects = append(p.Objects, Object{Key(sum), b})
	return sum
}

// Size is the number of bytes to upload.
func (p *Packed) Size() (n int64) {
	for _, o := range p.Objects {
		n += int64(len(o.Data))
	}
	return n
}

// Key is the name of the object with the given SHA-256.
func Key(sum chain.Hash) string { return "data/" + sum.String() }

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
