// Package netdir is the folder of a local network: what lies where, which processes run, and how they are started so that
// none outlives its parent.
package netdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sn3/chain"
	"sn3/internal/replica"
)

// Format is the version of the folder; another one is refused with advice, not migrated.
const Format = 1

// Files in the folder; docs/OPERATOR.md lists the others.
const (
	settingsFile = "network.json"
	runtimeFile  = "runtime.json"
	lockFile     = "lock"
)

// Errors of opening a folder.
var (
	// ErrNotOurs: the folder was not made by localnet.
	ErrNotOurs = errors.New("not a local network's folder")
	// ErrFormat: it was made by another version.
	ErrFormat = errors.New("folder of another version")
)

// Node is one member of the network.
type Node struct {
	Name   string       `json:"name"`
	Role   string       `json:"role"` // validator, miner or idle (a seat without a process)
	Hotkey chain.Hotkey `json:"hotkey"`
	P2P    int          `json:"p2p_port"`
	Peer   string       `json:"peer"` // peer-to-peer address with that port
}

// Settings are fixed when the network is made, except Windows, which grows with every run.
type Settings struct {
	Format        int     `json:"format"`
	Network       string  `json:"network"`
	Model         string  `json:"model"`
	Miners        int     `json:"miners"`
	Validators    int     `json:"validators"`
	Seed          uint64  `json:"seed"`
	Text          string  `json:"text"`            // "" is the Go standard library
	Data          string  `json:"data"`            // folder of the dataset that was copied; "": text was packed
	Dataset       string  `json:"dataset"`         // its manifest
	BytesPerToken float64 `json:"bytes_per_token"` // of held-out text; 0 is 1
	Gap           string  `json:"gap"`
	Windows       int     `json:"windows"` // planned in all; 0 = until stopped
	Speed         float64 `json:"tokens_per_second_per_core"`
	BlockTimeMS   int64   `json:"block_time_ms"`
	Nodes         []Node  `json:"nodes"`
}

// Runtime says what runs where. It is written before the first process starts and kept after the last one ended, so that a
// network comes back on its old ports when they are free.
type Runtime struct {
	PID       int            `json:"pid"` // of the launcher; 0 when nothing runs
	ChainPort int            `json:"chain_port"`
	S3Port    int            `json:"s3_port"`
	Chain     string         `json:"chain"`
	PIDs      map[string]int `json:"pids"`
	Version   string         `json:"version"`
}

// Dir is a network's folder.
type Dir string

// Path joins names below the folder.
func (d Dir) Path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// NodePath is a node's private folder or a file in it.
func (d Dir) NodePath(name string, elem ...string) string {
	return d.Path(append([]string{"nodes", name}, elem...)...)
}

// creating marks a folder whose network was not complete yet: it never ran, so it may be thrown away. Only its content makes
// it our mark: an empty file of that name may be anybody's.
const (
	creating     = "creating"
	creatingText = "sn3 makes a local network here; until this file is gone the folder may be emptied\n"
)

// Begin marks the folder as being made.
func (d Dir) Begin() error {
	if err := os.WriteFile(d.Path(creating), []byte(creatingText), 0o600); err != nil {
		return fmt.Errorf("make network folder: %w", err)
	}
	return nil
}

// Complete removes the mark.
func (d Dir) Complete() error {
	if err := os.Remove(d.Path(creating)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make network folder: %w", err)
	}
	return nil
}

// Unfinished says whether the folder's network never became complete.
func (d Dir) Unfinished() bool {
	b, err := os.ReadFile(d.Path(creating))
	return err == nil && string(b) == creatingText
}

// Foreign is an error if there is something in the folder and no sign that localnet put it there.
func (d Dir) Foreign() error {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read network folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			if d.Unfinished() || d.marked() {
				return nil
			}
			return fmt.Errorf("%s is not empty and %w", d, ErrNotOurs)
		}
	}
	return nil
}

// marked says whether network.json is one of ours, of whatever format.
func (d Dir) marked() bool {
	var s struct {
		Format int `json:"format"`
	}
	b, err := os.ReadFile(d.Path(settingsFile))
	return err == nil && json.Unmarshal(b, &s) == nil && s.Format > 0
}

// Discard empties an unfinished folder but for its lock.
func (d Dir) Discard() error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return fmt.Errorf("empty network folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == lockFile || e.Name() == creating { // the mark goes last: a crash in between leaves it
			continue
		}
		if err := os.RemoveAll(d.Path(e.Name())); err != nil {
			return fmt.Errorf("empty network folder: %w", err)
		}
	}
	return d.Complete()
}

// Settings reads network.json.
func (d Dir) Settings() (Settings, error) {
	var s Settings
	b, err := os.ReadFile(d.Path(settingsFile))
	if errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("%s: %w; make up makes one", d, ErrNotOurs)
	}
	if err != nil {
		return s, fmt.Errorf("read network settings: %w", err)
	}
	err = json.Unmarshal(b, &s)
	if s.Format > 0 && s.Format != Format {
		return s, fmt.Errorf("%s has format %d, this build %d: %w; use the release that made it, another DIR, or delete it with make clean-localnet", d, s.Format, Format, ErrFormat)
	}
	if err == nil && s.Format == 0 {
		err = ErrNotOurs
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w; choose another DIR", d.Path(settingsFile), err)
	}
	return s, nil
}

// SaveSettings replaces network.json.
func (d Dir) SaveSettings(s Settings) error { return d.save(settingsFile, s) }

// Runtime reads runtime.json; a missing file is the zero value.
func (d Dir) Runtime() (Runtime, error) {
	var r Runtime
	b, err := os.ReadFile(d.Path(runtimeFile))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read runtime.json: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read %s: %w; it only remembers ports and processes: delete it", d.Path(runtimeFile), err)
	}
	return r, nil
}

// SaveRuntime replaces runtime.json.
func (d Dir) SaveRuntime(r Runtime) error { return d.save(runtimeFile, r) }

func (d Dir) save(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return replica.WriteFile(d.Path(name), append(b, '\n'))
}

// Names are the network's names of hotkeys.
func Names(dir string) (map[chain.Hotkey]string, error) {
	s, err := Dir(dir).Settings()
	if err != nil {
		return nil, err
	}
	out := map[chain.Hotkey]string{}
	for _, n := range s.Nodes {
		out[n.Hotkey] = n.Name
	}
	return out, nil
}
