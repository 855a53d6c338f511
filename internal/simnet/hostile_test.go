package simnet

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/storage"
	"sn3/validator/scoring"
)

// spoiler is a bucket whose owner changes its payloads on the way in.
type spoiler struct {
	storage.Driver
	spoil func([]byte) []byte
}

func (s spoiler) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o storage.PutOptions) error {
	if !strings.HasPrefix(key, "payload/") {
		return s.Driver.Put(ctx, key, body, size, o)
	}
	b, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	if err != nil {
		return err
	}
	b = s.spoil(b)
	return s.Driver.Put(ctx, key, strings.NewReader(string(b)), int64(len(b)), o)
}

// verdict is what a validator's newest evidence says about a hotkey, read as `sn3 why` reads it.
func (n *Net) verdict(t *testing.T, validator *Node, about chain.Hotkey) (d scoring.Verdict, w chain.Window) {
	t.Helper()
	s, err := client{c: n.Chain}.Snapshot(context.Background(), n.Chain.Height())
	if err != nil {
		t.Fatal(err)
	}
	p, ok := s.Record(validator.Hotkey)
	if !ok {
		t.Fatalf("%s has not voted", validator.Name)
	}
	raw, err := n.Mem.Bucket(validator.Name, false).Get(context.Background(), "evidence/"+p.Record.Digest.String(), 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	var ev scoring.Evidence
	if err := json.Unmarshal(raw, &ev); err != nil {
		t.Fatal(err)
	}
	for _, d := range ev.Verdicts {
		if d.Hotkey == about {
			return d, ev.Window
		}
	}
	return d, ev.Window
}

// wins counts in how many windows a hotkey was selected, and how many windows there were.
func (x *Node) wins(h chain.Hotkey) (won, windows int) {
	for _, e := range x.Events(events.Applied) {
		windows++
		for _, o := range e.Winners {
			if o == h {
				won++
			}
		}
	}
	return won, windows
}

// A corrupt, truncated or oversized payload removes only its sender, with the reason in the evidence that `sn3 why` prints;
// one made for another window too (TestReplaysAndCopies). All others are selected in every window.
func TestBadPayloadsRemoveOnlyTheirSenders(t *testing.T) {
	spoil := map[int]func([]byte) []byte{
		1: func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		2: func(b []byte) []byte { return b[:len(b)/2] },
		3: func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) },
		4: func([]byte) []byte { return nil },
	}
	reason := map[int]string{1: "hash: ", 2: "hash: ", 3: "size: ", 4: "hash: "}
	n, nodes := start(t, Options{Miners: 6}, func(i int) NodeOptions {
		if spoil[i] == nil {
			return NodeOptions{}
		}
		return NodeOptions{Bucket: func(d storage.Driver) storage.Driver { return spoiler{d, spoil[i]} }}
	})
	n.To(3)
	agree(t, 3, nodes...)
	for i := 1; i <= 6; i++ {
		x := nodes[1+i]
		won, windows := nodes[0].wins(x.Hotkey)
		if spoil[i] == nil {
			if won != windows {
				t.Errorf("%s was selected in %d of %d windows", x.Name, won, windows)
			}
			continue
		}
		if won != 0 {
			t.Errorf("%s was selected in %d windows", x.Name, won)
		}
		for _, v := range nodes[:2] {
			if d, _ := n.verdict(t, v, x.Hotkey); d.Status != "rejected" || !strings.HasPrefix(d.Reason, reason[i]) {
				t.Errorf("%s says of %s: %s, %q", v.Name, x.Name, d.Status, d.Reason)
			}
		}
	}
}

// thief is a registered miner that trains nothing: whenever it sees a payload in the bucket of its victim it publishes it as
// its own, bound to its own hotkey and data as a manifest must be.
type thief struct {
	n      *Net
	name   string
	hotkey chain.Hotkey
	eye    *replica.Replica // what it knows of the network
	victim string
	lag    chain.Window // windows after which it sends
	late   bool         // it waits for the victim's record
	sent   map[chain.Window]bool
}

