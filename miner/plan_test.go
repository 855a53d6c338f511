package main

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/wallet"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/model/gpu/standin"
)

// serve is the chain node of a network that trains a preset, changed.
func serve(t *testing.T, name string, change func(*chain.Run)) (addr string) {
	t.Helper()
	g, secret, err := localtest.Genesis(500, localtest.Actor{Name: "miner", Seat: true})
	if err != nil {
		t.Fatal(err)
	}
	old, err := chain.ParseRun(g.Run)
	if err != nil {
		t.Fatal(err)
	}
	run, err := preset.Run(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	run.Network, run.Dataset = old.Network, old.Dataset
	if run.Tokenizer == "" {
		run.Tokenizer = strings.Repeat("ab", 32)
	}
	if change != nil {
		change(run)
	}
	g.Run = run.Encode()
	d, err := localtest.NewDevChain(g, secret, time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(2); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(local.Handler(d))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// start runs a miner until it ends, in a folder of its own.
func start(t *testing.T, addr string, flags ...string) (dir string, err error) {
	t.Helper()
	home := t.TempDir()
	key, _, err := wallet.New(home, "me", "0123456789", true)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(home, "secret")
	if err := os.WriteFile(secret, []byte("0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(home, "node")
	args := append([]string{"miner", "--chain", addr, "--keystore", key, "--passphrase-file", secret, "--bucket", "local:mine", "--s3-access-key", "abcdefgh",
		"--s3-secret-file", secret, "--dir", dir, "--no-p2p"}, flags...)
	return dir, run(args)
}

// Issue 4, §5: what no engine can train, and what does not fit, is refused before the first byte of the dataset is asked for.
func TestRefusedBeforeTheFirstByte(t *testing.T) {
	for _, c := range []struct {
		name, preset string
		change       func(*chain.Run)
		want         string
	}{
		{"too large", "70b", nil, "no flag makes it fit"},
		{"vocabulary", "local", func(r *chain.Run) { r.Model.Vocab = 300 }, `model.vocab is 300, but the tokenizer "bytes" has 256 tokens`},
		{"shape", "local", func(r *chain.Run) { r.Model.Heads = 3; r.Model.KVHeads = 2 }, "3 heads are not a multiple of 2"},
		{"odd head", "local", func(r *chain.Run) { r.Model.HeadDim = 31 }, "head dimension 31"},
		{"sequence", "1b", func(r *chain.Run) { r.Model.Seq = 1 << 19 }, "model.seq 524288 is longer than the 262144"},
		{"sequence beyond any use", "local", func(r *chain.Run) { r.Model.Seq = 1 << 21 }, "seq 2097152 beyond any use"},
		{"schedule", "local", func(r *chain.Run) { r.Train.Warmup = 600 }, "train.warmup 600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := start(t, serve(t, c.preset, c.change))
			if proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), c.want) {
				t.Errorf("exit code %d: %v", proc.ExitCode(err), err)
			}
			if _, err := os.Stat(filepath.Join(dir, "pages")); err == nil {
				t.Error("the dataset was opened")
			}
		})
	}
}

// --plan needs no key and no bucket, prints every part, and ends as a start would.
func TestPlan(t *testing.T) {
	if err := run([]string{"miner", "--chain", serve(t, "local", nil), "--plan", "--threads", "1"}); err != nil {
		t.Error(err)
	}
	err := run([]string{"miner", "--chain", serve(t, "70b", nil), "--plan", "--micro-batch", "4"})
	if proc.ExitCode(err) != proc.ExitRefused {
		t.Error(err)
	}
	if err := run([]string{"miner", "--plan"}); proc.ExitCode(err) != proc.ExitUsage || !strings.Contains(err.Error(), "missing: --chain") {
		t.Error(err)
	}
}

// said is what f prints to standard output and standard error.
func said(t *testing.T, f func() error) (string, error) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	out, problems := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = file, file
	err = f()
	os.Stdout, os.Stderr = out, problems
	raw, err2 := os.ReadFile(file.Name())
	if err := errors.Join(err2, file.Close()); err != nil {
		t.Fatal(err)
	}
	return string(raw), err
}

// --plan --gpu prints what the miner would take of the card, each part by name, as sn3 plan does; what does not fit is refused with the
// smallest change that one card can make, and a card that is in trouble is no refusal.
func TestPlanOnACard(t *testing.T) {
	addr := serve(t, "40m", nil) // whose miner any machine has memory for
	for _, c := range []struct {
		line, memory, fail string
		code               int
		want, never        string
	}{
		{"", "40000000000", "", 0, "card 0, stand-in on the CPU: plan classic, recompute none, micro-batch 16", "engine: parameters"},
		{"--gpu-plan lean --recompute full --micro-batch 4", "40000000000", "", 0, "plan lean, recompute full, micro-batch 4", "one card is used"},
		{"--gpu-plan offload", "40000000000", "", 0, "engine: optimizer moments", "one card is used"},
		{"", "800000000", "", 0, "plan lean", "plan classic"},
		{"--gpus 1,0", "40000000000", "", 0, "one card is used", "card 0,"},
		{"--gpu-memory 0.1 --gpu-plan classic", "7000000000", "", proc.ExitRefused, "it fits with --gpu-plan ", "such cards"},
		{"--micro-batch 16 --gpu-plan classic --recompute none", "1500000000", "", proc.ExitRefused, "it fits with --micro-batch ", "such cards"},
		{"", "200000000", "", proc.ExitRefused, "no setting makes it fit on one card", "such cards"},
		{"--gpus 2", "40000000000", "", proc.ExitRefused, "there is no card 2, the driver has 2", "it fits"},
		{"", "40000000000", "cuDeviceGetCount:1:46", proc.ExitFailure, "choose another card with --gpus", "it fits"},
		{"", "40000000000", "cuInit:1:802", proc.ExitFailure, "nvidia-fabricmanager", "it fits"},
		{"", "40000000000", "cuInit:1:100", proc.ExitRefused, "check that nvidia-smi", "it fits"},
	} {
		card := standin.Load(t)
		card.Set(t, "memory", c.memory)
		card.Set(t, "devices", "2")
		if c.fail != "" {
			card.Set(t, "fail", c.fail)
		}
		t.Setenv("SN3_CUDA", card.Path)
		out, err := said(t, func() error {
			return run(append([]string{"miner", "--chain", addr, "--plan", "--gpu"}, strings.Fields(c.line)...))
		})
		if err != nil {
			out += err.Error()
		}
		if proc.ExitCode(err) != c.code || !strings.Contains(out, c.want) || strings.Contains(out, c.never) {
			t.Errorf("%s, %s bytes, %s: exit code %d, want %d, %q and no %q in\n%s", c.line, c.memory, c.fail, proc.ExitCode(err), c.code, c.want, c.never, out)
		}
	}
}
