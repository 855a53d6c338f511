package node

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/p2p"
	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local/state"
)

// server is an app with some blocks that has snapshots of every tenth, and its transactions so far.
func server(t testing.TB, blocks int) *app {
	t.Helper()
	dir := t.TempDir()
	a := bare(t, filepath.Join(dir, "db"))
	shoot(t, a, filepath.Join(dir, snapshotDir))
	for i := range blocks {
		block(t, a, transfer(t, uint64(i)))
		a.shots.writing.Wait() // these blocks come faster than any
	}
	return a
}

func shoot(t testing.TB, a *app, dir string) {
	t.Helper()
	h, err := a.ledger.Genesis().Hash()
	if err != nil {
		t.Fatal(err)
	}
	if a.shots, err = openShots(dir, []byte("{}"), h, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	a.shots.every, a.shots.chunk = 10, 512
}

// newcomer is an app that waits for a snapshot.
func newcomer(t testing.TB) *app {
	t.Helper()
	a := bare(t, filepath.Join(t.TempDir(), "db"))
	shoot(t, a, t.TempDir())
	a.plan = filepath.Join(t.TempDir(), syncFile)
	if err := os.WriteFile(a.plan, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.verifier, a.lenders = &verifier{times: map[chain.Block]time.Time{20: time.Unix(20, 0)}, rules: map[chain.Block]uint64{20: state.NewestRules}}, newLenders()
	return a
}

// offer offers a snapshot in the name of peers.
func offer(t testing.TB, to *app, o *abci.RequestOfferSnapshot, peers ...p2p.ID) abci.ResponseOfferSnapshot_Result {
	t.Helper()
	for _, id := range peers {
		to.lenders.offers(id, string(o.Snapshot.Hash))
	}
	r, err := to.OfferSnapshot(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return r.Result
}

// offered is the newest snapshot that a server tells of, and the hash of the state that the next header names.
func offered(t testing.TB, from *app) *abci.RequestOfferSnapshot {
	t.Helper()
	list, err := from.ListSnapshots(ctx, nil)
	if err != nil || len(list.Snapshots) == 0 {
		t.Fatalf("%v, %v", list, err)
	}
	s := list.Snapshots[len(list.Snapshots)-1]
	m, err := decodeManifest(s.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	return &abci.RequestOfferSnapshot{Snapshot: s, AppHash: m.appHash[:]}
}

func chunkOf(t testing.TB, from *app, height uint64, i int) []byte {
	t.Helper()
	r, err := from.LoadSnapshotChunk(ctx, &abci.RequestLoadSnapshotChunk{Height: height, Format: snapshotFormat, Chunk: uint32(i)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Chunk
}

// The state of a snapshot is that of the machine which wrote it, and both go on alike. A wrong chunk is fetched again, from
// somebody else.
func TestSnapshotBetweenMachines(t *testing.T) {
	from, to := server(t, 23), newcomer(t)
	o := offered(t, from)
	if o.Snapshot.Height != 20 || o.Snapshot.Chunks < 5 {
		t.Fatalf("a snapshot of block %d in %d chunks", o.Snapshot.Height, o.Snapshot.Chunks)
	}
	if r := offer(t, to, o, "honest", "liar"); r != abci.ResponseOfferSnapshot_ACCEPT {
		t.Fatal(r)
	}
	for i := range int(o.Snapshot.Chunks) {
		c := chunkOf(t, from, 20, i)
		if i == 3 {
			bad := bytes.Clone(c)
			bad[40] ^= 1
			r, err := to.ApplySnapshotChunk(ctx, &abci.RequestApplySnapshotChunk{Index: 3, Chunk: bad, Sender: "liar"})
			if err != nil || r.Result != abci.ResponseApplySnapshotChunk_RETRY || !slices.Equal(r.RefetchChunks, []uint32{3}) || !slices.Equal(r.RejectSenders, []string{"liar"}) {
				t.Fatalf("a wrong chunk: %v, %v", r, err)
			}
		}
		r, err := to.ApplySnapshotChunk(ctx, &abci.RequestApplySnapshotChunk{Index: uint32(i), Chunk: c, Sender: "honest"})
		if err != nil || r.Result != abci.ResponseApplySnapshotChunk_ACCEPT {
			t.Fatalf("chunk %d: %v, %v", i, r, err)
		}
	}
	info, err := to.Info(ctx, nil)
	if err != nil || info.LastBlockHeight != 20 || !bytes.Equal(info.LastBlockAppHash, o.AppHash) {
		t.Fatalf("%+v, %v", info, err)
	}
	third := bare(t, filepath.Join(t.TempDir(), "db"))
	for i := range 30 {
		txs := [][]byte{transfer(t, uint64(i))}
		f, _ := block(t, third, txs...)
		if i < 20 {
			continue
		}
		g, _ := block(t, to, txs...)
		if !bytes.Equal(f.AppHash, g.AppHash) {
			t.Fatalf("block %d: %x and %x", i+1, f.AppHash, g.AppHash)
		}
	}
	if !missing(to.plan) || to.verifier != nil {
		t.Error("it would begin anew")
	}
	to.shots.writing.Wait()
	if to.shots.newest() != 30 {
		t.Errorf("its own snapshot: %d", to.shots.newest())
	}
}

// Whoever offers what cannot be right is not asked again.
func TestOfferRefused(t *testing.T) {
	from, to := server(t, 23), newcomer(t)
	for name, x := range map[string]struct {
		change func(*abci.RequestOfferSnapshot)
		want   abci.ResponseOfferSnapshot_Result
	}{
		"another form":         {func(o *abci.RequestOfferSnapshot) { o.Snapshot.Format++ }, abci.ResponseOfferSnapshot_REJECT_FORMAT},
		"another height":       {func(o *abci.RequestOfferSnapshot) { o.Snapshot.Height++ }, abci.ResponseOfferSnapshot_REJECT_SENDER},
		"more chunks":          {func(o *abci.RequestOfferSnapshot) { o.Snapshot.Chunks++ }, abci.ResponseOfferSnapshot_REJECT_SENDER},
		"another name":         {func(o *abci.RequestOfferSnapshot) { o.Snapshot.Hash = make([]byte, 32) }, abci.ResponseOfferSnapshot_REJECT_SENDER},
		"a short manifest":     {func(o *abci.RequestOfferSnapshot) { o.Snapshot.Metadata = o.Snapshot.Metadata[:50] }, abci.ResponseOfferSnapshot_REJECT_SENDER},
		"not what headers say": {func(o *abci.RequestOfferSnapshot) { o.AppHash = make([]byte, 32) }, abci.ResponseOfferSnapshot_REJECT_SENDER},
		"another network": {func(o *abci.RequestOfferSnapshot) {
			o.Snapshot.Metadata = bytes.Clone(o.Snapshot.Metadata)
			o.Snapshot.Metadata[len(manifestMagic)] ^= 1
			h := sha256.Sum256(o.Snapshot.Metadata)
			o.Snapshot.Hash = h[:]
		}, abci.ResponseOfferSnapshot_REJECT_SENDER},
		"later rules than the header has": {func(o *abci.RequestOfferSnapshot) { // it must not end the node
			o.Snapshot.Metadata = bytes.Clone(o.Snapshot.Metadata)
			o.Snapshot.Metadata[len(manifestMagic)+32+8+32+7]++
			h := sha256.Sum256(o.Snapshot.Metadata)
			o.Snapshot.Hash = h[:]
		}, abci.ResponseOfferSnapshot_REJECT_SENDER},
		"none": {func(o *abci.RequestOfferSnapshot) { o.Snapshot = nil }, abci.ResponseOfferSnapshot_ABORT},
		"good": {func(*abci.RequestOfferSnapshot) {}, abci.ResponseOfferSnapshot_ACCEPT},
	} {
		o := offered(t, from)
		x.change(o)
		if o.Snapshot != nil {
			to.lenders.offers("somebody", string(o.Snapshot.Hash))
		}
		if r, err := to.OfferSnapshot(ctx, o); err != nil || r.Result != x.want {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if r, err := from.OfferSnapshot(ctx, offered(t, from)); err != nil || r.Result != abci.ResponseOfferSnapshot_ABORT {
		t.Errorf("a node that needs none: %v, %v", r, err)
	}
	var told error
	to.failed, to.newest = func(err error) { told = err }, 1
	if r, err := to.OfferSnapshot(ctx, offered(t, from)); err != nil || r.Result != abci.ResponseOfferSnapshot_ABORT || !errors.Is(told, ErrRules) {
		t.Errorf("later rules: %v, %v, %v", r, err, told)
	}
	if err := to.dropIncoming(); err != nil {
		t.Fatal(err)
	}
}

// A snapshot whose parts fit each other but not the headers is refused when it is whole, and all who sent of it; what was
// there before is untouched.
func TestLyingSnapshot(t *testing.T) {
	from, to, other := server(t, 23), newcomer(t), bare(t, filepath.Join(t.TempDir(), "db"))
	for range 20 {
		block(t, other)
	}
	same := func(_, v []byte) []byte { return v }
	for name, x := range map[string]struct {
		of     *app
		key    byte // of the first entry that is changed
		change func(k, v []byte) []byte
	}{
		"a coin more":              {from, 'a', func(_, v []byte) []byte { w := bytes.Clone(v); w[7]++; return w }},
		"an entry less":            {from, 'c', func(_, v []byte) []byte { return nil }},
		"another version":          {from, 'm', func(_, v []byte) []byte { return append([]byte{200}, v[1:]...) }},
		"another hash":             {from, 'h', func(_, v []byte) []byte { return make([]byte, 32) }},
		"a chain that might exist": {other, 'h', same},
	} {
		t.Run(name, func(t *testing.T) {
			done := false
			refused(t, to, lie(t, x.of, func(k, v []byte) []byte {
				if k[0] != x.key || done {
					return v
				}
				done = true
				return x.change(k, v)
			}), offered(t, from))
			if h, _ := to.ledger.Height(); !done || h != 0 || to.in != nil || !missing(to.store.db.Path()+syncSuffix) {
				t.Error("something is left of it")
			}
		})
	}
}

// lie packs what an app has now, with changes.
func lie(t *testing.T, of *app, change func(k, v []byte) []byte) (list [][]byte) {
	t.Helper()
	if err := of.store.db.View(func(tx *bolt.Tx) error {
		entries(tx, func(k, v []byte) bool {
			if v = change(k, v); v != nil {
				list = append(list, bytes.Clone(k), bytes.Clone(v))
			}
			return true
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// refused offers entries as the snapshot that headers name.
func refused(t *testing.T, to *app, list [][]byte, honest *abci.RequestOfferSnapshot) {
	t.Helper()
	m, err := decodeManifest(honest.Snapshot.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	p, err := newPack(&file, nil, 512)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(list); i += 2 {
		if err := p.put(list[i], list[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if m, err = p.finish(m.genesis, m.height, m.appHash, m.rules); err != nil {
		t.Fatal(err)
	}
	raw, last := m.encode(), len(m.hashes)-1
	sum := sha256.Sum256(raw)
	r := offer(t, to, &abci.RequestOfferSnapshot{AppHash: m.appHash[:],
		Snapshot: &abci.Snapshot{Height: uint64(m.height), Format: snapshotFormat, Chunks: uint32(last + 1), Hash: sum[:], Metadata: raw}}, "liar0", "liar1")
	if r != abci.ResponseOfferSnapshot_ACCEPT {
		t.Fatal(r)
	}
	stream := file.Bytes()[len(archiveMagic)+4:]
	for i := range m.hashes {
		r, err := to.ApplySnapshotChunk(ctx, &abci.RequestApplySnapshotChunk{Index: uint32(i), Chunk: stream[i*512 : i*512+m.length(i)], Sender: fmt.Sprint("liar", i%2)})
		if err != nil || i < last && r.Result != abci.ResponseApplySnapshotChunk_ACCEPT ||
			i == last && (r.Result != abci.ResponseApplySnapshotChunk_REJECT_SNAPSHOT || !slices.Equal(r.RejectSenders, []string{"liar0", "liar1"})) {
			t.Fatalf("chunk %d of %d: %v, %v", i, last+1, r, err)
		}
	}
}

// What a killed node leaves of a snapshot is deleted, the whole ones are served again, and the oldest give way.
func TestSnapshotsOfAFolder(t *testing.T) {
	a := server(t, 53)
	dir := a.shots.dir
	whole, err := os.ReadFile(a.shots.path(50))
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"60.sn3c.tmp": whole, "70.sn3c": whole, "80.sn3c": whole[:len(whole)/2], "x": nil, "050.sn3c": whole[:9]} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shoot(t, a, dir)
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range names {
		got = append(got, n.Name())
	}
	if s := strings.Join(got, " "); s != "30.sn3c 40.sn3c 50.sn3c" || len(a.shots.list) != keepSnapshots || a.shots.newest() != 50 {
		t.Errorf("left: %s", s)
	}
	if chunk := chunkOf(t, a, 10, 0); chunk != nil {
		t.Error("a snapshot that is gone")
	}
	if chunk := chunkOf(t, a, 50, 1<<20); chunk != nil {
		t.Error("a chunk that is not there")
	}
	for i := range 5 {
		block(t, a, transfer(t, uint64(53+i)))
	}
	list, err := a.ListSnapshots(ctx, nil)
	if err != nil || len(list.Snapshots) != 3 {
		t.Errorf("%d snapshots, %v", len(list.Snapshots), err)
	}
}

// A disk that takes no snapshot costs the snapshot, not the node.
func TestSnapshotNotWritten(t *testing.T) {
	a := server(t, 9)
	if err := os.RemoveAll(a.shots.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.shots.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	log := newNotes()
	a.shots.log = slog.New(slog.NewTextHandler(log, nil))
	block(t, a, transfer(t, 9))
	a.shots.writing.Wait()
	block(t, a, transfer(t, 10))
	if !log.has("no snapshot was written; the node goes on") || a.shots.newest() != 0 || a.shots.busy {
		t.Error("nobody is told")
	}
}
