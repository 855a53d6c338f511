package simnet

import (
	"context"
	"io"
	"sync/atomic"

	"sn3/storage"
)

// cuttable is a driver that does not answer while its network is cut.
type cuttable struct {
	storage.Driver
	cut *atomic.Bool
}

func (c cuttable) gone() error {
	if c.cut.Load() {
		return storage.ErrUnavailable
	}
	return nil
}

func (c cuttable) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o storage.PutOptions) error {
	if err := c.gone(); err != nil {
		return err
	}
	return c.Driver.Put(ctx, key, body, size, o)
}

func (c cuttable) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := c.gone(); err != nil {
		return nil, err
	}
	return c.Driver.Get(ctx, key, off, n)
}

func (c cuttable) List(ctx context.Context, prefix, after string, max int) ([]storage.Object, error) {
	if err := c.gone(); err != nil {
		return nil, err
	}
	return c.Driver.List(ctx, prefix, after, max)
}