// look is called while all others rest before a block.
func (th *thief) look(t *testing.T) {
	ctx := context.Background()
	loot := th.n.Mem.Bucket(th.victim, false)
	page, err := loot.List(ctx, "manifest/", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range page {
		b, err := loot.Get(ctx, o.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		m, err := gradients.ParseManifest(b)
		if err != nil {
			t.Fatal(err)
		}
		now, ok := th.eye.Schedule().Training(th.n.Chain.Height())
		w := m.Window + th.lag
		if !ok || th.sent[w] || now < w {
			continue
		}
		if n, ok := th.eye.Applied(); !ok || n < w || th.late && !th.recorded(t, o.Key) {
			continue
		}
		th.sent[w] = true
		th.send(t, loot, m, w)
	}
}

// recorded says whether the victim's record of a manifest is on chain.
func (th *thief) recorded(t *testing.T, manifest string) bool {
	s, err := client{c: th.n.Chain}.Snapshot(context.Background(), th.n.Chain.Height())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Records {
		if "manifest/"+p.Record.Digest.String() == manifest {
			return true
		}
	}
	return false
}

func (th *thief) send(t *testing.T, loot *storage.Bucket, m gradients.Manifest, w chain.Window) {
	ctx := context.Background()
	payload, err := loot.Get(ctx, "payload/"+m.Payload.String(), 1<<24)
	if err != nil {
		t.Fatal(err)
	}
	a, ok, err := th.eye.Assignment(ctx, w, th.hotkey)
	base, berr := th.eye.At(ctx, w-1)
	if err != nil || berr != nil || !ok {
		t.Fatal(ok, err, berr)
	}
	defer base.Release()
	m.Window, m.Hotkey, m.Assignment, m.Base = w, th.hotkey, a.Digest, base.Root()
	digest := chain.Hash(sha256.Sum256(m.Encode()))
	own := th.n.Mem.Bucket(th.name, true)
	if err := errors.Join(own.Put(ctx, "payload/"+m.Payload.String(), payload), own.Put(ctx, "manifest/"+digest.String(), m.Encode())); err != nil {
		t.Fatal(err)
	}
	l, err := storage.Local(th.name)
	if err != nil {
		t.Fatal(err)
	}
	r := chain.Record{Locator: l.Encode(), Digest: digest, Body: chain.SubmissionBody{Window: w}.Encode()}
	th.n.Load.Add(1)
	go func() {
		defer th.n.Load.Add(-1)
		if _, err := (client{th.n.Chain, key(th.name)}).Publish(ctx, r); err != nil {
			t.Error(err)
		}
	}()
	th.n.Load.Idle()
}

// robbed runs a network with a thief up to window w.
func robbed(t *testing.T, o Options, w, lag chain.Window, late bool) (*Net, []*Node, chain.Hotkey) {
	o.Miners, o.Spare = 3, 1
	n, nodes := start(t, o, plain)
	th := &thief{n: n, name: MinerName(4), eye: nodes[2].Replica, victim: MinerName(1), lag: lag, late: late, sent: map[chain.Window]bool{}}
	s, err := client{c: n.Chain}.Snapshot(context.Background(), n.Chain.Height())
	if err != nil {
		t.Fatal(err)
	}
	th.hotkey = s.Neurons[len(s.Neurons)-1].Hotkey
	end := nodes[0].Replica.Schedule().At(w, chain.PhaseApply)
	for n.Chain.Height() < end {
		n.Load.Idle()
		th.look(t)
		n.Tick()
	}
	n.Load.Idle()
	if len(th.sent) < int(w-lag) {
		t.Fatalf("it sent in %v only", th.sent)
	}
	return n, nodes, th.hotkey
}

// Who copies a payload is a duplicate, and the one it was copied from is selected as if nothing had happened: when the copy
// is a block later, because the chain knows who was first; in the same block, because the payload fits the author's data; and
// windows later, because payloads are remembered.
func TestReplaysAndCopies(t *testing.T) {
	for name, c := range map[string]struct {
		lag    chain.Window
		late   bool
		noise  bool
		reason string
	}{
		"a block later":     {0, true, false, "sent the same payload first"},
		"in the same block": {0, false, true, "in the same block"},
		"in the same block, on text that tells nothing": {0, false, false, "in the same block"},
		"a window later": {1, false, false, "the same payload was sent in window"},
		"four later":     {4, false, false, "the same payload was sent in window"},
	} {
		if testing.Short() && (c.late || c.lag > 1) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			last := 3 + c.lag
			change := func(r *chain.Run) {
				r.Schedule = chain.ScheduleParams{First: 4, Length: 12, Lead: 2, Deadline: 5, ScoreBy: 8, Select: 9, Apply: 10}
				r.Score.Own = 40
			}
			n, nodes, thief := robbed(t, Options{Learn: c.noise, Noise: c.noise, Change: change}, last, c.lag, c.late)
			agree(t, last, nodes...)
			if won, _ := nodes[0].wins(thief); won != 0 {
				t.Errorf("the copier was selected %d times", won)
			}
			for _, v := range nodes[:2] {
				d, w := n.verdict(t, v, thief)
				if d.Status != "rejected" || !strings.HasPrefix(d.Reason, "duplicate: ") || !strings.Contains(d.Reason, c.reason) {
					t.Errorf("%s in window %d: %s, %q", v.Name, w, d.Status, d.Reason)
				}
				for _, e := range v.Events(events.Rejected) {
					if *e.Peer != thief {
						t.Errorf("%s rejected an honest miner in window %d: %s", v.Name, e.Window, e.Reason)
					}
				}
			}
		})
	}
}

