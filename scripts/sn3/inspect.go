package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

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
	flags := []cli.Flag{&cli.StringFlag{Name: "model", Value: "local", Usage: "preset whose layout a payload is decoded with"}}
	return command("inspect", "print any object that SN3 writes", "FILE", 1, flags, func(c *cli.Context) error {
		st, err := os.Stat(c.Args().First())
		if err != nil {
			return proc.Usage(err)
		}
		if st.Size() > maxInspect || !st.Mode().IsRegular() {
			return proc.Refused(fmt.Errorf("%s: not a regular file of at most %d bytes", c.Args().First(), maxInspect))
		}
		b, err := os.ReadFile(c.Args().First())
		if err != nil {
			return err
		}
		return inspect(b, c.String("model"))
	})
}

// inspect recognises an object by its first bytes.
func inspect(b []byte, modelName string) error {
	switch {
	case bytes.HasPrefix(b, []byte("SN3P")):
		return inspectPayload(b, modelName)
	case bytes.HasPrefix(b, []byte("SN3M")):
		m, err := gradients.ParseManifest(b)
		if err != nil {
			return err
		}
		return show("manifest of a submission", m)
	case bytes.HasPrefix(b, []byte("sn3theta1")) && len(b) >= 113:
		fmt.Printf("saved model: run %s, window %d, root %s, %d parameters\n", hex.EncodeToString(b[9:13]), int64(binary.BigEndian.Uint64(b[41:])),
			hex.EncodeToString(b[49:53]), (len(b)-113-32)/4)
		return nil
	case bytes.HasPrefix(b, []byte("SN3F1")) && len(b) > 61:
		fmt.Printf("error feedback slot: sequence %d, window %d, payload of %d bytes\n", binary.BigEndian.Uint64(b[37:]), binary.BigEndian.Uint64(b[45:]), binary.BigEndian.Uint64(b[53:]))
		return nil
	case len(b) > 8 && bytes.HasPrefix(b[8:], []byte("{")):
		if f, err := hf.Open(bytes.NewReader(b), int64(len(b))); err == nil {
			fmt.Printf("safetensors: %d tensors, metadata %v\n", len(f.Entries), f.Metadata)
			return nil
		}
	}
	if m, err := data.ParseManifest(b); err == nil {
		return show("data manifest", map[string]any{"root": m.Root(), "pages": len(m.Pages), "shards": len(m.Shards), "lengths": m.Lengths})
	}
	if t, err := local.ParseTx(b); err == nil {
		from, err := t.Sender()
		return errors.Join(show("transaction", map[string]any{"network": t.Network, "nonce": t.Nonce, "operation": fmt.Sprintf("%T", t.Op), "body": t.Op, "from": from}), err)
	}
	return inspectJSON(b)
}

func inspectPayload(b []byte, modelName string) error {
	run, err := preset.Run(modelName, 0)
	if err != nil {
		return proc.Usage(err)
	}
	l, err := model.NewLayout(replica.ModelConfig(run))
	if err != nil {
		return err
	}
	p, err := gradients.NewCodec(l).Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	st := p.Stats()
	return show("payload", map[string]any{"k": p.K(), "values": st.Kept, "bytes": st.Bytes, "bits_per_value": st.BitsPerValue(), "norm": p.Norm(),
		"ratio_to_f32": float64(4*l.Params()) / float64(st.Bytes), "sha256": sum(b)})
}

func inspectJSON(b []byte) error {
	var e replica.Envelope
	if json.Unmarshal(b, &e) == nil && e.Signature != "" {
		what := "signed file that verifies for nobody"
		if f, _, err := replica.OpenWindowFile(local.Verifier{}, e.Hotkey, b); err == nil {
			return show("window file, signature holds, signed by "+e.Hotkey.String(), f)
		}
		if m, _, err := replica.OpenCheckpointManifest(local.Verifier{}, e.Hotkey, b); err == nil {
			return show("checkpoint manifest, signature holds, signed by "+e.Hotkey.String(), m)
		}
		return errors.New(what)
	}
	if r, err := chain.ParseRun(bytes.TrimSpace(b)); err == nil {
		return show("run descriptor "+r.Hash().String(), r)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return proc.Refused(errors.New("nothing that SN3 writes"))
	}
	return show("JSON", v)
}

func show(what string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", what, raw)
	return nil
}
