package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	"sn3/model/hf"
	"sn3/storage"
)

// Limits on what a researcher's tool reads from a stranger's bucket.
const (
	maxManifest   = 1 << 20
	maxSmallFile  = 64 << 20
	maxCheckpoint = 1 << 40
)

// modelFile holds the weights of a checkpoint.
const modelFile = "model.safetensors"

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

// save writes the checkpoint as a folder, all files checked first; an existing folder that is not a checkpoint is refused.
func (cp *checkpoint) save(ctx context.Context, dir string, dtype hf.DType) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, "manifest.json")); err != nil {
			return proc.Refused(fmt.Errorf("%s is not empty and no checkpoint; choose another --out", dir))
		}
	}
	files, err := cp.fetch(ctx)
	if err != nil {
		return err
	}
	weights, err := cp.weights(files)
	if err != nil {
		return err
	}
	if dtype == hf.BF16 {
		var b bytes.Buffer
		if err := hf.WriteModel(&b, weights, hf.BF16, map[string]string{"format": "pt"}); err != nil {
			return err
		}
		files[modelFile], files["config.json"] = b.Bytes(), hf.Config(weights.Layout().Config(), hf.BF16)
	}
	raw, err := json.MarshalIndent(cp.manifest, "", "  ")
	if err != nil {
		return err
	}
	files["manifest.json"] = raw
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	for name, b := range files {
		if err := replica.WriteFile(filepath.Join(dir, name), b); err != nil {
			return err
		}
	}
	return nil
}

// fetch reads all files, each from the first signer that has it as the manifest says.
func (cp *checkpoint) fetch(ctx context.Context) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, f := range cp.manifest.Files {
		if f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".") || f.Name == "manifest.json" {
			return nil, fmt.Errorf("checkpoint file name %q: %w", f.Name, replica.ErrForged)
		}
		var errs []error
		for _, b := range cp.buckets {
			raw, err := cp.file(ctx, b, f)
			if err == nil {
				files[f.Name] = raw
				break
			}
			errs = append(errs, err)
		}
		if len(errs) == len(cp.buckets) {
			return nil, errors.Join(errs...)
		}
	}
	return files, nil
}

func (cp *checkpoint) file(ctx context.Context, from *storage.Bucket, f replica.File) ([]byte, error) {
	limit := int64(maxSmallFile)
	if f.Name == modelFile {
		limit = maxCheckpoint
	}
	if f.Size < 0 || f.Size > limit {
		return nil, fmt.Errorf("checkpoint file %s of %d bytes: %w", f.Name, f.Size, storage.ErrTooLarge)
	}
	b, err := from.Get(ctx, fmt.Sprintf("checkpoint/%d/%s", cp.manifest.Window, f.Name), f.Size)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", f.Name, err)
	}
	if int64(len(b)) != f.Size || sum(b) != f.SHA256 {
		return nil, fmt.Errorf("fetch %s: %w", f.Name, storage.ErrMismatch)
	}
	return b, nil
}

// weights reads the model out of a checkpoint's files and checks its root.
func (cp *checkpoint) weights(files map[string][]byte) (*model.Flat, error) {
	cfg, err := hf.ParseConfig(files["config.json"])
	if err != nil {
		return nil, err
	}
	w, err := hf.ReadModel(bytes.NewReader(files[modelFile]), int64(len(files[modelFile])), cfg)
	if err != nil {
		return nil, err
	}
	root, err := gradients.Root(w)
	if err != nil {
		return nil, err
	}
	if root != cp.manifest.Root {
		return nil, fmt.Errorf("root of the weights is %s, the manifest says %s: %w", root.Short(), cp.manifest.Root.Short(), replica.ErrForged)
	}
	return w, nil
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
