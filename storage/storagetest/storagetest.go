// Package storagetest checks that a bucket does what the rest of the program relies on. The same checks run in tests,
// against the in-memory driver and the embedded server, and from the command line against any provider, before one mines
// with it; so nothing here needs package testing.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sn3/storage"
)

// Target is the bucket to check, seen with different rights. Handles that are nil have their checks skipped.
type Target struct {
	Owner  *storage.Bucket // may write
	Public *storage.Bucket // the same bucket without a credential
	Other  *storage.Bucket // the same bucket with somebody else's credential
	Forged *storage.Bucket // the same bucket with the owner's key and a wrong secret
	Prefix string          // everything happens below it; one that nothing else uses, for example check/<random>; a slash at its end does not count
}

// Check is one thing that must hold.
type Check struct {
	Name     string
	Optional bool // nice to have; a failure does not count
	Run      func(ctx context.Context, t Target) error
}

// Result is the outcome of one check.
type Result struct {
	Name     string
	Err      error // nil = holds
	Optional bool
	Skipped  bool // the target lacks the handle; Err is nil
	Took     time.Duration
}

// Status is "ok", "FAIL", "no" (optional and failed) or "skip".
func (r Result) Status() string {
	switch {
	case r.Skipped:
		return "skip"
	case r.Err == nil:
		return "ok"
	case r.Optional:
		return "no"
	}
	return "FAIL"
}

// String is one line for a person: status, name, time or reason.
func (r Result) String() string {
	if r.Err != nil {
		return fmt.Sprintf("%-4s  %-28s  %v", r.Status(), r.Name, r.Err)
	}
	return fmt.Sprintf("%-4s  %-28s  %s", r.Status(), r.Name, r.Took.Round(time.Millisecond))
}

// errSkip is returned by checks whose handle is missing.
var errSkip = errors.New("skipped")

// Run runs all checks in order, reports each as it ends, removes what they wrote, and returns how many failed. It stops
// early when ctx ends. Results of checks that need the cleanup itself are reported as the check "clean up".
func Run(ctx context.Context, t Target, report func(Result)) int {
	const each = 2 * time.Minute
	t.Prefix = strings.TrimRight(t.Prefix, "/")
	failed := 0
	do := func(c Check) {
		ctx, cancel := context.WithTimeout(ctx, each)
		defer cancel()
		start := time.Now()
		err := c.Run(ctx, t)
		r := Result{Name: c.Name, Optional: c.Optional, Err: err, Took: time.Since(start)}
		if errors.Is(err, errSkip) {
			r.Err, r.Skipped = nil, true
		}
		if r.Status() == "FAIL" {
			failed++
		}
		report(r)
	}
	for _, c := range Checks() {
		if ctx.Err() != nil {
			break
		}
		do(c)
	}
	ctx = context.WithoutCancel(ctx)
	do(Check{Name: "clean up", Run: func(ctx context.Context, t Target) error {
		_, err := t.Owner.Prune(ctx, t.Prefix+"/", func(storage.Object) bool { return false })
		return err
	}})
	return failed
}
