package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/wallet"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/preset"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/data"
	"sn3/model/hf"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
	"sn3/validator/scoring"
)

// object is a file that some part of SN3 wrote, and what inspect must and must not say of it.
type object struct {
	path, what string
	says       []string
	hides      []string
}

// workshop writes objects with the code that writes them in a network.
type workshop struct {
	t   *testing.T
	dir string
	run *chain.Run
	all []object
}

func (w *workshop) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// add takes a file that is there, or writes it.
func (w *workshop) add(name string, b []byte, what string, says ...string) *object {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if b != nil {
		w.ok(os.MkdirAll(filepath.Dir(path), 0o700))
		w.ok(os.WriteFile(path, b, 0o600))
	}
	w.all = append(w.all, object{path: path, what: what, says: says})
	return &w.all[len(w.all)-1]
}

func (w *workshop) json(v any) []byte {
	w.t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	w.ok(err)
	return b
}

// model makes what a miner makes of a model: feedback, payload, manifest, optimizer, saved model.
func (w *workshop) model() {
	cfg := replica.ModelConfig(w.run)
	layout, err := model.NewLayout(cfg)
	w.ok(err)
	a, b := model.NewFlat(layout), model.NewFlat(layout)
	a.Init(1)
	b.Init(2)
	root, err := gradients.Root(a)
	w.ok(err)

	f, err := gradients.OpenFeedback(filepath.Join(w.dir, "feedback"), layout, 0.95)
	w.ok(err)
	p, err := f.Begin(a, b, 3, 64)
	w.ok(err)
	raw := make([]byte, p.Size())
	_, err = p.Bytes().ReadAt(raw, 0)
	w.ok(err)
	w.ok(p.Confirm())
	w.add("feedback/slot-1", nil, "slot of error feedback", `"sequence": 1`, `"window": 3`, `"parameters": 885888`, p.Sum().String())
	w.add("feedback/head", nil, "head of error feedback", `"confirmed_sequence": 1`)
	w.add("payload/"+p.Sum().String(), raw, "payload", `"k": 64`, p.Sum().String(), chain.Hash(layout.Hash()).String())
	m := gradients.Manifest{Run: w.run.Hash(), Window: 3, Base: root, Payload: p.Sum(), Sealed: p.Sum(), Length: p.Size(), Steps: 10}
	w.add("manifest/"+chain.Hash(sha256.Sum256(m.Encode())).String(), m.Encode(), "manifest of a submission", `"Window": 3`, p.Sum().String())

	trainer, err := cpu.New("").NewTrainer(cfg, replica.Optimizer(w.run), model.Options{})
	w.ok(err)
	var moments strings.Builder
	label := append(binary.BigEndian.AppendUint64([]byte("sn3inner3"), 7), 11) // docs/FORMAT.md, "Files of a node"
	check := sha256.Sum256(label)
	moments.Write(append(label, check[:]...))
	w.ok(trainer.(model.Persister).Save(&moments))
	w.add("inner.sn3", []byte(moments.String()), "optimizer of a miner", `"window": 7`, `"warm_up_steps_left": 11`, `"step": 0`, `"parameters": 885888`)

	hash := w.run.Hash()
	theta := append([]byte("sn3theta1"), hash[:]...) // docs/FORMAT.md, "Files of a node"
	theta = binary.BigEndian.AppendUint64(theta, 12)
	theta = append(append(theta, root[:]...), make([]byte, 32+4*layout.Params())...)
	sum := sha256.Sum256(theta)
	w.add("theta.sn3", append(theta, sum[:]...), "saved model of a node", `"window": 12`, root.String(), hash.String())

	st, err := os.Create(filepath.Join(w.dir, "model.safetensors"))
	w.ok(err)
	w.ok(hf.WriteModel(st, a, hf.F32, map[string]string{"format": "pt"}))
	w.ok(st.Close())
	w.add("model.safetensors", nil, "safetensors", "model.embed_tokens.weight", `"format": "pt"`)
	w.add("config.json", hf.Config(cfg, hf.F32), "model configuration of a checkpoint", `"hidden_size": 128`)
}

