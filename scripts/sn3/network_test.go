package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
	"sn3/gradients"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/hf"
	"sn3/model/tokenizer"
	"sn3/storage"
	"sn3/storage/embedded"
	"sn3/validator/scoring"
)

// front is a chain that tells the port of an S3 server.
type front struct {
	*localtest.DevChain
	port int
}

func (f front) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	raw, err := f.DevChain.Query(ctx, name, arg)
	var s local.Status
	if err != nil || json.Unmarshal(raw, &s) != nil || s.Network == "" {
		return raw, err
	}
	s.Info.S3Port = f.port
	return json.Marshal(s)
}

// town is a network as the tool meets it: a chain, an S3 server, and two validators, boss with three fifths of the stake and
// deputy with two, who published a checkpoint and evidence about alice.
type town struct {
	t       *testing.T
	addr    string
	port    int
	run     *chain.Run
	buckets map[string]*storage.Bucket
}

const window = 8

func newTown(t *testing.T) *town {
	t.Helper()
	g, secret, err := localtest.Genesis(250, localtest.Actor{Name: "boss", Seat: true, Stake: 300 * chain.RaoPerCoin},
		localtest.Actor{Name: "deputy", Seat: true, Stake: 200 * chain.RaoPerCoin}, localtest.Actor{Name: "alice", Seat: true, Balance: 5 * chain.RaoPerCoin})
	if err != nil {
		t.Fatal(err)
	}
	packed, err := data.Pack(&data.Corpus{Train: bytes.Repeat([]byte("func main() {}\n"), 5000), HeldOut: bytes.Repeat([]byte("package main\n"), 2000)})
	if err != nil {
		t.Fatal(err)
	}
	pinDataset(t, g, packed.Spec)
	dev, err := localtest.NewDevChain(g, secret, time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir()) // the server moves this process into its folder; afterwards it comes back
	s3, err := embedded.Start(t.Context(), embedded.Options{Dir: filepath.Join(t.TempDir(), "s3"), Root: credential(t, "root")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the next test has to start another, and a process has one
		_ = s3.Close()
		<-s3.Done()
	})
	srv := httptest.NewServer(local.Handler(front{dev, s3.Port()}))
	t.Cleanup(srv.Close)
	run, err := chain.ParseRun(g.Run)
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, addr: strings.TrimPrefix(srv.URL, "http://"), port: s3.Port(), run: run, buckets: map[string]*storage.Bucket{}}
	for _, name := range []string{"boss", "deputy"} {
		w.bucket(s3, name)
		w.checkpoint(name)
		w.record(dev, name)
	}
	w.bucket(s3, "data")
	for _, o := range packed.Objects {
		w.put("data", o.Key, o.Data)
	}
	return w
}

// pinDataset puts a dataset into a network that has not begun.
func pinDataset(t *testing.T, g *state.Genesis, spec chain.DatasetSpec) {
	t.Helper()
	run, err := chain.ParseRun(g.Run)
	if err != nil {
		t.Fatal(err)
	}
	l, err := storage.Local("data")
	if err != nil {
		t.Fatal(err)
	}
	run.Dataset, run.Dataset.Locator = spec, l.Encode()
	g.Run = run.Encode()
}

func credential(t *testing.T, name string) storage.Credential {
	t.Helper()
	c, err := storage.NewCredential("key-"+name, "secret-of-"+name)
	if err != nil {
		t.Fatal(err)
	}
	return *c
}

func (w *town) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *town) bucket(s3 *embedded.Server, name string) {
	c := credential(w.t, name)
	w.ok(s3.AddBucket(name, "key-"+name, "secret-of-"+name))
	l, err := storage.Local(name)
	w.ok(err)
	w.buckets[name], err = storage.Open(l, &c, storage.DialPolicy{Loopback: true, LocalPort: w.port})
	w.ok(err)
}

func (w *town) put(name, key string, b []byte) {
	w.t.Helper()
	w.ok(w.buckets[name].Put(w.t.Context(), key, b))
}

