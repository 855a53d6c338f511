// Package events is a node's diary: one JSON line per thing that happened, appended to events.jsonl in the node's folder.
// The local network's display, its summary and `sn3 status` read it; nothing in the protocol depends on it.
package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sn3/chain"
)

// File is the diary's name in a node's folder.
const File = "events.jsonl"

// Kind says what happened.
type Kind string

// The kinds, with the fields of Event that each fills.
const (
	Start      Kind = "start"      // Role, Hotkey, Engine, Version
	Train      Kind = "train"      // Window, Steps, EarlySteps, BadBatches, Tokens, Loss, Seconds
	Unstable   Kind = "unstable"   // Window, Steps (made before it), BadBatches (in a row), Reason: a batch was left out
	Submit     Kind = "submit"     // Window, Block, Bytes, Ratio, Digest
	Applied    Kind = "applied"    // Window, Block, Root, Winners
	Eval       Kind = "eval"       // Window, Loss: held-out loss of θ_Window on the fixed set, nats per token
	Scored     Kind = "scored"     // Window, Scores, Seconds
	Rejected   Kind = "rejected"   // Window, Peer, Reason
	Weights    Kind = "weights"    // Block, Scores (weights by hotkey)
	Checkpoint Kind = "checkpoint" // Window, Root
	Waiting    Kind = "waiting"    // Reason: what for
	Resumed    Kind = "resumed"    // Reason: what came back
	Endpoint   Kind = "endpoint"   // Reason: which chain node is followed from now on, set aside, behind or back, and why
	Diverged   Kind = "diverged"   // Window, Root (own), Majority
	Resync     Kind = "resync"     // Window: caught up to
	Skipped    Kind = "skipped"    // Window, Reason: no submission or vote this window
	Stop       Kind = "stop"       // Reason
)

// Event is one line. Fields that a kind does not name are absent.
type Event struct {
	Time       time.Time          `json:"time"`
	Kind       Kind               `json:"kind"`
	Role       string             `json:"role,omitempty"`
	Hotkey     *chain.Hotkey      `json:"hotkey,omitempty"`
	Engine     string             `json:"engine,omitempty"`
	Version    string             `json:"version,omitempty"`
	Window     chain.Window       `json:"window"`
	Block      chain.Block        `json:"block,omitempty"`
	Steps      int                `json:"steps,omitempty"`
	EarlySteps int                `json:"early_steps,omitempty"` // made before Apply, in --gap train
	BadBatches int                `json:"bad_batches,omitempty"` // left out: a loss or gradient that is not finite
	Tokens     int                `json:"tokens,omitempty"`
	Loss       float64            `json:"loss,omitempty"` // nats per token
	Seconds    float64            `json:"seconds,omitempty"`
	Bytes      int64              `json:"bytes,omitempty"`
	Ratio      float64            `json:"ratio,omitempty"` // float32 size of the model / Bytes
	Root       *chain.Hash        `json:"root,omitempty"`
	Majority   *chain.Hash        `json:"majority,omitempty"`
	Digest     *chain.Hash        `json:"digest,omitempty"`
	Winners    []chain.Hotkey     `json:"winners,omitempty"`
	Peer       *chain.Hotkey      `json:"peer,omitempty"`
	Scores     map[string]float64 `json:"scores,omitempty"` // by hotkey in hex
	Reason     string             `json:"reason,omitempty"`
}

// Sink receives events; it must not block for long and is safe for concurrent use.
type Sink func(Event)

// Log appends events to a diary.
type Log struct {
	mu   sync.Mutex
	f    *os.File
	torn bool // the last line has no end: a crash or a full disk cut it
}

// OpenLog opens the diary in dir for appending.
func OpenLog(dir string) (*Log, error) {
	f, err := os.OpenFile(filepath.Join(dir, File), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	l := &Log{f: f}
	last := make([]byte, 1)
	if st, err := f.Stat(); err == nil && st.Size() > 0 {
		_, err := f.ReadAt(last, st.Size()-1)
		l.torn = err != nil || last[0] != '\n'
	}
	return l, nil
}

// Add appends e with the time now. A diary that cannot be written (full disk) must not stop a node: the error is returned
// for the caller to log once.
func (l *Log) Add(e Event) error {
	e.Time = time.Now().UTC()
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write event log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b = append(b, '\n')
	if l.torn {
		b = append([]byte{'\n'}, b...)
	}
	if _, err := l.f.Write(b); err != nil {
		l.torn = true
		return fmt.Errorf("write event log: %w", err)
	}
	l.torn = false
	return nil
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }

// Tail reads a diary from where it stopped last time.
type Tail struct {
	path string
	off  int64
}

// NewTail reads the diary in dir from its start.
func NewTail(dir string) *Tail { return &Tail{path: filepath.Join(dir, File)} }

// Next returns the events appended since the last call; none if the file does not exist yet. A last line without its
// newline is left for the next call; a line that is no event (torn by a crash) is skipped.
func (t *Tail) Next() ([]Event, error) {
	f, err := os.Open(t.path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	if st.Size() <= t.off {
		return nil, nil
	}
	b := make([]byte, st.Size()-t.off)
	n, err := f.ReadAt(b, t.off)
	if n == 0 && err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	b = b[:n]
	end := bytes.LastIndexByte(b, '\n') + 1
	t.off += int64(end)
	var out []Event
	for _, line := range bytes.Split(b[:end], []byte{'\n'}) {
		var e Event
		if len(line) > 0 && json.Unmarshal(line, &e) == nil {
			out = append(out, e)
		}
	}
	return out, nil
}