// published makes what validators publish and what lies on chain.
func (w *workshop) published() {
	key, err := localtest.Key("boss")
	w.ok(err)
	self := local.AccountOf(&key.PublicKey)
	seal := func(domain string, body any) []byte {
		raw, err := json.Marshal(body)
		w.ok(err)
		sig, err := local.Signer{Key: key}.Sign(domain, sha256.Sum256(raw))
		w.ok(err)
		b, err := json.Marshal(replica.Envelope{Body: raw, Hotkey: self, Signature: hex.EncodeToString(sig)})
		w.ok(err)
		return b
	}
	vote := chain.Vote{Window: 9, Scores: []chain.Score{{UID: 2, Value: 9000}}}
	raw, err := vote.Encode()
	w.ok(err)
	file := replica.WindowFile{Network: "n", Window: 9, Votes: []replica.Cast{{Validator: self, Stake: 5, Vote: raw}}, Selection: chain.Selection{Window: 9}}
	w.add("window/9", seal("sn3/window/1", file), "window file, signed by "+self.String(), `"window": 9`, "9000")
	cp := replica.CheckpointManifest{Network: "n", Window: 8, Files: []replica.File{{Name: "config.json", Size: 3}}}
	w.add("checkpoint/8/manifest.json", seal("sn3/checkpoint/1", cp), "checkpoint manifest, signed by "+self.String(), `"window": 8`)
	w.add("pulled/manifest.json", w.json(cp), "checkpoint manifest without signature", `"window": 8`)
	ev := scoring.Evidence{Network: "n", Window: 9, Validator: self, Verdicts: []scoring.Verdict{{UID: 2, Status: "rejected", Reason: "harmful"}}}
	b, err := ev.Encode()
	w.ok(err)
	w.add("evidence/"+chain.Hash(sha256.Sum256(b)).String(), b, "evidence of a validator", "harmful")

	tx, err := local.SignTx("n", 4, local.Register{}, local.Signer{Key: key})
	w.ok(err)
	w.add("tx", tx.Encode(), "transaction", `"nonce": 4`, self.String())
	g, _, err := localtest.Genesis(250, localtest.Actor{Name: "boss", Seat: true})
	w.ok(err)
	w.add("genesis.json", w.json(g), "genesis of a chain", `"block_time_ms": 250`)
	w.add("run.json", w.run.Encode(), "run descriptor "+w.run.Hash().String(), `"inner_steps": 10`)

	packed, err := data.Pack(&data.Corpus{Train: []byte(strings.Repeat("train ", 50_000)), HeldOut: []byte(strings.Repeat("held ", 20_000))})
	w.ok(err)
	for _, o := range packed.Objects {
		if strings.HasSuffix(o.Key, packed.Spec.Manifest.String()) {
			w.add(o.Key, o.Data, "manifest of a dataset", packed.Spec.Root.String())
		} else {
			w.add(o.Key, o.Data, "shard of a dataset", `"text"`)
		}
	}
}

