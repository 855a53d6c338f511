package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// A node that is going to fetch its state deletes what an earlier start left of one; what another process uses it leaves alone,
// even where that has no database open at this moment.
func TestStateSyncOfAFolderInUse(t *testing.T) {
	home := founder(t)
	if err := os.WriteFile(filepath.Join(home, syncFile), []byte(`{"height": 1, "hash": "`+Trust{}.Hash.String()+`", "nodes": ["127.0.0.1:1"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockHome(home)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(home, stateFile+syncSuffix)
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Home: home, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	if _, err := open(o); !errors.Is(err, ErrInUse) || missing(left) {
		t.Errorf("it was opened (%v), or is damaged", err)
	}
	if _, err := Prune(home); !errors.Is(err, ErrInUse) {
		t.Errorf("it was pruned: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // given back after an error, and by close
		n, err := open(o)
		if err != nil || !missing(left) {
			t.Fatalf("%v, or what was left is there still", err)
		}
		if err := n.app.close(); err != nil {
			t.Fatal(err)
		}
	}
}
