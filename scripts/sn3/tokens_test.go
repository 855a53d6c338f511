package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/internal/events"
	"sn3/internal/simnet"
	"sn3/model/tokenizer"
	"sn3/storage"
	"sn3/storage/embedded"
)

// stopped is a chain that makes no more blocks.
type stopped struct{ *ledger.Ledger }

// Submit implements local.Backend.
func (stopped) Submit(context.Context, []byte) (local.Code, error) {
	return 0, errors.New("the chain is stopped")
}

// A whole network on a packed dataset with a BPE: it trains on tokens, over S3; what pull writes is a folder with the network's
// tokenizer, verify finds it signed, eval measures tokens and bytes with it, generate writes text and ends where documents end.
func TestNetworkOnTokens(t *testing.T) {
	const vocab, last = 300, 8
	t.Chdir(t.TempDir()) // the server moves this process into its folder; afterwards it comes back
	s3, err := embedded.Start(t.Context(), embedded.Options{Dir: filepath.Join(t.TempDir(), "s3"), Root: credential(t, "root")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the next test has to start another, and a process has one
		_ = s3.Close()
		<-s3.Done()
	})
	for _, name := range []string{"data", simnet.ValidatorName(1), simnet.MinerName(1), simnet.MinerName(2)} {
		if err := s3.AddBucket(name, "key-"+name, "secret-of-"+name); err != nil {
			t.Fatal(err)
		}
	}
	n := simnet.New(t, simnet.Options{Validators: []chain.Amount{300}, Miners: 2, Learn: true, Vocab: vocab,
		Bucket: func(name string, writable bool) (*storage.Bucket, error) {
			l, err := storage.Local(name)
			if err != nil {
				return nil, err
			}
			policy := storage.DialPolicy{Loopback: true, LocalPort: s3.Port()}
			if !writable {
				return storage.Open(l, nil, policy)
			}
			c := credential(t, name)
			return storage.Open(l, &c, policy)
		}})
	nodes := []*simnet.Node{n.StartValidator(simnet.ValidatorName(1), simnet.NodeOptions{}), n.StartMiner(simnet.MinerName(1), simnet.NodeOptions{}),
		n.StartMiner(simnet.MinerName(2), simnet.NodeOptions{})}
	n.To(last)
	ev := nodes[0].Events(events.Eval)
	if len(ev) < last {
		t.Fatalf("%d evaluations", len(ev))
	}
	if first, now := ev[0].Loss, ev[len(ev)-1].Loss; now > first-0.5 {
		t.Errorf("held-out loss went from %.3f to %.3f nats per token", first, now)
	}
	for _, x := range nodes {
		if err := n.Stop(x); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(local.Handler(stopped{n.Chain.Ledger(local.NodeInfo{S3Port: s3.Port()})}))
	t.Cleanup(srv.Close)
	w := &town{t: t, addr: strings.TrimPrefix(srv.URL, "http://"), port: s3.Port(), run: n.Run}
	dir := filepath.Join(t.TempDir(), "model")
	w.says("signed by 100% of the permitted stake", "pull", "--out", dir)
	w.says("all 4 files", "verify", dir)
	w.says("all as the manifest says", "data", "verify")
	w.evaluatesTokens(dir)
	w.writes(dir, vocab)
}

// evaluatesTokens: the loss per byte is the loss per token over as many fewer tokens as there are.
func (w *town) evaluatesTokens(dir string) {
	w.t.Helper()
	out, err := w.sn3("eval", "--samples", "32", dir)
	w.ok(err)
	_, figures, _ := strings.Cut(out, ": loss ")
	var perToken, perplexity, perByte float64
	var tokens, bytes, seq int
	const form = "%f nats per token (perplexity %f), %f nats per byte, over %d tokens and %d bytes in sequences of %d"
	if _, err := fmt.Sscanf(figures, form, &perToken, &perplexity, &perByte, &tokens, &bytes, &seq); err != nil {
		w.t.Fatalf("%q: %v", out, err)
	}
	if tokens != 32*w.run.Model.Seq || bytes < tokens*3/2 || math.Abs(perToken*float64(tokens)/float64(bytes)-perByte) > 1e-3 {
		w.t.Errorf("%q", out)
	}
}

// writes: texts have words of the corpus, and end at the token that ends its documents, long before --tokens.
func (w *town) writes(dir string, vocab int) {
	w.t.Helper()
	all := ""
	for seed := range 6 {
		out, err := w.sn3("generate", "--prompt", "a", "--temperature", "0.8", "--seed", fmt.Sprint(seed), "--tokens", "500", dir)
		w.ok(err)
		if !strings.HasPrefix(out, "a") || strings.Contains(out, "endoftext") || len(out) > 600 {
			w.t.Errorf("it wrote %q", out)
		}
		all += out
	}
	if !strings.Contains(all, "sends") && !strings.Contains(all, "payload") && !strings.Contains(all, "miner") && !strings.Contains(all, "window") && !strings.Contains(all, "stake") {
		w.t.Errorf("no word that it was trained on: %q", all)
	}
	tok, err := tokenizer.Open(dir)
	w.ok(err)
	if eos, ok := tok.EOS(); tok.Name() != w.run.Tokenizer || tok.Vocab() != vocab || !ok || int(eos) != vocab-1 {
		w.t.Errorf("tokenizer %s of %d, end %d", tok.Name(), tok.Vocab(), eos)
	}
	var c struct {
		EOS int `json:"eos_token_id"`
	}
	w.ok(json.Unmarshal(read(w.t, filepath.Join(dir, "config.json")), &c))
	if c.EOS != vocab-1 {
		w.t.Errorf("config.json: eos_token_id %d", c.EOS)
	}
}
