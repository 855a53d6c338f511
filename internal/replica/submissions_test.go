package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/gradients"
	"sn3/storage"
)

// window0 puts the replica behind Deadline(0) with θ_{-1} loaded, and gives what manifests of window 0 must say.
func (f *fixture) window0(t *testing.T) (bind func(miner string) func(*gradients.Manifest)) {
	t.Helper()
	s, err := f.initial()
	if err != nil {
		t.Fatal(err)
	}
	f.publishState(s)
	f.clock.Advance(chain.Head{Block: f.sched.At(0, chain.PhaseDeadline)})
	return func(miner string) func(*gradients.Manifest) {
		return func(m *gradients.Manifest) {
			a, ok, err := f.Assignment(context.Background(), 0, hotkey(t, miner))
			if err != nil || !ok {
				t.Fatalf("assignment of %s: %v, %v", miner, ok, err)
			}
			m.Base, m.Assignment = s.root, a.Digest
		}
	}
}

// publish puts a record of window 0 on chain.
func (l *ledger) publish(h chain.Hotkey, locator []byte, digest chain.Hash, at chain.Block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.snap.Records {
		if p.Hotkey == h {
			l.snap.Records[i].Record = chain.Record{Locator: locator, Digest: digest, Body: chain.SubmissionBody{}.Encode()}
			l.snap.Records[i].At = at
		}
	}
}

// outcome collects what Submissions yields for window 0.
func (f *fixture) outcome(ctx context.Context) (got map[chain.Hotkey]Submission, refused map[chain.Hotkey]*Rejection, err error) {
	got, refused = map[chain.Hotkey]Submission{}, map[chain.Hotkey]*Rejection{}
	subs, failed := f.Submissions(ctx, 0)
	for s, r := range subs {
		if r != nil {
			refused[r.Candidate.Hotkey] = r
		} else {
			got[s.Hotkey] = s
		}
	}
	return got, refused, failed()
}

// bad is one way to submit something wrong; with no reason it is right.
type bad struct {
	manifest func(*gradients.Manifest)
	object   func(f *fixture, c *chain.Candidate, m gradients.Manifest, raw []byte) // after the honest objects are there
	reason   Reason
	detail   string
}

func badManifests() map[string]bad {
	steps := func(n, consumed, rebase uint32) func(*gradients.Manifest) {
		return func(m *gradients.Manifest) { m.Steps, m.Consumed, m.RebaseStep = n, consumed, rebase }
	}
	return map[string]bad{
		"honest":         {},
		"fewer steps":    {manifest: steps(1, 4, 1)},
		"another run":    {manifest: func(m *gradients.Manifest) { m.Run[0]++ }, reason: BadManifest, detail: "for run"},
		"another window": {manifest: func(m *gradients.Manifest) { m.Window = 1 }, reason: BadManifest, detail: "for window 1"},
		"another shard":  {manifest: func(m *gradients.Manifest) { m.Shard = 1 }, reason: BadManifest, detail: "shard 1"},
		"another base":   {manifest: func(m *gradients.Manifest) { m.Base[0]++ }, reason: WrongBase, detail: "trained from"},
		"other data":     {manifest: func(m *gradients.Manifest) { m.Assignment[0]++ }, reason: BadManifest, detail: "another data assignment"},
		"sealed":         {manifest: func(m *gradients.Manifest) { m.Sealed[0]++ }, reason: BadManifest, detail: "sealed"},
		"no steps":       {manifest: steps(0, 0, 0), reason: BadManifest, detail: "0 steps"},
		"too many steps": {manifest: steps(11, 44, 0), reason: BadManifest, detail: "11 steps"},
		"more data":      {manifest: steps(10, 41, 0), reason: BadManifest, detail: "41 samples"},
		"late rebase":    {manifest: steps(10, 40, 11), reason: BadManifest, detail: "rebase at 11"},
	}
}

