package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/gradients"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/hf"
	"sn3/storage"
)

// Limits on what a researcher's tool reads from a stranger's bucket.
const (
	maxManifest   = 1 << 20
	maxSmallFile  = data.MaxTokenizer
	maxCheckpoint = 1 << 40
)

// modelFile holds the weights of a checkpoint.
const modelFile = "model.safetensors"

// partial begins the name of a folder, in the one that is written, with what is not whole yet.
const partial = ".partial-"

func sum(b []byte) chain.Hash { return sha256.Sum256(b) }

func pullCommand() *cli.Command {
	return command("pull", "fetch the newest checkpoint that the stake signed, as a Hugging Face folder", "[BUCKET URL]", -1, []cli.Flag{
		outputFlag("checkpoint"),
		&cli.StringFlag{Name: "dtype", Value: "f32", Usage: "`TYPE` of the weights written: f32 or bf16"},
		&cli.Uint64Flag{Name: "window", Usage: "this window's checkpoint instead of the newest"},
	}, func(c *cli.Context) error {
		dtype, err := parseDType(c.String("dtype"))
		if err != nil {
			return err
		}
		if c.NArg() == 1 {
			return pullURL(c, c.Args().First(), dtype)
		}
		if c.NArg() > 1 {
			return proc.Usage(errors.New("pull takes at most one bucket URL"))
		}
		return with(c, nil, func(ctx context.Context, n *network) error {
			cp, err := n.newest(ctx, wanted(c))
			if err != nil {
				return err
			}
			if err := cp.save(ctx, c.String("out"), dtype); err != nil {
				return err
			}
			fmt.Printf("window %d, root %s, %s\n%s opens with transformers: AutoModelForCausalLM.from_pretrained(%q)\n",
				cp.manifest.Window, cp.manifest.Root.Short(), cp.signers(), c.String("out"), c.String("out"))
			return nil
		})
	})
}

func wanted(c *cli.Context) *chain.Window {
	if !c.IsSet("window") {
		return nil
	}
	w := chain.Window(c.Uint64("window"))
	return &w
}

func parseDType(s string) (hf.DType, error) {
	switch s {
	case "f32":
		return hf.F32, nil
	case "bf16":
		return hf.BF16, nil
	}
	return hf.F32, proc.Usage(fmt.Errorf("unknown dtype %q; use f32 or bf16", s))
}

// checkpoint is a verified manifest and the buckets of those who signed it, to read its files from.
type checkpoint struct {
	manifest     replica.CheckpointManifest
	buckets      []*storage.Bucket
	stake, total chain.Amount
}

// signers says how much stake stands behind it.
func (cp *checkpoint) signers() string {
	return fmt.Sprintf("signed by %.0f%% of the permitted stake", 100*float64(cp.stake)/float64(cp.total))
}

// newest finds the newest checkpoint (or the wanted one) whose manifest more than half of the permitted stake signed.
func (n *network) newest(ctx context.Context, want *chain.Window) (*checkpoint, error) {
	s, err := n.head(ctx)
	if err != nil {
		return nil, err
	}
	best := map[chain.Hash]*checkpoint{}
	var total chain.Amount
	for _, v := range s.Neurons {
		if !v.Permit {
			continue
		}
		total += v.Stake
		p, ok := s.Record(v.Hotkey)
		if !ok {
			continue
		}
		b, err := n.bucket(p.Record.Locator)
		if err != nil {
			continue
		}
		for _, w := range checkpointsIn(ctx, b) {
			if want != nil && w != *want {
				continue
			}
			raw, err := b.Get(ctx, fmt.Sprintf("checkpoint/%d/manifest.json", w), maxManifest)
			if err != nil {
				continue
			}
			m, digest, err := replica.OpenCheckpointManifest(local.Verifier{}, v.Hotkey, raw)
			if err == nil && (m.Network != n.run.Network || m.Run != n.run.Hash() || m.Window != w) {
				err = errors.New("it is of another run or window")
			}
			if err != nil {
				proc.Note(fmt.Sprintf("checkpoint %d of %s refused: %v", w, n.name(v.Hotkey), err))
				continue
			}
			if best[digest] == nil {
				best[digest] = &checkpoint{manifest: m}
			}
			best[digest].buckets = append(best[digest].buckets, b)
			best[digest].stake += v.Stake
		}
	}
	var found *checkpoint
	for _, cp := range best {
		if cp.stake > total/2 && (found == nil || cp.manifest.Window > found.manifest.Window) {
			found = cp
		}
	}
	if found == nil && want != nil {
		return nil, fmt.Errorf("no checkpoint of window %d is signed by more than half of the permitted stake; without --window the newest is taken", *want)
	}
	if found == nil {
		return nil, errors.New("no checkpoint is signed by more than half of the permitted stake yet; the first one comes with the first window")
	}
	found.total = total
	return found, nil
}

// checkpointsIn lists the windows of the checkpoint folders in a bucket, newest first; a listing is only a hint.
func checkpointsIn(ctx context.Context, b *storage.Bucket) []chain.Window {
	page, err := b.List(ctx, "checkpoint/", "", 1000)
	if err != nil {
		return nil
	}
	var out []chain.Window
	for _, o := range page {
		rest, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, "checkpoint/"), "/manifest.json")
		if w, err := strconv.ParseUint(rest, 10, 62); ok && err == nil {
			out = append(out, chain.Window(w))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] > out[j] })
	return out
}