// loud multiplies what was learned.
type loud struct{ flipped }

func (l *loud) Trained() model.Weights {
	out := model.NewFlat(l.start.Layout())
	if err := out.CopyFrom(l.Trainer.Trained()); err != nil {
		return l.start
	}
	for i := range out.Data {
		out.Data[i] = l.start.Data[i] + 1000*(out.Data[i]-l.start.Data[i])
	}
	return out
}

// blown is a judge whose losses are not finite under a payload beyond some norm, as an overflow would make them.
type blown struct{ model.Judge }

func (b blown) Losses(ctx context.Context, d model.Delta, scale float32, sets [][]model.Batch) ([][]float64, error) {
	out, err := b.Judge.Losses(ctx, d, scale, sets)
	if p, ok := d.(*gradients.Payload); ok && p.Norm() > 20 && err == nil {
		out[0][0], out[0][1] = math.Inf(1), math.NaN()
	}
	return out, err
}

// A payload that makes the model's losses infinite is rejected and cannot spoil the vote, the ratings or the evidence.
func TestInfiniteLossesAreRejected(t *testing.T) {
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: 3})
	var nodes []*Node
	for i := range 2 {
		nodes = append(nodes, n.StartValidator(ValidatorName(i+1), NodeOptions{Judge: func(j model.Judge, _ *replica.Clock) model.Judge { return blown{j} }}))
	}
	for i := range 3 {
		o := NodeOptions{}
		if i == 0 {
			o.Trainer = func(tr model.Trainer, _ *replica.Clock) model.Trainer { return &loud{flipped{Trainer: tr}} }
		}
		nodes = append(nodes, n.StartMiner(MinerName(i+1), o))
	}
	n.To(2)
	agree(t, 2, nodes...)
	for i, x := range nodes[2:] {
		won, windows := nodes[0].wins(x.Hotkey)
		if want := windows * min(i, 1); won != want {
			t.Errorf("%s was selected in %d of %d windows, want %d", x.Name, won, windows, want)
		}
	}
	for _, v := range nodes[:2] {
		if d, w := n.verdict(t, v, nodes[2].Hotkey); w != 2 || d.Status != "rejected" || !strings.Contains(d.Reason, "not finite") {
			t.Errorf("%s in window %d: %+v", v.Name, w, d)
		}
	}
}
