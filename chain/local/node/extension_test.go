package node

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/state"
)

// dealt is a key of n members and their shares.
func dealt(t testing.TB, n int, from chain.Round) (*beacon.Key, []beacon.Share) {
	t.Helper()
	var who []*dkg.Member
	var keys []beacon.MemberKey
	for range n {
		m, err := dkg.Generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		who, keys = append(who, m), append(keys, m.Public())
	}
	s, err := dkg.NewSession("sn3-test", from, beacon.Quorum(n), keys)
	if err != nil {
		t.Fatal(err)
	}
	var ds []*dkg.Dealing
	for _, m := range who {
		d, err := dkg.Deal(s, m, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	res, err := dkg.Finish(s, ds, nil)
	if err != nil {
		t.Fatal(err)
	}
	var shares []beacon.Share
	for _, m := range who {
		x, err := res.Share(m)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, x)
	}
	return res.Key, shares
}

func signed(t testing.TB, x beacon.Share, rounds ...chain.Round) (out []partial) {
	t.Helper()
	for _, r := range rounds {
		p, err := beacon.PartialSign(x, r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, partial{r, p})
	}
	return out
}

// Which extensions count, across a change of key.
func TestVerifyExtension(t *testing.T) {
	first, a := dealt(t, 4, 0)
	second, b := dealt(t, 2, 10)
	keys := beacon.Keys{first, second}
	both := append(signed(t, a[3], 7, 9), signed(t, b[1], 10, 12)...)
	forged := slices.Clone(both)
	forged[1].Index = 2
	for name, x := range map[string]struct {
		list []partial
		ok   bool
	}{
		"none": {nil, true}, "one": {signed(t, a[0], 9), true}, "both keys": {both, true}, "of two members": {append(signed(t, a[0], 5), signed(t, a[1], 6)...), true},
		"the old key's later": {signed(t, a[0], 10), false}, "the new key's before": {signed(t, b[0], 9), false}, "another member's": {forged, false}, "no member": {[]partial{{11, beacon.Partial{Index: 3}}}, false},
		"before the first key": {signed(t, a[0], 1), true},
	} {
		list, err := parseExtension(12, encodeExtension(x.list))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := verifyExtension(keys, list); (err == nil) != x.ok || err != nil && !errors.Is(err, errExtension) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseExtension(t *testing.T) {
	p := beacon.Partial{Index: 1}
	some := encodeExtension([]partial{{3, p}, {5, p}})
	edit := func(at int, v byte) []byte {
		b := slices.Clone(some)
		b[at] = v
		return b
	}
	var most []partial
	for r := range chain.Round(1 + maxLate) {
		most = append(most, partial{r, p})
	}
	for name, x := range map[string]struct {
		b  []byte
		ok bool
	}{
		"empty": {nil, true}, "two": {some, true}, "the most": {encodeExtension(most), true}, "too many": {encodeExtension(append(most, partial{9, p})), false}, "another version": {edit(0, 2), false},
		"another count": {edit(1, 3), false}, "none": {[]byte{extVersion, 0}, false}, "short": {some[:len(some)-1], false}, "long": {append(slices.Clone(some), 0), false}, "only a version": {some[:1], false},
		"a round to come": {edit(2+extItem+7, 10), false}, "descending": {edit(2+extItem+7, 2), false}, "twice": {edit(2+extItem+7, 3), false}, "no index": {edit(2+8, beacon.MaxMembers), false},
		"the block's own round": {edit(2+extItem+7, 9), true},
	} {
		if _, err := parseExtension(9, x.b); (err == nil) != x.ok || err != nil && !errors.Is(err, errExtension) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No bytes panic, and what is read has one form.
func FuzzExtension(f *testing.F) {
	f.Add(encodeExtension([]partial{{3, beacon.Partial{Index: 1}}, {5, beacon.Partial{Index: 2}}}), uint64(9))
	key, shares := dealt(f, 2, 0)
	f.Add(encodeExtension(signed(f, shares[0], 1, 2)), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, height uint64) {
		list, err := parseExtension(chain.Block(height), b)
		if err != nil {
			return
		}
		if !bytes.Equal(encodeExtension(list), b) {
			t.Fatalf("%x has another form", b)
		}
		_ = verifyExtension(beacon.Keys{key}, list)
		for _, p := range list {
			if uint64(p.round) > height {
				t.Fatal("a round to come")
			}
		}
	})
}

// No bytes as a block panic the app, and what it accepts runs.
func FuzzProposal(f *testing.F) {
	f.Add([]byte{state.SaidDealing, 1, 2}, []byte{state.SaidComplaint}, []byte{beaconTx})
	f.Add(make([]byte, beaconTxLen), append([]byte{state.SaidDealing}, make([]byte, dkg.DealingLen(1, 1))...), []byte(nil))
	f.Fuzz(func(t *testing.T, x, y, z []byte) {
		a := bare(t, filepath.Join(t.TempDir(), "a"))
		txs := [][]byte{x, y, z}
		res, err := a.ProcessProposal(ctx, &abci.RequestProcessProposal{Height: 1, Txs: txs})
		if err != nil {
			t.Fatal(err)
		}
		fin, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: 1, Txs: txs})
		if err != nil || len(fin.TxResults) != len(txs) {
			t.Fatalf("%d results, %v", len(fin.TxResults), err)
		}
		_ = res
	})
}

// What a proposer makes of votes: late ones are not verified, so it finds the bad parts itself, and takes them for nobody.
func TestCombineVotes(t *testing.T) {
	key, shares := dealt(t, 4, 0)
	keys := beacon.Keys{key}
	parts := func(r chain.Round, who ...int) (out []beacon.Partial) {
		for _, i := range who {
			out = append(out, signed(t, shares[i], r)[0].Partial)
		}
		return out
	}
	bad := beacon.Partial{Index: 0, Signature: parts(8, 1)[0].Signature}
	stranger := beacon.Partial{Index: 9, Signature: bad.Signature}
	for name, x := range map[string]struct {
		list    []beacon.Partial
		repairs int
		ok      bool
	}{
		"three": {parts(7, 0, 1, 3), 0, true}, "four": {parts(7, 3, 2, 1, 0), 0, true}, "two": {parts(7, 0, 1), 0, false}, "two, one twice": {parts(7, 0, 1, 1), 0, false},
		"a bad one before": {append([]beacon.Partial{bad}, parts(7, 0, 1, 2)...), 0, true}, "a bad one too many": {append([]beacon.Partial{bad}, parts(7, 1, 2)...), 0, false},
		"a stranger": {append([]beacon.Partial{stranger}, parts(7, 1, 2, 3)...), 0, true}, "no more repairs": {append([]beacon.Partial{bad}, parts(7, 0, 1, 2)...), maxRepairs, false},
	} {
		n := x.repairs
		sig := combine(keys, 7, x.list, &n)
		if (sig != nil) != x.ok || sig != nil && beacon.Verify(key.Public[:], 7, sig) != nil {
			t.Errorf("%s: %x", name, sig)
		}
	}
}

// Without the votes of enough members a round stays open; it comes in a later block, when those who vote then sign it too.
func TestLateRounds(t *testing.T) {
	key, shares := dealt(t, 4, 0)
	apps := make([]*app, 4)
	for i := range apps {
		apps[i] = shared(t, key, shares[i])
	}
	decide := func(voters ...int) int {
		h, _ := apps[0].ledger.Height()
		var votes []abci.ExtendedVoteInfo
		for _, i := range voters {
			e, err := apps[i].ExtendVote(ctx, &abci.RequestExtendVote{Height: int64(h)})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range apps {
				v, err := a.VerifyVoteExtension(ctx, &abci.RequestVerifyVoteExtension{Height: int64(h), VoteExtension: e.VoteExtension})
				if err != nil || v.Status != abci.ResponseVerifyVoteExtension_ACCEPT {
					t.Fatalf("an honest extension: %v, %v", v, err)
				}
			}
			votes = append(votes, abci.ExtendedVoteInfo{VoteExtension: e.VoteExtension})
		}
		p, err := apps[3].PrepareProposal(ctx, &abci.RequestPrepareProposal{Height: int64(h) + 1, MaxTxBytes: 1 << 20, LocalLastCommit: abci.ExtendedCommitInfo{Votes: votes}})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range apps {
			ok, err := a.ProcessProposal(ctx, &abci.RequestProcessProposal{Height: int64(h) + 1, Txs: p.Txs})
			if err != nil || ok.Status != abci.ResponseProcessProposal_ACCEPT {
				t.Fatalf("proposal: %v, %v", ok, err)
			}
			if _, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: int64(h) + 1, Txs: p.Txs}); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Commit(ctx, &abci.RequestCommit{}); err != nil {
				t.Fatal(err)
			}
		}
		return len(p.Txs)
	}
	for range 20 {
		if n := decide(0); n != 0 { // and the proposer's own part: two of three
			t.Fatalf("two members made %d beacons", n)
		}
	}
	for range 8 {
		if n := decide(0, 1); n < 1 || n > state.MaxBeacons {
			t.Fatalf("three members made %d beacons", n)
		}
	}
	h, _ := apps[0].ledger.Height()
	for r := range chain.Round(h) {
		sig, err := apps[0].ledger.Query(ctx, local.QuerySignature, strconv.Itoa(int(r)))
		if err != nil {
			t.Errorf("round %d of %d: %s %v", r, h, sig, err)
		}
	}
}

