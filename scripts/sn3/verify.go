package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/chain"
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
func (cp *checkpoint) compare(dir string) (err error) {
	f, err := hf.OpenFolder(dir)
	if err == nil { // a damaged one is named below
		defer func() { err = errors.Join(err, f.Close()) }()
		if types := f.DTypes(); !slices.Equal(types, []string{string(hf.F32)}) {
			return proc.Refused(fmt.Errorf("%s holds %s: the state root is over float32, only a folder pulled as f32 can be verified", modelFile, strings.Join(types, ", ")))
		}
	}
	for _, x := range cp.manifest.Files {
		if err := sameFile(filepath.Join(dir, filepath.Base(x.Name)), x); err != nil {
			return fmt.Errorf("verify %s for window %d: %w", x.Name, cp.manifest.Window, err)
		}
	}
	if err != nil {
		return err
	}
	return cp.sameRoot(f)
}

// sameFile compares a file with what the stake signed, without having it in memory.
func sameFile(path string, want replica.File) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, want.Size+1))
	if err != nil {
		return err
	}
	if n != want.Size || chain.Hash(h.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("it is not what the stake signed: %w", replica.ErrForged)
	}
	return nil
}
