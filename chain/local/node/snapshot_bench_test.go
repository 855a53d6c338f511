package node

import (
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
)

// BenchmarkSnapshot writes snapshots of 500,000 accounts. What blocks wait for is told: the beginning, and the slowest commit
// while the snapshot was written, beside one without.
func BenchmarkSnapshot(b *testing.B) {
	dir := b.TempDir()
	a := bare(b, filepath.Join(dir, "db"))
	shoot(b, a, filepath.Join(dir, snapshotDir))
	a.shots.every, a.shots.chunk = 1, chunkSize
	a.store.db.NoSync = false
	if err := a.store.db.Update(func(tx *bolt.Tx) error {
		for i := range 500_000 {
			k := make([]byte, 33)
			k[0] = 'a'
			binary.BigEndian.PutUint64(k[1:], uint64(i)*0x9E3779B97F4A7C15)
			if err := tx.Bucket(bucketState).Put(k, make([]byte, 16)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	a.shots.log = slog.New(slog.DiscardHandler)
	commit := func() time.Duration {
		h, _ := a.ledger.Height()
		e := a.ledger.Execute(chain.Head{Block: h + 1, Time: time.Unix(int64(h), 0)}, nil, nil, nil)
		begun := time.Now()
		if err := a.store.commit(e); err != nil {
			b.Fatal(err)
		}
		took := time.Since(begun)
		a.ledger.Commit(e)
		return took
	}
	var begin, beside, alone, whole time.Duration
	for b.Loop() {
		alone = max(alone, commit())
		h, hash := a.ledger.Height()
		begun := time.Now()
		if err := a.shots.take(a.store.db, h, hash, 1); err != nil {
			b.Fatal(err)
		}
		begin = max(begin, time.Since(begun))
		for writing := true; writing; {
			beside = max(beside, commit())
			a.shots.mu.Lock()
			writing = a.shots.busy
			a.shots.mu.Unlock()
		}
		whole = max(whole, time.Since(begun))
	}
	b.ReportMetric(float64(begin.Microseconds()), "begin-us")
	b.ReportMetric(float64(alone.Microseconds()), "alone-us")
	b.ReportMetric(float64(beside.Microseconds()), "beside-us")
	b.ReportMetric(float64(whole.Milliseconds()), "whole-ms")
}
