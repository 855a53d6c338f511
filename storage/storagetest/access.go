package storagetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"sn3/storage"
)

func publicRead(ctx context.Context, t Target) error {
	if t.Public == nil {
		return errSkip
	}
	return mayRead(ctx, t, t.Public)
}

func mayRead(ctx context.Context, t Target, b *storage.Bucket) error {
	key, data := t.key("public"), pattern(70_000, 8)
	if err := t.Owner.Put(ctx, key, data); err != nil {
		return err
	}
	got := make(memory, len(data))
	if err := b.Fetch(ctx, key, int64(len(data)), sha256.Sum256(data), got); err != nil {
		return err
	}
	part, err := b.GetRange(ctx, key, 100, 1000)
	if err != nil {
		return err
	}
	return errors.Join(same("fetched", got, data), same("range", part, data[100:1100]))
}

func publicList(ctx context.Context, t Target) error {
	if t.Public == nil {
		return errSkip
	}
	if err := t.Owner.Put(ctx, t.key("public"), pattern(10, 8)); err != nil {
		return err
	}
	objs, err := t.Public.List(ctx, t.key("public"), "", 10)
	if err != nil {
		return err
	}
	if keys := strings.Join(keysOf(objs), " "); keys != t.key("public") {
		return fmt.Errorf("got %q, want one object", keys)
	}
	return nil
}

// mayNotWrite checks that b can neither add, change nor remove anything.
func mayNotWrite(ctx context.Context, t Target, b *storage.Bucket) error {
	if b == nil {
		return errSkip
	}
	key, data := t.key("guarded"), pattern(100, 9)
	if err := t.Owner.Put(ctx, key, data); err != nil {
		return err
	}
	err := errors.Join(
		want("new object", b.Put(ctx, t.key("smuggled"), data), storage.ErrDenied),
		want("overwrite", b.Put(ctx, key, data[1:]), storage.ErrDenied),
		want("delete", b.Delete(ctx, key), storage.ErrDenied),
		want("batch delete", b.Delete(ctx, key, t.key("small")), storage.ErrDenied))
	if err != nil {
		return err
	}
	got, err := t.Owner.Get(ctx, key, 100)
	if err != nil {
		return err
	}
	_, smuggled := t.Owner.Get(ctx, t.key("smuggled"), 100)
	return errors.Join(same("guarded object", got, data), want("smuggled object", smuggled, storage.ErrNotFound))
}

func otherAccount(ctx context.Context, t Target) error {
	if t.Other == nil {
		return errSkip
	}
	return errors.Join(mayRead(ctx, t, t.Other), mayNotWrite(ctx, t, t.Other))
}