func badObjects(t *testing.T) map[string]bad {
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b }
	// rename stores other bytes as the payload under their own hash.
	rename := func(f *fixture, c *chain.Candidate, m gradients.Manifest, raw []byte) {
		m.Payload, m.Length = sha256.Sum256(raw), int64(len(raw))
		m.Sealed = m.Payload
		c.Digest = sha256.Sum256(m.Encode())
		f.put(t, "miner-1", payloadKey(m.Payload), raw)
		f.put(t, "miner-1", manifestKey(c.Digest), m.Encode())
	}
	return map[string]bad{
		"another's record": {object: func(f *fixture, c *chain.Candidate, _ gradients.Manifest, _ []byte) {
			p, _ := f.chain.snap.Record(hotkey(t, "miner-2"))
			c.Digest, c.Locator = p.Record.Digest, p.Record.Locator
		}, reason: BadManifest, detail: "made by"},
		"no manifest": {object: func(f *fixture, c *chain.Candidate, _ gradients.Manifest, _ []byte) { c.Digest[0]++ }, reason: Unavailable, detail: "not found"},
		"flipped manifest": {object: func(f *fixture, c *chain.Candidate, m gradients.Manifest, _ []byte) {
			f.put(t, "miner-1", manifestKey(c.Digest), flip(m.Encode()))
		}, reason: BadHash},
		"long manifest": {object: func(f *fixture, c *chain.Candidate, _ gradients.Manifest, _ []byte) {
			f.put(t, "miner-1", manifestKey(c.Digest), make([]byte, maxManifest+1))
		}, reason: TooLong},
		"no manifest at all": {object: func(f *fixture, c *chain.Candidate, _ gradients.Manifest, _ []byte) {
			c.Digest = sha256.Sum256([]byte("hello"))
			f.put(t, "miner-1", manifestKey(c.Digest), []byte("hello"))
		}, reason: BadManifest, detail: "not a manifest"},
		"no payload": {object: func(f *fixture, _ *chain.Candidate, m gradients.Manifest, _ []byte) {
			if err := f.mem.Bucket("miner-1", true).Delete(context.Background(), payloadKey(m.Payload)); err != nil {
				t.Fatal(err)
			}
		}, reason: Unavailable, detail: "not found"},
		"corrupt payload": {object: func(f *fixture, _ *chain.Candidate, m gradients.Manifest, raw []byte) {
			f.put(t, "miner-1", payloadKey(m.Payload), flip(raw))
		}, reason: BadHash},
		"truncated payload": {object: func(f *fixture, _ *chain.Candidate, m gradients.Manifest, raw []byte) {
			f.put(t, "miner-1", payloadKey(m.Payload), raw[:len(raw)-1])
		}, reason: BadHash},
		"longer than said": {object: func(f *fixture, _ *chain.Candidate, m gradients.Manifest, raw []byte) {
			f.put(t, "miner-1", payloadKey(m.Payload), append(bytes.Clone(raw), make([]byte, 1<<20)...))
		}, reason: TooLong},
		"oversized": {manifest: func(m *gradients.Manifest) { m.Length = 1 << 40 }, reason: TooLong, detail: "at most"},
		"empty":     {manifest: func(m *gradients.Manifest) { m.Length = 0 }, reason: TooLong},
		"undecodable": {object: func(f *fixture, c *chain.Candidate, m gradients.Manifest, raw []byte) {
			rename(f, c, m, append([]byte("SN4P"), raw[4:]...))
		}, reason: BadPayload},
		"trailing byte": {object: func(f *fixture, c *chain.Candidate, m gradients.Manifest, raw []byte) {
			rename(f, c, m, append(bytes.Clone(raw), 0))
		}, reason: BadPayload},
		"no locator":    {object: func(_ *fixture, c *chain.Candidate, _ gradients.Manifest, _ []byte) { c.Locator = []byte{255} }, reason: Unavailable, detail: "locator"},
		"empty locator": {object: func(_ *fixture, c *chain.Candidate, _ gradients.Manifest, _ []byte) { c.Locator = nil }, reason: Unavailable, detail: "locator"},
		"another bucket": {object: func(_ *fixture, c *chain.Candidate, _ gradients.Manifest, _ []byte) {
			c.Locator = locatorOf(t, "nobodys-bucket")
		}, reason: Unavailable, detail: "not found"},
	}
}

// Every way to submit something wrong removes its sender, with a reason, and nobody else.
func TestBadSubmissionRemovesOnlyItsSender(t *testing.T) {
	cases := badManifests()
	maps.Copy(cases, badObjects(t))
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := fix(t, nil)
			bind := f.window0(t)
			honest, _, _ := f.submission(t, "miner-2", 0, bind("miner-2"))
			f.chain.publish(honest.Hotkey, honest.Locator, honest.Digest, 9)
			cand, m, raw := f.submission(t, "miner-1", 0, func(m *gradients.Manifest) {
				bind("miner-1")(m)
				if c.manifest != nil {
					c.manifest(m)
				}
			})
			if c.object != nil {
				c.object(f, &cand, m, raw)
			}
			f.chain.publish(cand.Hotkey, cand.Locator, cand.Digest, 10)
			got, refused, err := f.outcome(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if s, ok := got[honest.Hotkey]; !ok || s.At != 9 {
				t.Errorf("the honest miner: %+v", refused[honest.Hotkey])
			}
			switch r := refused[cand.Hotkey]; {
			case c.reason == "":
				if s := got[cand.Hotkey]; r != nil || s.At != 10 || s.Payload == nil || len(s.Assignment.Samples) != 40 {
					t.Errorf("refused: %v", r)
				}
			case r == nil || r.Reason != c.reason || !strings.Contains(r.Detail, c.detail):
				t.Errorf("got %v, want %s … %s", r, c.reason, c.detail)
			}
		})
	}
}

