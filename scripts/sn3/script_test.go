package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/hf"
	"sn3/model/tokenizer"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"sn3": main}) }

// The tool as a user types it. There is a folder tiny with a model of bytes, and one hub with the tokenizer of Llama 3 cut
// small, in bfloat16 and several files, as it comes from the Hub. Beside testscript's commands the scripts have:
//
//	devchain N   serves a chain with N validators that have member cards as SN3_CHAIN, makes keystores owner.json and other.json, and a file pass
//	ticks N      has it make N blocks
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(e *testscript.Env) error {
		e.Setenv("HOME", e.WorkDir)
		if err := os.MkdirAll(e.WorkDir, 0o755); err != nil {
			return err
		}
		return writeModels(e.WorkDir)
	}, Cmds: map[string]func(*testscript.TestScript, bool, []string){"devchain": devchain, "ticks": ticks}})
}

func writeModels(dir string) error {
	bytesOnly, err := tokenizer.New("bytes")
	if err != nil {
		return err
	}
	tiny := model.Config{Vocab: 256, Width: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 6, FFN: 40, Seq: 64, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	if err := writeModel(filepath.Join(dir, "tiny"), tiny, hf.SaveOptions{DType: hf.F32, Files: bytesOnly.Files()}); err != nil {
		return err
	}
	packed, err := os.ReadFile(filepath.Join("..", "..", "model", "tokenizer", "testdata", "llama3.json.gz"))
	if err != nil {
		return err
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		return err
	}
	hub := tiny
	hub.Vocab, hub.Seq, hub.Tied = (tok.Vocab()+63)/64*64, 512, false
	hub.Rope = &model.RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, Original: 64}
	o := hf.SaveOptions{DType: hf.BF16, MaxShard: 40_000, Files: map[string][]byte{"tokenizer.json": raw, "LICENSE": []byte("free\n"),
		"generation_config.json": []byte(`{"eos_token_id":[1,2],"temperature":0.6}`)}, Special: hf.Special{BOS: []int32{3}, EOS: []int32{1, 2}}}
	return writeModel(filepath.Join(dir, "hub"), hub, o)
}

// writeModel makes a folder of weights that say something.
func writeModel(dir string, c model.Config, o hf.SaveOptions) error {
	l, err := model.NewLayout(c)
	if err != nil {
		return err
	}
	w := model.NewFlat(l)
	w.Init(4)
	r := rand.New(rand.NewPCG(1, 5))
	for i := range w.Data {
		w.Data[i] += float32(0.1 * r.NormFloat64())
	}
	return hf.Save(context.Background(), dir, w, o)
}

// program is this test as the tool: testscript.Main looks at the name.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	path := filepath.Join(t.TempDir(), "sn3")
	if err = errors.Join(err, os.Symlink(self, path)); err != nil {
		t.Fatal(err)
	}
	return path
}

// Ctrl-C ends a text after what was written of it, with a newline and the exit code of an interrupt.
func TestGenerateInterrupted(t *testing.T) {
	dir := t.TempDir()
	if err := writeModels(dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program(t), "generate", filepath.Join(dir, "tiny"), "--prompt", "0123456789", "--tokens", fmt.Sprint(math.MaxInt), "--threads", "1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var problem strings.Builder
	cmd.Stderr = &problem
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := bufio.NewReader(out)
	head := make([]byte, 40) // the prompt and some tokens: it streams
	if _, err := io.ReadFull(text, head); err != nil || !bytes.HasPrefix(head, []byte("0123456789")) {
		t.Fatalf("%q, %v, %s", head, err, problem.String())
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(text)
	if err != nil || !bytes.HasSuffix(rest, []byte("\n")) {
		t.Errorf("the text ends with %q, %v", rest[max(0, len(rest)-20):], err)
	}
	_ = cmd.Wait() // the code is what counts
	if code := cmd.ProcessState.ExitCode(); code != proc.ExitInterrupted || problem.Len() > 0 {
		t.Errorf("exit code %d, %q", code, problem.String())
	}
}
