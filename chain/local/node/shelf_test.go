package node

import (
	"sync"
	"testing"

	db "github.com/cometbft/cometbft-db"
	cfg "github.com/cometbft/cometbft/config"
)

// Readers that are late find nothing; none gets an error, however it meets the closing.
func TestShelf(t *testing.T) {
	c := cfg.DefaultConfig().SetRoot(t.TempDir())
	open := func() db.DB {
		d, err := shelves(&cfg.DBContext{ID: "x", Config: c})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open()
	if err := d.SetSync([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	begun := make(chan bool, 4)
	for range cap(begun) {
		readers.Go(func() {
			for i := 0; ; i++ {
				v, err := d.Get([]byte("k"))
				ok, herr := d.Has([]byte("k"))
				if err != nil || herr != nil || v != nil && string(v) != "v" {
					t.Errorf("read %q, %v, %v", v, err, herr)
					return
				}
				if i == 0 {
					begun <- true
				}
				if v == nil && !ok {
					return
				}
			}
		})
	}
	for range cap(begun) {
		<-begun
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	readers.Wait()
	d = open()
	defer d.Close()
	if v, err := d.Get([]byte("k")); err != nil || string(v) != "v" {
		t.Errorf("opened again it holds %q, %v", v, err)
	}
}

// A routine that would write after Close ends; what it had to do at its end is done.
func TestShelfWritesNothingAfterClose(t *testing.T) {
	s := &shelf{DB: db.NewMemDB()}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ended, went := make(chan struct{}), false
	go func() {
		defer close(ended)
		_ = s.NewBatch().WriteSync()
		went = true
	}()
	<-ended
	if went {
		t.Error("it goes on")
	}
}
