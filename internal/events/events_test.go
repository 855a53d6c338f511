package events

import (
	"os"
	"path/filepath"
	"testing"

	"sn3/chain"
)

func TestTailSeesEveryEventOnce(t *testing.T) {
	dir := t.TempDir()
	tail := NewTail(dir)
	if got, err := tail.Next(); err != nil || got != nil {
		t.Fatalf("no file yet: %v, %v", got, err)
	}
	log, err := OpenLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for w := range chain.Window(3) {
		if err := log.Add(Event{Kind: Applied, Window: w}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := tail.Next()
	if err != nil || len(got) != 3 || got[2].Window != 2 || got[2].Kind != Applied {
		t.Fatalf("got %+v, %v", got, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, File), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("{torn\n{\"kind\":\"stop\""); err != nil {
		t.Fatal(err)
	}
	if got, err := tail.Next(); err != nil || len(got) != 0 {
		t.Fatalf("torn and unfinished lines: %+v, %v", got, err)
	}
	if _, err := f.WriteString(",\"window\":9}\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := tail.Next(); err != nil || len(got) != 1 || got[0].Window != 9 {
		t.Fatalf("finished line: %+v, %v", got, err)
	}
}
