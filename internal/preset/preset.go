// Package preset holds run descriptors by name, and reads them from files of the same form: presets/*.json is what a user
// copies and changes. A preset says everything except what is only known when a network starts: its name, dataset, seed,
// and, on one machine, its schedule.
package preset

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"sn3/chain"
)

//go:embed presets/*.json
var embedded embed.FS

// names are the embedded presets, from small to large.
var names = []string{"local", "wire", "small", "8m", "40m", "160m", "1b", "8b", "70b"}

// maxFile bounds a preset file; ours have 3 KB.
const maxFile = 1 << 20

// LeastWindows is for how many windows the learning rate is planned at least: a network that was made for fewer goes on with
// the next make up, and would then stand at its floor before it has learned anything.
const LeastWindows = 24

// Names lists the embedded presets in the order of the help text.
func Names() []string { return append([]string(nil), names...) }

// Local lists those that need no dataset: their tokens are bytes, so that any text will do.
func Local() []string { return names[:2:2] }

// Preset is a checked preset.
type Preset struct {
	Name  string // of an embedded one; of a file its path and the beginning of its SHA-256
	About string // one line
	Bytes bool   // its tokens are bytes; else the tokenizer is its dataset's
	text  []byte
	run   chain.Run
}

// Text is the file, as it was read.
func (p *Preset) Text() []byte { return append([]byte(nil), p.text...) }

// Open returns the embedded preset of that name, or reads the file: a name with a separator or the ending .json is one.
func Open(name string) (*Preset, error) {
	for _, n := range names {
		if n == name {
			b, err := embedded.ReadFile("presets/" + n + ".json")
			if err != nil {
				return nil, fmt.Errorf("read preset %s: %w", n, err)
			}
			return parse(n, b)
		}
	}
	if !strings.ContainsRune(name, filepath.Separator) && !strings.HasSuffix(name, ".json") {
		return nil, fmt.Errorf("unknown model preset %q; use one of %v, or a file such as ./%s.json (sn3 preset NAME prints one to start from)", name, names, clean(name))
	}
	b, err := readFile(name)
	if err != nil {
		return nil, fmt.Errorf("read preset: %w", err)
	}
	sum := sha256.Sum256(b)
	return parse(name+" ("+hex.EncodeToString(sum[:4])+")", b)
}

// clean is a name fit for an example.
func clean(name string) string {
	if name == "" || len(name) > 20 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return "mine"
	}
	return name
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes: that is no preset", path, maxFile)
	}
	return b, nil
}

// Run returns the descriptor of a preset (Open) for a network that is planned to run for windows windows: see Preset.Run.
func Run(name string, windows int) (*chain.Run, error) {
	p, err := Open(name)
	if err != nil {
		return nil, err
	}
	return p.Run(windows)
}

// Run returns the descriptor for a network that is planned to run for windows windows, fewer than LeastWindows counting as
// so many; 0 or less is until stopped, which plans the learning rate for train.total steps. It is for a network on one
// machine (Loopback); one of many clears that, and fills in the tokenizer where the preset leaves it to the dataset.
func (p *Preset) Run(windows int) (*chain.Run, error) {
	r := p.run
	r.Payload.K = append([]chain.KStep(nil), r.Payload.K...)
	if r.Model.Rope != nil {
		rope := *r.Model.Rope
		r.Model.Rope = &rope
	}
	if windows > 0 {
		r.Train.Total = max(windows, LeastWindows) * r.Train.InnerSteps
	}
	if err := check(&r); err != nil {
		return nil, fmt.Errorf("preset %s for %d windows: %w", p.Name, max(windows, LeastWindows), err)
	}
	return &r, nil
}
