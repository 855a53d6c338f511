package events

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
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

// A line that a crash cut short costs no event of the next life.
func TestTornLineIsEnded(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, File), []byte("{\"kind\":\"applied\",\"window\":1}\n{\"kind\":\"app"), 0o644); err != nil {
		t.Fatal(err)
	}
	for life := range 2 {
		log, err := OpenLog(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Add(Event{Kind: Start, Window: chain.Window(life)}); err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := NewTail(dir).Next()
	if err != nil || len(got) != 3 || got[0].Kind != Applied || got[1].Kind != Start || got[2].Window != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
}

// A diary on a full disk loses what does not fit and goes on when there is room again.
func TestFullDiskLosesOnlyWhatDoesNotFit(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here: ", err)
	}
	defer full.Close()
	dir := t.TempDir()
	log, err := OpenLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	file := log.f
	log.f = full
	if err := log.Add(Event{Kind: Eval}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want no space", err)
	}
	if _, err := file.WriteString("{\"kind\":"); err != nil { // what a short write leaves
		t.Fatal(err)
	}
	log.f = file
	if err := log.Add(Event{Kind: Scored}); err != nil {
		t.Fatal(err)
	}
	if got, err := NewTail(dir).Next(); err != nil || len(got) != 1 || got[0].Kind != Scored {
		t.Fatalf("got %+v, %v", got, err)
	}
}

// Events from many goroutines are whole lines.
func TestConcurrentAdds(t *testing.T) {
	dir := t.TempDir()
	log, err := OpenLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				if err := log.Add(Event{Kind: Train, Window: chain.Window(i)}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if got, err := NewTail(dir).Next(); err != nil || len(got) != 400 {
		t.Fatalf("%d events, %v", len(got), err)
	}
}