// checkpoint uploads a checkpoint that name signed.
func (w *town) checkpoint(name string) {
	cfg := replica.ModelConfig(w.run)
	layout, err := model.NewLayout(cfg)
	w.ok(err)
	weights := model.NewFlat(layout)
	weights.Init(3)
	root, err := gradients.Root(weights)
	w.ok(err)
	var st bytes.Buffer
	w.ok(hf.WriteModel(&st, weights, hf.F32, map[string]string{"format": "pt"}))
	tok, err := tokenizer.New("bytes")
	w.ok(err)
	files := map[string][]byte{modelFile: st.Bytes(), "config.json": hf.Config(cfg, hf.F32)}
	for n, b := range tok.Files() {
		files[n] = b
	}
	m := replica.CheckpointManifest{Network: w.run.Network, Run: w.run.Hash(), Window: window, Root: root}
	for _, n := range []string{"config.json", modelFile, "tokenizer.json", "tokenizer_config.json"} {
		b := files[n]
		m.Files = append(m.Files, replica.File{Name: n, Size: int64(len(b)), SHA256: sha256.Sum256(b)})
		w.put(name, fmt.Sprintf("checkpoint/%d/%s", window, n), b)
	}
	w.put(name, fmt.Sprintf("checkpoint/%d/manifest.json", window), w.sign(name, "sn3/checkpoint/1", m))
}

func (w *town) sign(name, domain string, body any) []byte {
	key, err := localtest.Key(name)
	w.ok(err)
	raw, err := json.Marshal(body)
	w.ok(err)
	sig, err := local.Signer{Key: key}.Sign(domain, sha256.Sum256(raw))
	w.ok(err)
	b, err := json.Marshal(replica.Envelope{Body: raw, Hotkey: local.AccountOf(&key.PublicKey), Signature: hex.EncodeToString(sig)})
	w.ok(err)
	return b
}

// record publishes evidence about alice and puts it on chain.
func (w *town) record(dev *localtest.DevChain, name string) {
	key, err := localtest.Key(name)
	w.ok(err)
	alice, err := localtest.Key("alice")
	w.ok(err)
	ev := scoring.Evidence{Window: window, Validator: local.AccountOf(&key.PublicKey),
		Verdicts: []scoring.Verdict{{Hotkey: local.AccountOf(&alice.PublicKey), Status: "rejected", Reason: "the payload is cut"}}}
	raw, err := ev.Encode()
	w.ok(err)
	digest := chain.Hash(sha256.Sum256(raw))
	w.put(name, "evidence/"+digest.String(), raw)
	l, err := storage.Local(name)
	w.ok(err)
	done := make(chan error, 1)
	go func() {
		_, err := local.NewClient(dev, local.Signer{Key: key}).Publish(w.t.Context(), chain.Record{Locator: l.Encode(), Digest: digest})
		done <- err
	}()
	for {
		select {
		case err := <-done:
			w.ok(err)
			return
		default:
			_, err := dev.Tick()
			w.ok(err)
		}
	}
}

// sn3 runs a command against the town and returns what it printed.
func (w *town) sn3(args ...string) (string, error) {
	w.t.Helper()
	r, pipe, err := os.Pipe()
	w.ok(err)
	stdout := os.Stdout
	os.Stdout = pipe
	out := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r) // a pipe of this process
		out <- string(b)
	}()
	err = run(append([]string{"sn3", "--chain", w.addr}, args...))
	os.Stdout = stdout
	w.ok(pipe.Close())
	return <-out, err
}

func (w *town) says(want string, args ...string) {
	w.t.Helper()
	if got, err := w.sn3(args...); err != nil || !strings.Contains(got, want) {
		w.t.Errorf("sn3 %s: %v, printed %q, want %q", strings.Join(args, " "), err, got, want)
	}
}

func (w *town) fails(want error, args ...string) {
	w.t.Helper()
	if got, err := w.sn3(args...); !errors.Is(err, want) {
		w.t.Errorf("sn3 %s: %v, printed %q, want %v", strings.Join(args, " "), err, got, want)
	}
}

