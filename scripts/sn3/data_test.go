package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sn3/model/data"
	"sn3/storage"
)

// files is every file below dir and its content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sn3 data pack, killed with SIGKILL while it works, goes on with the same command and makes the same files.
func TestPackKilled(t *testing.T) {
	dir := t.TempDir()
	in, err := os.Create(filepath.Join(dir, "in.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(in)
	for i := range 40_000 {
		fmt.Fprintf(w, "{\"text\":\"document %d %s\"}\n", i, strings.Repeat(fmt.Sprint("word", i%97, " "), 200))
	}
	if err := errors.Join(w.Flush(), in.Close()); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pack := func(out string) *exec.Cmd {
		c := exec.Command(self, "data", "pack", in.Name(), "--out", filepath.Join(dir, out))
		c.Args[0] = "sn3"
		return c
	}
	if b, err := pack("whole").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	// killed at its first checkpoint: that is never the end
	c := pack("killed")
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for said := bufio.NewScanner(stderr); said.Scan(); {
		if strings.HasSuffix(said.Text(), "saved") {
			break
		}
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil {
		t.Fatal("it was done before it could be killed")
	}
	if _, err := os.Stat(filepath.Join(dir, "killed", "dataset.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a dataset although it was killed: %v", err)
	}
	if b, err := pack("killed").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if a, b := files(t, filepath.Join(dir, "whole")), files(t, filepath.Join(dir, "killed")); !maps.Equal(a, b) {
		t.Errorf("%d files, and %d of one that was never killed", len(b), len(a))
	}
}

// datasets checks the network's dataset where it lies, by the chain's pins and by those in the bucket; a spoiled object is found.
// Afterwards it is spoiled.
func (w *town) datasets() {
	w.t.Helper()
	w.says("local:data: 3 objects, ", "data", "verify")
	w.says("tokenizer  bytes, vocabulary 256", "data", "stat")
	url := fmt.Sprintf("http://127.0.0.1:%d/data", w.port)
	w.fails(storage.ErrNotFound, "data", "verify", url)
	pin := data.Pin{Manifest: w.run.Dataset.Manifest, Root: w.run.Dataset.Root}
	w.put("data", data.PinFile, pin.Encode())
	w.says("3 objects, ", "data", "verify", url)
	w.says(pin.Root.String(), "data", "stat", "--json", url)

	m, err := data.GetManifest(w.t.Context(), w.buckets["data"], pin)
	w.ok(err)
	key := data.Key(m.Shards[data.Train][0].Sum)
	b, err := w.buckets["data"].Get(w.t.Context(), key, int64(data.MaxShard))
	w.ok(err)
	b[100] ^= 1
	w.put("data", key, b)
	w.fails(data.ErrUnsound, "data", "verify", url)
	w.fails(data.ErrUnsound, "data", "verify")
	w.put("data", data.PinFile, data.Pin{Manifest: pin.Manifest}.Encode())
	w.fails(data.ErrCorrupt, "data", "stat", url)
}