// shared is an app of a chain that begins with a shared key, with one share of it.
func shared(t testing.TB, key *beacon.Key, share beacon.Share) *app {
	t.Helper()
	a := bareOf(t, filepath.Join(t.TempDir(), "a"), func(g *state.Genesis) { g.BeaconKey, g.Beacon = key.Public[:], key.Encode() })
	a.signer.shares[0], a.signer.seen[0] = share, true
	return a
}

// A share's file is of use only for its key; without the chain's dealings it cannot be made again.
func TestShareFiles(t *testing.T) {
	key, shares := dealt(t, 3, 0)
	a := shared(t, key, shares[0])
	s := newSigner(nil, filepath.Join(t.TempDir(), sharesDir), slog.New(slog.DiscardHandler))
	if _, err := s.read(key, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := writeShare(s.dir, shares[0]); err != nil {
		t.Fatal(err)
	}
	if got, err := s.read(key, 0); err != nil || got != shares[0] {
		t.Errorf("its file: %v", err)
	}
	if _, err := s.read(key, 1); err == nil {
		t.Error("another member's file was taken")
	}
	other, _ := dealt(t, 3, 0)
	if _, err := s.read(other, 0); err == nil {
		t.Error("another key's file was taken")
	}
	if err := os.WriteFile(shareFile(s.dir, 0), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.read(key, 0); err == nil {
		t.Error("a damaged file was taken")
	}
	if _, err := s.derive(a.ledger, key); err == nil {
		t.Error("a share of no dealings")
	}
}