// save writes the checkpoint as a folder. All files are fetched and checked before any that is there is replaced; the manifest
// comes last. A folder that is not a checkpoint is refused.
func (cp *checkpoint) save(ctx context.Context, dir string, dtype hf.DType) (err error) {
	entries, err := os.ReadDir(dir)
	left := slices.DeleteFunc(slices.Clone(entries), func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), partial) }) // of a pull that was killed
	if err == nil && len(entries) > len(left) {
		if _, err := os.Stat(filepath.Join(dir, "manifest.json")); err != nil {
			return proc.Refused(fmt.Errorf("%s is not empty and no checkpoint; choose another --out", dir))
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("clear output folder: %w", err)
		}
	}
	tmp, err := os.MkdirTemp(dir, partial)
	if err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	for _, f := range cp.manifest.Files {
		if err := cp.fetch(ctx, tmp, f); err != nil {
			return err
		}
	}
	if err := cp.convert(ctx, tmp, dtype); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(cp.manifest, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range cp.manifest.Files {
		if err := os.Rename(filepath.Join(tmp, f.Name), filepath.Join(dir, f.Name)); err != nil {
			return fmt.Errorf("move checkpoint: %w", err)
		}
	}
	return replica.WriteFile(filepath.Join(dir, "manifest.json"), raw)
}

// fetch writes one file to a folder, from the first signer that has it as the manifest says.
func (cp *checkpoint) fetch(ctx context.Context, dir string, f replica.File) error {
	if f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".") || f.Name == "manifest.json" {
		return fmt.Errorf("checkpoint file name %q: %w", f.Name, replica.ErrForged)
	}
	limit := int64(maxSmallFile)
	if f.Name == modelFile {
		limit = maxCheckpoint
	}
	if f.Size < 0 || f.Size > limit {
		return fmt.Errorf("checkpoint file %s of %d bytes: %w", f.Name, f.Size, storage.ErrTooLarge)
	}
	out, err := os.OpenFile(filepath.Join(dir, f.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	var errs []error
	for _, b := range cp.buckets {
		if err = b.Fetch(ctx, fmt.Sprintf("checkpoint/%d/%s", cp.manifest.Window, f.Name), f.Size, f.SHA256, out); err == nil {
			break
		}
		errs = append(errs, fmt.Errorf("fetch %s: %w", f.Name, err))
	}
	if err != nil {
		return errors.Join(append(errs, out.Close())...)
	}
	return errors.Join(out.Sync(), out.Close())
}

// convert checks the model in a folder and its root, and writes it again if another type is asked for.
func (cp *checkpoint) convert(ctx context.Context, dir string, dtype hf.DType) (err error) {
	f, err := hf.OpenFolder(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := cp.sameRoot(f); err != nil || dtype == hf.F32 {
		return err
	}
	other := filepath.Join(dir, ".converted")
	if err := hf.Save(ctx, other, f, hf.SaveOptions{DType: dtype, MaxShard: math.MaxInt64, Special: f.Special}); err != nil {
		return err
	}
	for _, name := range []string{"config.json", modelFile} {
		if err := os.Rename(filepath.Join(other, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("convert checkpoint: %w", err)
		}
	}
	return nil
}

// sameRoot compares weights with what the stake signed.
func (cp *checkpoint) sameRoot(w model.Weights) error {
	root, err := gradients.Root(w)
	if err != nil {
		return err
	}
	if root != cp.manifest.Root {
		return fmt.Errorf("root of the weights is %s, the stake signed %s for window %d: %w", root.Short(), cp.manifest.Root.Short(), cp.manifest.Window, replica.ErrForged)
	}
	return nil
}

// pullURL fetches the newest checkpoint straight from a bucket, without a chain: hashes and root are checked against the
// manifest, who signed it is printed and left to the reader to judge.
func pullURL(c *cli.Context, url string, dtype hf.DType) error {
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	l, policy, err := storage.ParseURL(url)
	if err != nil {
		return proc.Usage(err)
	}
	b, err := storage.Open(l, nil, policy)
	if err != nil {
		return err
	}
	windows := checkpointsIn(ctx, b)
	if w := wanted(c); w != nil {
		windows = []chain.Window{*w}
	}
	if len(windows) == 0 {
		return fmt.Errorf("no checkpoint in %s", l)
	}
	raw, err := b.Get(ctx, fmt.Sprintf("checkpoint/%d/manifest.json", windows[0]), maxManifest)
	if err != nil {
		return fmt.Errorf("fetch manifest: %w", err)
	}
	var e replica.Envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	m, _, err := replica.OpenCheckpointManifest(local.Verifier{}, e.Hotkey, raw)
	if err != nil {
		return err
	}
	cp := &checkpoint{manifest: m, buckets: []*storage.Bucket{b}}
	if err := cp.save(ctx, c.String("out"), dtype); err != nil {
		return proc.Ended(ctx, err)
	}
	fmt.Printf("window %d, root %s, signed by hotkey %s alone: ask a chain node (--chain) whether the stake agrees\n", m.Window, m.Root.Short(), e.Hotkey)
	return nil
}
