package tokenizer

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	base := tiny(nil, false)
	file := patch(t, base, raw("added_tokens", `[{"id":300,"content":"<s>","special":true},{"id":301,"content":"</s>","special":true},{"id":302,"content":"<|end|>","special":true}]`))
	withBOS := patch(t, file, raw("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],"special_tokens":{"<s>":{"ids":[300]}}}`))
	for _, c := range []struct {
		name     string
		file     []byte
		beside   map[string]string
		bos, eos int32 // -1: none
		says     string
	}{
		{"alone", file, nil, -1, 301, ""},
		{"nothing known", base, nil, -1, -1, ""},
		{"template", withBOS, nil, 300, 301, ""},
		{"configured", file, map[string]string{configFile: `{"bos_token":"<s>","eos_token":{"content":"<|end|>"},"add_bos_token":true}`}, 300, 302, ""},
		{"not added", file, map[string]string{configFile: `{"bos_token":"<s>","eos_token":null}`}, -1, 301, ""},
		{"a plain token", file, map[string]string{configFile: `{"eos_token":"\n"}`}, -1, 10, ""},
		{"generation first", file, map[string]string{"generation_config.json": `{"eos_token_id":[302,301]}`, "config.json": `{"eos_token_id":300}`}, -1, 302, ""},
		{"model", file, map[string]string{"generation_config.json": `{}`, "config.json": `{"eos_token_id":300}`}, -1, 300, ""},
		{"null", file, map[string]string{"config.json": `{"eos_token_id":null}`}, -1, 301, ""},
		{"tokenizer before model", file, map[string]string{configFile: `{"eos_token":"</s>"}`, "config.json": `{"eos_token_id":300}`}, -1, 301, ""},
		{"unknown token", file, map[string]string{configFile: `{"eos_token":"<eos>"}`}, 0, 0, `"<eos>" is not in tokenizer.json`},
		{"id outside", file, map[string]string{"config.json": `{"eos_token_id":128001}`}, 0, 0, "128001 is not in tokenizer.json"},
		{"broken config", file, map[string]string{configFile: `{`}, 0, 0, configFile},
		{"wrong type", file, map[string]string{"config.json": `{"eos_token_id":"x"}`}, 0, 0, "config.json"},
		{"unsupported", []byte(`{"model":{"type":"Unigram"}}`), nil, 0, 0, "not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, tokenizerFile, string(c.file))
			for name, s := range c.beside {
				put(t, dir, name, s)
			}
			tok, err := Open(dir)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("%v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for what, x := range map[string]struct {
				get  func() (int32, bool)
				want int32
			}{"BOS": {tok.BOS, c.bos}, "EOS": {tok.EOS, c.eos}} {
				if id, ok := x.get(); ok != (x.want >= 0) || ok && id != x.want {
					t.Errorf("%s %d %v, want %d", what, id, ok, x.want)
				}
			}
			files := tok.Files()
			if !bytes.Equal(files[tokenizerFile], c.file) || len(files) != 2 {
				t.Errorf("%d files, or another tokenizer.json", len(files))
			}
			if want := c.beside[configFile]; want != "" && string(files[configFile]) != want {
				t.Errorf("tokenizer_config.json %s, want the folder's", files[configFile])
			}
		})
	}
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenNothing(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "save_pretrained") {
		t.Errorf("%v", err)
	}
}

// The files beside tokenizer.json travel with it.
func TestOpenKeepsFiles(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{tokenizerFile: string(tiny(nil, true)), configFile: `{"model_max_length": 8192}`, mapFile: `{}`, chatFile: "{{ x }}"}
	for name, s := range want {
		put(t, dir, name, s)
	}
	put(t, dir, "model.safetensors", "not ours")
	tok, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := tok.Files()
	for name, s := range want {
		if string(files[name]) != s {
			t.Errorf("%s is %q", name, files[name])
		}
	}
	if len(files) != len(want) {
		t.Errorf("%d files", len(files))
	}
}
