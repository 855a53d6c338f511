package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/gradients"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/hf"
)

// maxInspect bounds what inspect reads into memory.
const maxInspect = 1 << 30

func inspectCommand() *cli.Command {
	flags := []cli.Flag{&cli.StringFlag{Name: "model", Usage: "`PRESET` or its file, whose layout a payload is decoded with (default: the preset that fits)"}}
	return command("inspect", "print any object that SN3 writes, without secrets", "FILE", 1, flags, func(c *cli.Context) error {
		path := c.Args().First()
		st, err := os.Stat(path)
		if err != nil {
			return proc.Usage(err)
		}
		if st.Size() > maxInspect || !st.Mode().IsRegular() {
			return proc.Refused(fmt.Errorf("%s: not a regular file of at most %d bytes", path, maxInspect))
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		what, v, err := inspect(b, path, c.String("model"))
		if errors.Is(err, errUnknown) {
			return proc.Refused(err)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		return show(what, v)
	})
}

var (
	errUnknown = errors.New("nothing that SN3 writes")
	errCut     = errors.New("too short")
	errSum     = errors.New("damaged: its last 32 bytes are not the SHA-256 of the others")
)

// fields is what is printed, in the order of their names.
type fields = map[string]any

// binaries are the objects that start with a magic.
var binaries = []struct {
	magic, what string
	show        func(b []byte, modelName string) (any, error)
}{
	{"SN3P", "payload", showPayload},
	{"SN3M", "manifest of a submission", func(b []byte, _ string) (any, error) { return gradients.ParseManifest(b) }},
	{"SN3D", "manifest of a dataset", showDataset},
	{"sn3theta1", "saved model of a node", showTheta},
	{"SN3F1", "slot of error feedback", showSlot},
	{"SN3H1", "head of error feedback", showHead},
	{"sn3inner3", "optimizer of a miner", showMoments},
}

// inspect recognises an object by its first bytes, its form, or by being named by its hash. It returns what it is and what
// there is to print of it.
func inspect(b []byte, path, modelName string) (what string, v any, err error) {
	for _, x := range binaries {
		if bytes.HasPrefix(b, []byte(x.magic)) {
			v, err := x.show(b, modelName)
			return x.what, v, err
		}
	}
	if len(b) > 8 && b[8] == '{' {
		if f, err := hf.Open(bytes.NewReader(b), int64(len(b))); err == nil {
			return "safetensors", fields{"tensors": f.Entries, "metadata": f.Metadata}, nil
		}
	}
	if t, err := local.ParseTx(b); err == nil {
		from, err := t.Sender()
		return "transaction", fields{"network": t.Network, "nonce": t.Nonce, "operation": fmt.Sprintf("%T", t.Op), "body": t.Op, "from": from, "hash": t.Hash()}, err
	}
	if what, v, err := inspectJSON(b, path); !errors.Is(err, errUnknown) {
		return what, v, err
	}
	if hash := sum(b).String(); filepath.Base(path) == hash { // tokens have no mark: only the name tells
		return "shard of a dataset", fields{"sha256": hash, "bytes": len(b), "text": proc.Printable(string(b[:min(len(b), 200)]))}, nil
	}
	return "", nil, errUnknown
}

// showPayload decodes with the layout that the payload names: that of the given preset, or of the one that has it.
func showPayload(b []byte, modelName string) (any, error) {
	const magic = len("SN3P") + 1
	names := preset.Names()
	if modelName != "" {
		names = []string{modelName}
	}
	for _, n := range names {
		run, err := preset.Run(n, 0)
		if err != nil {
			return nil, proc.Usage(err)
		}
		cfg := replica.ModelConfig(run)
		if hash := model.LayoutHash(cfg); modelName == "" && !bytes.HasPrefix(b[min(magic, len(b)):], hash[:]) {
			continue
		}
		l, err := model.NewLayout(cfg)
		if err != nil {
			return nil, err
		}
		p, err := gradients.NewCodec(l).Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, err
		}
		st := p.Stats()
		return fields{"k": p.K(), "values": st.Kept, "bytes": st.Bytes, "bits_per_value": st.BitsPerValue(), "norm": p.Norm(),
			"ratio_to_f32": float64(4*l.Params()) / float64(st.Bytes), "layout": chain.Hash(l.Hash()), "sha256": sum(b)}, nil
	}
	return nil, fmt.Errorf("made for a model that is none of %v: give --model FILE.json, its preset", names)
}

func showDataset(b []byte, _ string) (any, error) {
	m, err := data.ParseManifest(b)
	if err != nil {
		return nil, err
	}
	return fields{"root": m.Root(), "sha256": sum(b), "vocab": m.Vocab, "bytes_per_token": m.Width(), "shards": m.Shards,
		"tokens_to_train_on": m.Tokens(data.Train), "tokens_held_out": m.Tokens(data.HeldOut), "provenance": m.Provenance}, nil
}

// body is what stands before the SHA-256 that ends a file, at least n bytes long.
func body(b []byte, n int) ([]byte, error) {
	if len(b) < n+sha256.Size {
		return nil, errCut
	}
	end := len(b) - sha256.Size
	if sum(b[:end]) != chain.Hash(b[end:]) {
		return nil, errSum
	}
	return b[:end], nil
}

// windowName is a window as a number, or "none" before the first.
func windowName(b []byte) any {
	if w := chain.Window(binary.BigEndian.Uint64(b)); w != chain.NoWindow {
		return w
	}
	return "none yet"
}

// The formats of a node's files are in docs/FORMAT.md, "Files of a node".

func showTheta(b []byte, _ string) (any, error) {
	const magic = len("sn3theta1")
	const head = magic + 32 + 8 + 32 + 32
	c, err := body(b, head)
	if err != nil {
		return nil, err
	}
	return fields{"run": hex.EncodeToString(c[magic : magic+32]), "window": windowName(c[magic+32:]), "root": hex.EncodeToString(c[magic+40 : magic+72]),
		"transition": hex.EncodeToString(c[magic+72 : head]), "parameters": (len(c) - head) / 4}, nil
}

func showSlot(b []byte, _ string) (any, error) {
	const magic = len("SN3F1")
	const head = magic + 32 + 8 + 8 + 8
	c, err := body(b, head)
	if err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint64(c[magic+48:])
	if size > uint64(len(c)-head) {
		return nil, errCut
	}
	return fields{"layout": hex.EncodeToString(c[magic : magic+32]), "sequence": binary.BigEndian.Uint64(c[magic+32:]), "window": windowName(c[magic+40:]),
		"payload_bytes": size, "payload_sha256": sum(c[head : head+int(size)]), "parameters": (len(c) - head - int(size)) / 4}, nil
}

func showHead(b []byte, _ string) (any, error) {
	const magic = len("SN3H1")
	c, err := body(b, magic+8)
	if err != nil {
		return nil, err
	}
	return fields{"confirmed_sequence": binary.BigEndian.Uint64(c[magic:])}, nil
}

// showMoments reads inner.sn3: the window and what is left of a warm-up, then the CPU engine's file, whose hash covers only itself.
func showMoments(b []byte, _ string) (any, error) {
	const magic = len("sn3inner3")
	const label = magic + 8 + 1 + sha256.Size
	const engine = label + len("sn3adam1")
	const head = engine + 32 + 8
	switch {
	case len(b) < head:
		return nil, errCut
	case sum(b[:magic+9]) != chain.Hash(b[magic+9:label]):
		return nil, errSum
	case !bytes.HasPrefix(b[label:], []byte("sn3adam1")):
		return fields{"window": windowName(b[magic:]), "engine": "one that this build cannot read"}, nil
	}
	c, err := body(b[label:], head-label)
	if err != nil {
		return nil, err
	}
	return fields{"window": windowName(b[magic:]), "warm_up_steps_left": b[magic+8], "layout": hex.EncodeToString(b[engine : engine+32]), "step": binary.BigEndian.Uint64(b[engine+32:]),
		"parameters": (len(c) - (head - label)) / 8}, nil
}

func show(what string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n%s\n", what, raw)
	return err
}