// The tool against a network that it did not start: what it shows, pulls and refuses.
func TestAgainstNetwork(t *testing.T) {
	others := t.TempDir()
	if err := writeModels(others); err != nil { // before newTown leaves this folder
		t.Fatal(err)
	}
	w := newTown(t)
	dir := filepath.Join(t.TempDir(), "model")
	w.says("network "+w.run.Network, "status")
	w.says("rejected: the payload is cut", "why", "2")
	w.says("signed by 100% of the permitted stake", "pull", "--out", dir)
	w.says("ok: window 8", "verify", dir)
	w.says("func", "generate", "--tokens", "3", "--prompt", "func")
	w.leaves()
	if _, _, err := hf.OpenDir(dir); err != nil {
		t.Error(err)
	}
	w.says("nats per byte, over 4096 tokens and 4096 bytes in sequences of 128", "eval", "--samples", "32")
	w.evaluates(dir, others)
	half := dir + "-bf16"
	w.says("opens with transformers", "pull", "--dtype", "bf16", "--out", half)
	if _, err := w.sn3("verify", half); proc.ExitCode(err) != proc.ExitRefused {
		t.Errorf("verify a bf16 folder: %v", err)
	}
	w.says("alone: ask a chain node", "pull", "--out", dir+"-url", fmt.Sprintf("http://127.0.0.1:%d/deputy", w.port))

	for _, name := range []string{"config.json", modelFile, "tokenizer.json", "tokenizer_config.json"} {
		path := filepath.Join(dir, name)
		whole := read(t, path)
		bad := bytes.Clone(whole)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		w.fails(replica.ErrForged, "verify", dir)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.says("ok: window 8", "verify", dir)

	precious := t.TempDir()
	if err := os.WriteFile(filepath.Join(precious, "thesis"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sn3("pull", "--out", precious); proc.ExitCode(err) != proc.ExitRefused {
		t.Errorf("pull into a folder of something else: %v", err)
	}
	w.datasets()
}

// leaves reads the beginning of a text and goes, as head does: the checkpoint that was fetched for it is deleted all the same.
func (w *town) leaves() {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), program(w.t), "--chain", w.addr, "generate", "--tokens", fmt.Sprint(math.MaxInt), "--prompt", "func", "--threads", "1")
	temp := w.t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	out, err := cmd.StdoutPipe()
	w.ok(err)
	var problem strings.Builder
	cmd.Stderr = &problem
	w.ok(cmd.Start())
	_, err = io.ReadFull(out, make([]byte, 10))
	w.ok(errors.Join(err, out.Close()))
	if err := cmd.Wait(); err != nil || problem.Len() > 0 {
		w.t.Errorf("its reader left: %v, %q", err, problem.String())
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		w.t.Errorf("left behind: %v, %v", left, err)
	}
}

// evaluates measures a folder on the network's text: the newest checkpoint, which the folder is, gives the same figure; a
// folder of other tokens, or one that sees less, is refused.
func (w *town) evaluates(dir, others string) {
	w.t.Helper()
	figure := func(args ...string) string {
		out, err := w.sn3(append([]string{"eval", "--samples", "32"}, args...)...)
		_, after, found := strings.Cut(out, " on the network's held-out text: ")
		if err != nil || !found {
			w.t.Errorf("eval %q: %v, printed %q", args, err, out)
		}
		return after
	}
	if a, b := figure(), figure(dir); a != b || a != figure("--checkpoint", dir) {
		w.t.Errorf("the checkpoint has %q, its folder %q", a, b)
	}
	for name, want := range map[string]string{"hub": "the network's text is in tokens of bytes", "tiny": "the network's samples have 128 tokens, the model sees 64"} {
		if _, err := w.sn3("eval", filepath.Join(others, name)); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), want) {
			w.t.Errorf("eval %s: %v", name, err)
		}
	}
}

// A signer that withholds or spoils files costs nobody the checkpoint while another has them; without a majority of the stake
// there is none.
func TestSpoiledCheckpoint(t *testing.T) {
	w := newTown(t)
	dir := filepath.Join(t.TempDir(), "model")
	w.put("boss", "checkpoint/8/config.json", []byte("{}"))
	w.ok(w.buckets["boss"].Delete(t.Context(), "checkpoint/8/"+modelFile))
	w.says("signed by 100%", "pull", "--out", dir)
	w.says("ok: window 8", "verify", dir)
	w.put("deputy", "checkpoint/8/"+modelFile, []byte("short"))
	w.fails(storage.ErrNotFound, "pull", "--out", dir)

	w.checkpoint("boss")
	w.put("deputy", "checkpoint/8/manifest.json", w.sign("alice", "sn3/checkpoint/1", replica.CheckpointManifest{Network: w.run.Network, Run: w.run.Hash(), Window: window}))
	w.says("signed by 60%", "pull", "--out", dir)
	w.checkpoint("deputy")
	w.put("boss", "checkpoint/8/manifest.json", []byte("{}"))
	if _, err := w.sn3("pull", "--out", dir); err == nil || !strings.Contains(err.Error(), "no checkpoint is signed by more than half") {
		t.Errorf("two fifths of the stake: %v", err)
	}
	if _, err := w.sn3("pull", "--window", "3", "--out", dir); err == nil || !strings.Contains(err.Error(), "no checkpoint of window 3") {
		t.Errorf("a window without a checkpoint: %v", err)
	}
}
