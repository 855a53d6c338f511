package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/p2p"
	comettypes "github.com/cometbft/cometbft/types"

	"sn3/chain"
	"sn3/chain/local/ledger"
	"sn3/chain/local/state"
)

// edits changes bytes: of every four of a script two are a place, one is what it does, one a value.
func edits(b, script []byte) []byte {
	b = bytes.Clone(b)
	for ; len(script) >= 4 && len(b) > 0; script = script[4:] {
		at := int(binary.BigEndian.Uint16(script)) % len(b)
		switch script[2] % 4 {
		case 0:
			b[at] ^= script[3]
		case 1:
			b = slices.Delete(b, at, min(len(b), at+int(script[3])))
		case 2:
			b = slices.Insert(b, at, bytes.Repeat([]byte{script[3]}, 1+int(script[3])%9)...)
		case 3:
			b = slices.Insert(b, at, b[at:min(len(b), at+int(script[3]))]...)
		}
	}
	return b
}

// streamed makes a manifest of a stream of entries that says what an honest one says.
func streamed(honest *manifest, stream []byte, entries uint64) *manifest {
	m := *honest
	m.size, m.entries, m.hashes = uint64(len(stream)), entries, nil
	for b := stream; len(b) > 0; b = b[min(len(b), int(m.chunk)):] {
		m.hashes = append(m.hashes, sha256.Sum256(b[:min(len(b), int(m.chunk))]))
	}
	return &m
}

// FuzzRestoring gives a node that joins whatever peers may send: offers, and of one that fits the headers parts of any content in
// any order from anybody. Nothing panics or ends the node, and it has the state of the headers or none.
func FuzzRestoring(f *testing.F) {
	from := server(f, 23)
	honest := offered(f, from)
	m, err := decodeManifest(honest.Snapshot.Metadata)
	if err != nil {
		f.Fatal(err)
	}
	var stream []byte
	for i := range m.hashes {
		stream = append(stream, chunkOf(f, from, 20, i)...)
	}
	f.Add([]byte(nil), []byte(nil), []byte(nil), int64(0))
	f.Add([]byte{1, 2, 0, 1}, []byte{0, 9, 0, 1}, []byte{0, 1, 2, 250, 3, 3, 7}, int64(1))
	f.Add([]byte{3, 200, 1, 60}, []byte(nil), []byte{255, 0}, int64(-1))
	f.Add([]byte{0, 7, 2, 8, 9, 9, 3, 40}, []byte{0, 100, 1, 3}, []byte{9}, int64(2))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, script, offer, order []byte, entries int64) {
		to := joining(t, from.ledger.Genesis(), dir)
		raw := edits(honest.Snapshot.Metadata, offer)
		if len(offer) > 0 { // any manifest under a right name
			name := sha256.Sum256(raw)
			s := &abci.Snapshot{Height: 20, Format: snapshotFormat, Chunks: uint32(max(0, len(raw)-manifestLen) / 32), Hash: name[:], Metadata: raw}
			to.lenders.offers("liar", string(name[:]))
			if r, err := to.OfferSnapshot(ctx, &abci.RequestOfferSnapshot{Snapshot: s, AppHash: honest.AppHash}); err != nil || r.Result == abci.ResponseOfferSnapshot_UNKNOWN {
				t.Fatalf("an offer: %v, %v", r, err)
			}
		}
		bad := edits(stream, script)
		lie := streamed(m, bad, m.entries+uint64(entries))
		raw = lie.encode()
		name := sha256.Sum256(raw)
		for _, id := range []p2p.ID{"a", "b", "c"} {
			to.lenders.offers(id, string(name[:]))
		}
		s := &abci.Snapshot{Height: 20, Format: snapshotFormat, Chunks: uint32(len(lie.hashes)), Hash: name[:], Metadata: raw}
		r, err := to.OfferSnapshot(ctx, &abci.RequestOfferSnapshot{Snapshot: s, AppHash: honest.AppHash})
		if err != nil || (r.Result == abci.ResponseOfferSnapshot_ACCEPT) != (len(bad) > 0) {
			t.Fatalf("an offer that fits: %v, %v", r, err)
		}
		fetch(t, to, lie, bad, order)
		height, hash := to.ledger.Height()
		if height != 0 && (uint64(height) != 20 || !bytes.Equal(hash[:], honest.AppHash)) {
			t.Fatalf("it has block %d with %s", height, hash)
		}
		if whole := bytes.Equal(bad, stream) && entries == 0; height == 20 && !whole {
			t.Fatal("it takes another archive for the one of the headers")
		}
		if err := to.close(); err != nil {
			t.Fatal(err)
		}
	})
}