// private makes what stays on a machine.
func (w *workshop) private() {
	book, err := scoring.OpenBook(filepath.Join(w.dir, "book.json"))
	w.ok(err)
	book.Entries[chain.Hotkey{1}] = scoring.Entry{Rating: 0.5}
	w.ok(book.Save())
	w.add("book.json", nil, "ratings of a validator", `"rating": 0.5`)

	log, err := events.OpenLog(w.dir)
	w.ok(err)
	w.ok(log.Add(events.Event{Kind: events.Train, Window: 3, Steps: 10}))
	w.add("events-1.jsonl", read(w.t, filepath.Join(w.dir, events.File)), "diary of a node, 1 events", `"kind": "train"`)
	w.ok(log.Add(events.Event{Kind: events.Waiting, Reason: "the chain"}))
	w.ok(log.Close())
	w.add(events.File, nil, "diary of a node, 2 events", `"reason": "the chain"`)
	w.add("torn.jsonl", append(read(w.t, filepath.Join(w.dir, events.File)), `{"time":"20`...), "diary of a node, 2 events", "the chain")

	path, account, err := wallet.New(w.dir, "key", "secret", true)
	w.ok(err)
	var k struct {
		Crypto struct {
			Ciphertext, MAC string
			KDFParams       struct{ Salt string }
		}
	}
	w.ok(json.Unmarshal(read(w.t, path), &k))
	o := w.add("key.json", nil, "keystore", account.String(), `"kdf": "scrypt"`)
	o.hides = []string{k.Crypto.Ciphertext, k.Crypto.MAC, k.Crypto.KDFParams.Salt}
	w.add("key.pub", nil, "public file of a wallet", account.String())

	d := netdir.Dir(w.dir)
	w.ok(d.SaveSettings(netdir.Settings{Format: netdir.Format, Network: "local-1", Miners: 4}))
	w.add("network.json", nil, "settings of a local network", `"miners": 4`)
	w.ok(d.SaveRuntime(netdir.Runtime{PID: 5, ChainPort: 6}))
	w.add("runtime.json", nil, "processes of a local network", `"chain_port": 6`)
	w.ok(storage.WriteAccounts(d.Path("accounts.json"), []storage.Account{{Bucket: "mine", AccessKey: "key-mine", Secret: "0123456789abcdef"}}))
	w.add("accounts.json", nil, "accounts of an S3 server", "key-mine").hides = []string{"0123456789abcdef"}
	w.add("summary.json", []byte(`{"windows": [], "hotkeys": [], "baselines": {}, "final_loss": 2.5}`), "summary of a local network", "2.5")
	w.add("node_key.json", []byte(`{"priv_key": {"type": "ed25519", "value": "c2VjcmV0"}, "id": 9007199254740993}`), "JSON", "9007199254740993").hides = []string{"c2VjcmV0"}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func objects(t *testing.T) []object {
	run, err := preset.Run("local", 8)
	if err != nil {
		t.Fatal(err)
	}
	run.Network = "n"
	w := &workshop{t: t, dir: t.TempDir(), run: run}
	w.model()
	w.published()
	w.private()
	return w.all
}

// Every object that SN3 writes is recognised, and shown without what is secret in it.
func TestInspect(t *testing.T) {
	for _, o := range objects(t) {
		name := filepath.Base(filepath.Dir(o.path)) + "/" + filepath.Base(o.path)
		what, v, err := inspect(read(t, o.path), o.path, "")
		if err != nil || !strings.HasPrefix(what, o.what) {
			t.Errorf("%s is %q, %v; want %q", name, what, err, o.what)
			continue
		}
		shown := string(mustJSON(t, v))
		for _, s := range o.says {
			if !strings.Contains(shown, s) {
				t.Errorf("%s does not show %s: %.600s", name, s, shown)
			}
		}
		for _, s := range o.hides {
			if s == "" || strings.Contains(shown, s) {
				t.Errorf("%s shows a secret: %q", name, s)
			}
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A damaged binary object is an error, never a wrong figure: cut anywhere, or with one bit flipped. (A shard and text have
// no form that could be damaged.)
func TestInspectDamaged(t *testing.T) {
	hashed := map[string]bool{"saved model of a node": true, "slot of error feedback": true, "head of error feedback": true, "optimizer of a miner": true}
	for _, o := range objects(t) {
		b := read(t, o.path)
		binary := hashed[o.what] || o.what == "payload" || o.what == "manifest of a submission" || o.what == "manifest of a dataset"
		if !binary {
			continue
		}
		for _, n := range []int{9, 20, 60, len(b) / 2, len(b) - 1} {
			if n < len(b) {
				if what, v, err := inspect(b[:n], "cut", ""); err == nil {
					t.Errorf("%s cut to %d bytes is %s: %v", o.what, n, what, v)
				}
			}
		}
		for _, at := range []int{len(b) / 3, len(b) - 1} {
			c := append([]byte(nil), b...)
			c[at] ^= 1
			if what, v, err := inspect(c, "flipped", ""); hashed[o.what] && err == nil {
				t.Errorf("%s with a bit of byte %d flipped is %s: %v", o.what, at, what, v)
			}
		}
	}
}

// No bytes make inspect panic, and what it refuses it knows as nothing of ours or as damaged.
func FuzzInspect(f *testing.F) {
	f.Add([]byte("SN3P"))
	f.Add([]byte("sn3theta1"))
	f.Add([]byte(`{"body":{},"hotkey":"00","signature":""}`))
	f.Add([]byte(`{"crypto":{"kdfparams":3},"version":3}`))
	f.Add([]byte("{\"time\":\"2026-01-01T00:00:00Z\",\"kind\":\"x\"}\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		what, v, err := inspect(b, "file", "")
		if err == nil && what == "" {
			t.Errorf("%q: no name for %v", b, v)
		}
	})
}
