package preset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"sn3/chain"
	"sn3/internal/spec"
)

// file is the form of a preset: the fields of chain.Run that do not depend on one network, under the names they have there.
// Every field must be said, except those that may be absent in a descriptor too.
type file struct {
	About      string               `json:"about"` // one line
	Model      chain.ModelSpec      `json:"model"`
	Tokenizer  string               `json:"tokenizer"` // "bytes", "dataset" (that of the dataset), or as in chain.Run
	Schedule   chain.ScheduleParams `json:"schedule"`
	Rules      chain.Rules          `json:"rules"`
	Train      chain.TrainSpec      `json:"train"`
	Payload    chain.PayloadSpec    `json:"payload"`
	Outer      chain.OuterSpec      `json:"outer"`
	Score      chain.ScoreSpec      `json:"score"`
	Checkpoint int                  `json:"checkpoint_every"`
	Keep       int                  `json:"keep_windows"`
	Tempo      chain.Block          `json:"tempo"`
	Why        map[string]string    `json:"why,omitempty"` // comments, by the path of the field they are about
}

// fromDataset is the tokenizer of a preset that leaves it to the dataset.
const fromDataset = "dataset"

// parse reads and checks a preset. What is unknown, said twice, missing or contradictory is refused by name.
func parse(name string, b []byte) (*Preset, error) {
	bad := func(err error) (*Preset, error) { return nil, fmt.Errorf("preset %s: %w", name, err) }
	w := walker{d: json.NewDecoder(bytes.NewReader(b)), paths: map[string]bool{}}
	w.d.UseNumber() // a number that is too large is told by package json, with its field
	if err := w.value(reflect.TypeFor[file](), ""); err != nil {
		return bad(err)
	}
	if _, err := w.d.Token(); !errors.Is(err, io.EOF) {
		return bad(errors.New("something follows the closing brace"))
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return bad(err)
	}
	for k := range f.Why {
		if !w.paths[k] {
			return bad(fmt.Errorf("why.%q explains a field that is not there", k))
		}
	}
	if f.About == "" || len(f.About) > 200 || strings.ContainsFunc(f.About, func(r rune) bool { return r < ' ' }) {
		return bad(errors.New("about must be one line of 1 to 200 bytes"))
	}
	p := &Preset{Name: name, About: f.About, Bytes: f.Tokenizer == "bytes", text: bytes.Clone(b), run: chain.Run{Version: chain.RunVersion, Loopback: true,
		Model: f.Model, Tokenizer: f.Tokenizer, Schedule: f.Schedule, Rules: f.Rules, Train: f.Train, Payload: f.Payload, Outer: f.Outer,
		Score: f.Score, Checkpoint: f.Checkpoint, Keep: f.Keep, Tempo: f.Tempo}}
	if f.Tokenizer == fromDataset {
		p.run.Tokenizer = ""
	}
	if err := check(&p.run); err != nil {
		return bad(err)
	}
	return p, nil
}

// check is Validate and spec.Check of a descriptor to which only a network's own facts are missing.
func check(r *chain.Run) error {
	x := *r
	x.Network = "preset"
	if x.Tokenizer == "" {
		x.Tokenizer = strings.Repeat("0", 64)
	}
	if err := x.Validate(); err != nil {
		return err
	}
	return spec.Check(&x)
}

// walker compares a JSON text with a Go type, exactly: package json takes unknown, missing and repeated fields, other
// capitals and null without a word.
type walker struct {
	d     *json.Decoder
	paths map[string]bool // of all fields said, without array indices
}

func (w walker) value(t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tok, err := w.d.Token()
	if err != nil {
		return fmt.Errorf("not JSON at byte %d: %w", w.d.InputOffset(), err)
	}
	where := path
	if where == "" {
		where = "the file"
	}
	switch {
	case tok == nil:
		return fmt.Errorf("%s is null", where)
	case t.Kind() == reflect.Struct && tok == json.Delim('{'):
		return w.object(t, path)
	case t.Kind() == reflect.Map && tok == json.Delim('{'):
		return w.comments(path)
	case t.Kind() == reflect.Slice && tok == json.Delim('['):
		for w.d.More() {
			if err := w.value(t.Elem(), path); err != nil {
				return err
			}
		}
		_, err := w.d.Token()
		return err
	}
	_, nested := tok.(json.Delim)
	if nested || t.Kind() == reflect.Struct || t.Kind() == reflect.Map || t.Kind() == reflect.Slice {
		return fmt.Errorf("%s is of another kind than %s", where, t.Kind())
	}
	return nil // json.Unmarshal tells a string from a number
}

func (w walker) object(t reflect.Type, path string) error {
	known, said := map[string]reflect.StructField{}, map[string]bool{}
	var order []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[name], order = f, append(order, name)
	}
	for w.d.More() {
		key, err := w.key()
		if err != nil {
			return err
		}
		at := join(path, key)
		f, ok := known[key]
		switch {
		case !ok:
			return fmt.Errorf("there is no field %s; %s has %s", at, orFile(path), strings.Join(order, ", "))
		case said[key]:
			return fmt.Errorf("%s is said twice", at)
		}
		said[key], w.paths[at] = true, true
		if err := w.value(f.Type, at); err != nil {
			return err
		}
	}
	var missing []string
	for _, name := range order {
		if !said[name] && !strings.Contains(known[name].Tag.Get("json"), ",omitempty") {
			missing = append(missing, join(path, name))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing: %s", strings.Join(missing, ", "))
	}
	_, err := w.d.Token()
	return err
}

// comments are strings by name.
func (w walker) comments(path string) error {
	var said []string
	for w.d.More() {
		key, err := w.key()
		if err != nil {
			return err
		}
		if slices.Contains(said, key) {
			return fmt.Errorf("%s.%q is said twice", path, key)
		}
		said = append(said, key)
		if err := w.value(reflect.TypeFor[string](), path+"."+key); err != nil {
			return err
		}
	}
	_, err := w.d.Token()
	return err
}

func (w walker) key() (string, error) {
	tok, err := w.d.Token()
	if err != nil {
		return "", fmt.Errorf("not JSON at byte %d: %w", w.d.InputOffset(), err)
	}
	s, _ := tok.(string) // a key is one
	return s, nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func orFile(path string) string {
	if path == "" {
		return "a preset"
	}
	return path
}