// joining is a newcomer that costs little.
func joining(t *testing.T, g *state.Genesis, dir string) *app {
	path := filepath.Join(t.TempDir(), "db")
	st, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	st.db.NoSync = true
	machine, past, err := st.restore(g)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a := &app{ledger: ledger.New(machine, past, ledger.Hints{}), store: st, signer: newSigner(nil, "", log), newest: state.NewestRules, log: log, lenders: newLenders(),
		verifier: &verifier{times: map[chain.Block]time.Time{20: time.Unix(20, 0)}, rules: map[chain.Block]uint64{20: state.NewestRules}}, failed: func(err error) { t.Errorf("it ended: %v", err) }}
	if a.shots, err = openShots(dir, []byte("{}"), machine.GenesisHash(), log); err != nil {
		t.Fatal(err)
	}
	return a
}

// fetch is the engine's side: it brings the next part, or by the order another one, or one that is damaged, of a peer that is not
// rejected.
func fetch(t *testing.T, to *app, m *manifest, stream, order []byte) {
	next, peers := 0, []string{"a", "b", "c"}
	for turn := 0; next < len(m.hashes) && len(peers) > 0 && turn < len(m.hashes)+40; turn++ {
		i, how := next, byte(1)
		if turn < len(order) {
			how = order[turn]
		}
		if how%8 == 7 {
			i = int(how/8) - 1 // any other
		}
		var part []byte
		if i >= 0 && i < len(m.hashes) {
			part = bytes.Clone(stream[i*int(m.chunk):][:m.length(i)])
		}
		switch how % 8 {
		case 3:
			part = nil
		case 4:
			part[int(how)%len(part)] ^= how
		case 5:
			part = append(part, how)
		}
		if to.in == nil {
			return // it was given up
		}
		r, err := to.ApplySnapshotChunk(ctx, &abci.RequestApplySnapshotChunk{Index: uint32(i), Chunk: part, Sender: peers[turn%len(peers)]})
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		peers = slices.DeleteFunc(peers, func(p string) bool { return slices.Contains(r.RejectSenders, p) })
		switch {
		case r.Result == abci.ResponseApplySnapshotChunk_ACCEPT && i == next:
			next++
		case r.Result == abci.ResponseApplySnapshotChunk_RETRY && slices.Equal(r.RefetchChunks, []uint32{uint32(i)}):
		case r.Result == abci.ResponseApplySnapshotChunk_REJECT_SNAPSHOT && to.in == nil:
			return
		default:
			t.Fatalf("part %d of %d: %v", i, next, r)
		}
	}
}

// FuzzLoadChunk: whatever a peer asks for, it gets a part of a snapshot that is there, whole, or nothing.
func FuzzLoadChunk(f *testing.F) {
	a := server(f, 33)
	f.Add(uint64(20), uint32(snapshotFormat), uint32(0))
	f.Add(uint64(30), uint32(snapshotFormat), uint32(1)<<31)
	f.Add(uint64(1)<<63, uint32(0), uint32(1))
	f.Fuzz(func(t *testing.T, height uint64, format, part uint32) {
		r, err := a.LoadSnapshotChunk(ctx, &abci.RequestLoadSnapshotChunk{Height: height, Format: format, Chunk: part})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range a.shots.list {
			if uint64(x.height) != height || format != snapshotFormat || uint64(part) >= uint64(len(x.hashes)) {
				continue
			}
			if err := x.check(int(part), r.Chunk); err != nil {
				t.Fatal(err)
			}
			return
		}
		if r.Chunk != nil {
			t.Fatalf("part %d of %d in the form %d: %d bytes", part, height, format, len(r.Chunk))
		}
	})
}

// shone is a light block that is well formed; nobody has really signed it.
func shone(t testing.TB) []byte {
	t.Helper()
	set, _ := comettypes.RandValidatorSet(2, 1)
	h := comettypes.Header{ChainID: "net", Height: 3, Time: time.Unix(3, 0).UTC(), ValidatorsHash: set.Hash(), NextValidatorsHash: set.Hash(), ConsensusHash: set.Hash(),
		AppHash: make([]byte, 32), LastResultsHash: make([]byte, 32), LastCommitHash: make([]byte, 32), DataHash: make([]byte, 32), EvidenceHash: make([]byte, 32), ProposerAddress: set.Validators[0].Address}
	h.Version.Block = 11
	h.LastBlockID = comettypes.BlockID{Hash: make([]byte, 32), PartSetHeader: comettypes.PartSetHeader{Total: 1, Hash: make([]byte, 32)}}
	c := &comettypes.Commit{Height: 3, BlockID: comettypes.BlockID{Hash: h.Hash(), PartSetHeader: comettypes.PartSetHeader{Total: 1, Hash: make([]byte, 32)}}}
	for _, v := range set.Validators {
		c.Signatures = append(c.Signatures, comettypes.CommitSig{BlockIDFlag: comettypes.BlockIDFlagCommit, ValidatorAddress: v.Address, Timestamp: time.Unix(3, 0), Signature: make([]byte, 64)})
	}
	pb, err := (&comettypes.LightBlock{SignedHeader: &comettypes.SignedHeader{Header: &h, Commit: c}, ValidatorSet: set}).ToProto()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := pb.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeLight(raw, "net"); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeLight(raw, "another"); err == nil || errors.Is(err, ErrTrust) {
		t.Fatal("of another network")
	}
	return raw
}
