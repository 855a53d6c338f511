package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"sn3/gradients"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model/hf"
)

func verifyCommand() *cli.Command {
	return command("verify", "check that a pulled folder is what the network's stake signed", "FOLDER", 1, nil, func(c *cli.Context) error {
		dir := c.Args().First()
		m, err := pulled(dir)
		if err != nil {
			return err
		}
		return with(c, nil, func(ctx context.Context, n *network) error {
			cp, err := n.newest(ctx, &m.Window)
			if err != nil {
				return err
			}
			if err := cp.compare(dir); err != nil {
				return err
			}
			fmt.Printf("ok: window %d, root %s, all %d files, %s\n", m.Window, cp.manifest.Root.Short(), len(cp.manifest.Files), cp.signers())
			return nil
		})
	})
}

// pulled reads which window a folder claims to be of; nothing else in it is believed.
func pulled(dir string) (m replica.CheckpointManifest, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if errors.Is(err, os.ErrNotExist) {
		return m, proc.Usage(fmt.Errorf("%w: %s is no folder that sn3 pull made", err, dir))
	}
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return m, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}

// compare checks every file against the signed manifest, and the weights against its root.
func (cp *checkpoint) compare(dir string) error {
	if b, err := os.ReadFile(filepath.Join(dir, modelFile)); err == nil && halved(b) {
		return proc.Refused(fmt.Errorf("%s holds bf16: the state root is over float32, only a folder pulled as f32 can be verified", modelFile))
	}
	for _, f := range cp.manifest.Files {
		b, err := os.ReadFile(filepath.Join(dir, filepath.Base(f.Name)))
		if err != nil {
			return fmt.Errorf("verify %s: %w", f.Name, err)
		}
		if int64(len(b)) == f.Size && sum(b) == f.SHA256 {
			continue
		}
		return fmt.Errorf("verify %s: it is not what the stake signed for window %d: %w", f.Name, cp.manifest.Window, replica.ErrForged)
	}
	_, weights, err := hf.OpenDir(dir)
	if err != nil {
		return err
	}
	root, err := gradients.Root(weights)
	if err != nil {
		return err
	}
	if root != cp.manifest.Root {
		return fmt.Errorf("root of the weights is %s, the stake signed %s for window %d: %w", root.Short(), cp.manifest.Root.Short(), cp.manifest.Window, replica.ErrForged)
	}
	return nil
}

// halved says whether weights are bf16.
func halved(b []byte) bool {
	f, err := hf.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return false
	}
	for _, e := range f.Entries {
		if e.DType == string(hf.BF16) {
			return true
		}
	}
	return false
}
