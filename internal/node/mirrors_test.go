package node

import (
	"errors"
	"testing"

	"sn3/chain"
	"sn3/internal/proc"
	"sn3/storage"
)

// The dataset's bucket comes first, then its mirrors in the descriptor's order; what cannot be read is refused.
func TestMirrors(t *testing.T) {
	var d chain.DatasetSpec
	for _, name := range []string{"first", "second", "third"} {
		l, err := storage.Local(name)
		if err != nil {
			t.Fatal(err)
		}
		if d.Locator == nil {
			d.Locator = l.Encode()
			continue
		}
		d.Mirrors = append(d.Mirrors, l.Encode())
	}
	open := func(l storage.Locator) (*storage.Bucket, error) {
		return storage.NewMemory().Bucket(l.String(), false), nil
	}
	from, err := mirrors(d, open)
	if err != nil || len(from) != 3 || from[0].Name != "local:first" || from[1].Name != "local:second" || from[2].Name != "local:third" {
		t.Errorf("%+v, %v", from, err)
	}
	down := errors.New("down")
	if _, err := mirrors(d, func(storage.Locator) (*storage.Bucket, error) { return nil, down }); !errors.Is(err, down) {
		t.Errorf("%v", err)
	}
	d.Mirrors[1] = []byte{99}
	if _, err := mirrors(d, open); proc.ExitCode(err) != proc.ExitRefused {
		t.Errorf("a locator of nothing: %v", err)
	}
}
