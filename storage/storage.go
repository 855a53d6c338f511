// Package storage keeps objects in S3 buckets: one's own, which one may write, and everybody else's, which one reads with
// suspicion.
//
// A Locator names a bucket and travels on the chain; a Credential allows writing and never leaves the machine. Open turns
// them into a Bucket, which holds all logic (deadlines, read caps, resuming, hashes, retention) once, over a small Driver:
// S3 for every provider, Memory for tests and simulations. Decorators of Driver (NewFaulty, NewLimit) add misbehaviour and
// limits. Nothing a server says about an object is evidence: no times, no headers, no order of listing; only size and hash.
package storage

import (
	"context"
	"io"
)

// Object is one entry of a listing. There is no time in it on purpose: object times are set by servers, never evidence.
type Object struct {
	Key  string
	Size int64 // bytes
}

// PutOptions are conditions of one upload.
type PutOptions struct {
	IfAbsent bool // fail with ErrExists if the key is taken; not every provider offers it
}

// Driver is the contract of a kind of storage for one bucket. Drivers are safe for concurrent use, return errors that
// match this package's sentinels where a caller decides by them, and stop when ctx ends. Keys are valid (see ValidKey).
type Driver interface {
	// Put stores size bytes of body under key, all or nothing; the body may be read more than once.
	Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) error
	// Get opens the object from byte off on: n bytes of it (or as many as there are), or all when n < 0. ctx must live
	// until the reader is closed. A range (off > 0 or n >= 0) that starts at or beyond the object's end is ErrMismatch.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// List returns up to max keys greater than after that start with prefix, ascending; fewer than max only at the end.
	List(ctx context.Context, prefix, after string, max int) ([]Object, error)
	// Delete removes keys, at most MaxDelete in one call; a missing key is no error.
	Delete(ctx context.Context, keys ...string) error
}

// Limits of keys and calls; the last two are S3's.
const (
	MaxKey    = 256  // bytes of a key; ours are far shorter
	MaxList   = 1000 // keys in one page of a listing
	MaxDelete = 1000 // keys in one Delete of a Driver
)

// ValidKey says whether key is one we use: segments of [A-Za-z0-9._-] joined by single slashes, none of them starting
// with a dot. Such a key needs no escaping anywhere and cannot climb out of a folder.
func ValidKey(key string) bool {
	if key == "" || len(key) > MaxKey {
		return false
	}
	start := true // of a segment
	for i := range len(key) {
		c := key[i]
		switch {
		case c == '/':
			if start {
				return false
			}
			start = true
			continue
		case c == '.' && start:
			return false
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
		start = false
	}
	return !start
}