// A payload made with another k than the run's is none of this window.
func TestPayloadOfAnotherK(t *testing.T) {
	f := fix(t, nil)
	bind := f.window0(t)
	k := f.cfg.Run.Payload.K
	f.cfg.Run.Payload.K = []chain.KStep{{From: 0, K: 64}}
	c, _, _ := f.submission(t, "miner-1", 0, bind("miner-1"))
	f.cfg.Run.Payload.K = k
	f.chain.publish(c.Hotkey, c.Locator, c.Digest, 9)
	if _, refused, err := f.outcome(context.Background()); err != nil || refused[c.Hotkey] == nil || refused[c.Hotkey].Reason != BadManifest {
		t.Errorf("got %v, %v", refused[c.Hotkey], err)
	}
}

// A crowd of miners whose buckets never answer costs the others nothing: what has arrived by then is judged, long before
// ScoreBy.
func TestHangingBucketsCostNobodyElse(t *testing.T) {
	load := NewLoad()
	const crowd = 200
	f := fix(t, func(f *fixture, c *Config) {
		c.Clock = NewClock(load)
		for i := range crowd {
			f.chain.seat(t, fmt.Sprint("crowd-", i), 0)
		}
		sched := c.Run.Schedule
		sched.Length, sched.ScoreBy, sched.Select, sched.Apply = 60, 42, 43, 44 // 40 blocks to score
		c.Run.Schedule = sched
		f.open = func(name string, d storage.Driver) storage.Driver {
			if !strings.HasPrefix(name, "crowd-") {
				return d
			}
			return served{d, func(ctx context.Context, _ string) ([]byte, error) {
				return nil, c.Clock.Wait(ctx, 1<<40)
			}}
		}
	})
	bind := f.window0(t)
	honest, _, _ := f.submission(t, "miner-2", 0, bind("miner-2"))
	f.chain.publish(honest.Hotkey, honest.Locator, honest.Digest, 9)
	for i := range crowd {
		name := fmt.Sprint("crowd-", i)
		f.chain.publish(hotkey(t, name), locatorOf(t, name), chain.Hash{byte(i)}, 9)
	}
	done := false
	f.clock.Go(func() {
		got, refused, err := f.outcome(context.Background())
		if err != nil || len(got) != 1 || len(refused) != crowd {
			t.Errorf("%d accepted, %d refused, %v", len(got), len(refused), err)
		}
		for _, r := range refused {
			if r.Reason != Unavailable || !strings.Contains(r.Detail, "had not arrived in time") {
				t.Errorf("got %v", r)
			}
		}
		done = true
	})
	load.Idle()
	by := f.sched.At(0, chain.PhaseDeadline) + 13
	if f.fetchBy(0) != by {
		t.Fatalf("fetching ends at %d, want a third of the way: %d", f.fetchBy(0), by)
	}
	f.clock.Advance(chain.Head{Block: by - 1})
	load.Idle()
	if done {
		t.Fatal("it did not wait")
	}
	f.clock.Advance(chain.Head{Block: by})
	load.Idle()
	if !done {
		t.Fatal("it waits on for buckets that hang")
	}
}

// A full disk is this node's trouble, not a miner's fault.
func TestFullDiskBlamesNobody(t *testing.T) {
	f := fix(t, nil)
	bind := f.window0(t)
	c, _, _ := f.submission(t, "miner-1", 0, bind("miner-1"))
	f.chain.publish(c.Hotkey, c.Locator, c.Digest, 9)
	if err := os.WriteFile(filepath.Join(f.objects.dir, "0"), nil, 0o600); err != nil { // where the folder of window 0 must go
		t.Fatal(err)
	}
	_, refused, err := f.outcome(context.Background())
	var disk *os.PathError
	if !errors.As(err, &disk) || len(refused) != 0 {
		t.Errorf("got %v, refused %v", err, refused)
	}
}

// A chain that does not answer is an error, not a window without submissions.
func TestSubmissionsWithoutChain(t *testing.T) {
	f := fix(t, nil)
	f.window0(t)
	f.chain.err = chain.ErrUnavailable
	if _, _, err := f.outcome(context.Background()); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// What a validator accepts it mirrors; a miner does not.
func TestAcceptedIsMirrored(t *testing.T) {
	for _, validator := range []bool{true, false} {
		f := fix(t, func(_ *fixture, c *Config) { c.Validator = validator })
		bind := f.window0(t)
		good, m, _ := f.submission(t, "miner-1", 0, bind("miner-1"))
		f.chain.publish(good.Hotkey, good.Locator, good.Digest, 9)
		bad, _, _ := f.submission(t, "miner-2", 0, nil)
		f.chain.publish(bad.Hotkey, bad.Locator, bad.Digest, 9)
		if _, _, err := f.outcome(context.Background()); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, it := range f.outbox.todo {
			keys = append(keys, it.key)
		}
		want := "[]"
		if validator {
			want = fmt.Sprint([]string{payloadKey(m.Payload), manifestKey(good.Digest)})
		}
		if fmt.Sprint(keys) != want {
			t.Errorf("validator %v: queued %v, want %s", validator, keys, want)
		}
	}
}
