package storage

import (
	"context"
	"io"
	"sync"
)

// limited lets a number of calls through at a time.
type limited struct {
	d     Driver
	slots chan struct{}
}

// NewLimit returns d with at most n calls at a time, an open reader counting as a call; the others wait.
func NewLimit(d Driver, n int) Driver {
	return &limited{d: d, slots: make(chan struct{}, max(n, 1))}
}

func (l *limited) enter(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *limited) leave() { <-l.slots }

func (l *limited) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) error {
	if err := l.enter(ctx); err != nil {
		return err
	}
	defer l.leave()
	return l.d.Put(ctx, key, body, size, o)
}

func (l *limited) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	body, err := l.d.Get(ctx, key, off, n)
	if err != nil {
		l.leave()
		return nil, err
	}
	return &limitedBody{ReadCloser: body, leave: sync.OnceFunc(l.leave)}, nil
}

type limitedBody struct {
	io.ReadCloser
	leave func()
}

func (b *limitedBody) Close() error {
	defer b.leave()
	return b.ReadCloser.Close()
}

func (l *limited) List(ctx context.Context, prefix, after string, max int) ([]Object, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.leave()
	return l.d.List(ctx, prefix, after, max)
}

func (l *limited) Delete(ctx context.Context, keys ...string) error {
	if err := l.enter(ctx); err != nil {
		return err
	}
	defer l.leave()
	return l.d.Delete(ctx, keys...)
}
