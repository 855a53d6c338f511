package standin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"sn3/model/gpu/dl"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/kernels/source"
)

//go:embed src
var own embed.FS

// flags are those of g++: no contraction, so that mul and add round as on the card.
var flags = []string{"-std=c++20", "-O2", "-ftree-vectorize", "-g1", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"}

// Library returns the path of the stand-in with the kernels of the named files, all without a name. It is built once for the same
// sources and kept in the user's cache. Without g++ the test is skipped. Where tests run on a card (Real) it is the driver.
func Library(t testing.TB, files ...string) string {
	t.Helper()
	if Real() {
		return realPath()
	}
	return library(t, files, "")
}

// library is Library with the kernels of one more text.
func library(t testing.TB, files []string, text string) string {
	t.Helper()
	if !dl.Supported {
		t.Skip("the stand-in for the GPU is for Linux, and for programs that can open libraries")
	}
	gxx, err := exec.LookPath("g++")
	if err != nil {
		t.Skip("there is no g++: the stand-in for the GPU cannot be built")
	}
	sources, err := gather(files, text)
	if err != nil {
		t.Fatal(err)
	}
	lib, err := build(gxx, sources)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// gather is what the build reads, by file name. A text, if there is one, stands for all files but those that are named.
func gather(files []string, text string) (map[string][]byte, error) {
	out := map[string][]byte{"text.cu": []byte(text)}
	src, err := fs.Sub(own, "src")
	if err != nil {
		return nil, err
	}
	for _, from := range []fs.FS{src, kernels.Sources} {
		list, err := fs.Glob(from, "*")
		if err != nil {
			return nil, err
		}
		for _, name := range list {
			if out[name], err = fs.ReadFile(from, name); err != nil {
				return nil, err
			}
		}
	}
	if len(files) == 0 && text == "" {
		for name := range out {
			if path.Ext(name) == ".cu" && name != "all.cu" && name != "text.cu" {
				files = append(files, name)
			}
		}
	}
	sort.Strings(files)
	if text != "" {
		files = append(files, "text.cu")
	}
	maps.DeleteFunc(out, func(name string, _ []byte) bool { // a change of what is not built in builds nothing anew
		return path.Ext(name) == ".cu" && !slices.Contains(files, name)
	})
	var all, table strings.Builder
	for _, f := range files {
		list, err := source.Parse(string(out[f]))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		fmt.Fprintf(&all, "#include %q\n", f)
		table.WriteString(source.Table(list))
	}
	out["all.cu"], out["table.inc"] = []byte(all.String()), []byte(table.String())
	return out, nil
}

// keep is how long a build that nobody uses stays in the cache.
const keep = 7 * 24 * time.Hour

// prune removes what is in the cache from before a time: libraries, and folders of builds that were killed.
func prune(cache string, before time.Time) error {
	list, err := os.ReadDir(cache)
	if err != nil {
		return fmt.Errorf("read the cache folder: %w", err)
	}
	for _, e := range list {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // another process was faster
			continue
		}
		if err == nil && info.ModTime().Before(before) {
			err = os.RemoveAll(filepath.Join(cache, e.Name()))
		}
		if err != nil {
			return fmt.Errorf("clear the cache folder: %w", err)
		}
	}
	return nil
}

// build compiles the sources, unless the cache has the result. Two processes may do it at once; the last rename wins.
func build(gxx string, sources map[string][]byte) (string, error) {
	version, err := exec.Command(gxx, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask g++ for its version: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n", version, flags)
	names := make([]string, 0, len(sources))
	for name := range sources {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(h, "%s %d\n", name, len(sources[name]))
		h.Write(sources[name])
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder: %w", err)
	}
	cache = filepath.Join(cache, "sn3-standin")
	lib := filepath.Join(cache, hex.EncodeToString(h.Sum(nil)[:12])+".so")
	now := time.Now()
	if err := os.Chtimes(lib, now, now); err == nil { // it is there, and in use
		return lib, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	if err := prune(cache, now.Add(-keep)); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return "", fmt.Errorf("make a folder to build in: %w", err)
	}
	defer os.RemoveAll(dir)
	for name, text := range sources {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	c := exec.Command(gxx, append(append([]string{}, flags...), "-I.", "-o", "out.so", "standin.cpp")...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the stand-in: %w\n%s", err, out)
	}
	return lib, os.Rename(filepath.Join(dir, "out.so"), lib)
}
