package storagetest_test

import (
	"context"
	"testing"

	"sn3/storage"
	"sn3/storage/storagetest"
)

func TestMemory(t *testing.T) {
	m := storage.NewMemory()
	target := storagetest.Target{Owner: m.Bucket("alice", true), Public: m.Bucket("alice", false), Other: m.Bucket("alice", false), Prefix: "check/1"}
	skipped := 0
	failed := storagetest.Run(t.Context(), target, func(r storagetest.Result) {
		if r.Err != nil { // optional ones too: memory offers everything
			t.Error(r)
		}
		if r.Skipped {
			skipped++
		}
	})
	if failed != 0 || skipped != 1 {
		t.Fatalf("%d failed, %d skipped; want 0, and 1 for the wrong secret", failed, skipped)
	}
	left, err := target.Owner.List(t.Context(), "", "", 10)
	if err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

// The suite leaves alone what lies beside its prefix, with or without a slash at its end.
func TestPrefix(t *testing.T) {
	for _, prefix := range []string{"check", "check/", "a/b/check//"} {
		b := storage.NewMemory().Bucket("alice", true)
		for _, key := range []string{"check-mine", "checked/mine", "payload/mine"} {
			if err := b.Put(t.Context(), key, []byte("mine")); err != nil {
				t.Fatal(err)
			}
		}
		if n := storagetest.Run(t.Context(), storagetest.Target{Owner: b, Prefix: prefix}, func(storagetest.Result) {}); n != 0 {
			t.Errorf("prefix %q: %d checks failed", prefix, n)
		}
		if left, err := b.List(t.Context(), "", "", 10); err != nil || len(left) != 3 {
			t.Errorf("prefix %q: left %v, %v", prefix, left, err)
		}
	}
}

// A suite that cannot fail proves nothing: each broken driver must be found out by the named check.
func TestSuiteFindsFaults(t *testing.T) {
	always := func(f storage.Fault, op storage.Op) func(storage.Op, string, int) storage.Fault {
		return func(o storage.Op, _ string, _ int) storage.Fault {
			if o == op {
				return f
			}
			return storage.Fault{}
		}
	}
	for _, c := range []struct {
		name  string
		plan  func(storage.Op, string, int) storage.Fault
		check string
	}{
		{"flipped bit", always(storage.Fault{Flip: true}, storage.OpGet), "put and get"},
		{"truncated", always(storage.Fault{End: 500}, storage.OpGet), "fetch by hash"},
		{"endless", always(storage.Fault{Huge: true}, storage.OpGet), "fetch by hash"},
		{"lost delete", always(storage.Fault{Err: storage.ErrUnavailable}, storage.OpDelete), "delete"},
		{"swapped", always(storage.Fault{Serve: "check/1/small"}, storage.OpGet), "overwrite"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := storage.NewBucket(storage.NewFaulty(storage.NewMemory().Driver("alice", true), c.plan))
			found := false
			failed := storagetest.Run(t.Context(), storagetest.Target{Owner: b, Prefix: "check/1"}, func(r storagetest.Result) {
				found = found || r.Name == c.check && r.Status() == "FAIL"
			})
			if !found || failed == 0 {
				t.Fatalf("check %q passed on a driver with fault %q", c.check, c.name)
			}
		})
	}
}

func TestRunStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := 0
	storagetest.Run(ctx, storagetest.Target{Owner: storage.NewMemory().Bucket("alice", true), Prefix: "check/1"}, func(storagetest.Result) { n++ })
	if n != 1 {
		t.Fatalf("%d checks ran after the context ended, want the clean-up only", n)
	}
}
