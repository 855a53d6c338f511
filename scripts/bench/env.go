package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed peers/*.py
var scripts embed.FS

// python is a Python environment with torch, and a folder for everything that it writes.
type python struct {
	dir  string // of scripts, caches, models
	bin  string // its interpreter
	shim string // library that lets MKL use its best code on AMD; "" where there is none
	why  string // why not
}

// The CPU build of torch, and what the builds need on disk while they are installed.
const (
	cpuIndex  = "https://download.pytorch.org/whl/cpu"
	cpuBytes  = 2 << 30
	cudaBytes = 9 << 30
)

// errPython: there is no Python environment to compare with; the text says what to do.
var errPython = errors.New("no torch to compare with")

// newPython makes an environment in dir/env, or uses the one at env: made there if it does not exist.
func (b *bench) newPython(dir, env string) (*python, error) {
	p := &python{dir: dir}
	if env == "" {
		env = filepath.Join(dir, "env")
	}
	env, err := filepath.Abs(env) // scripts run elsewhere
	if err != nil {
		return nil, fmt.Errorf("find the environment: %w", err)
	}
	p.bin = filepath.Join(env, "bin", "python")
	if err := p.unpack(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(p.bin); errors.Is(err, os.ErrNotExist) {
		if err := b.install(env, p); err != nil {
			return nil, err
		}
	}
	if out, err := p.run(b.ctx, p.bin, "-c", "import torch"); err != nil {
		return nil, fmt.Errorf("%w: %s cannot import torch: %w: %s", errPython, p.bin, err, out)
	}
	p.shim, p.why = buildShim(b.ctx, dir)
	return p, nil
}

// unpack writes the scripts.
func (p *python) unpack() error {
	files, err := scripts.ReadDir("peers")
	if err != nil {
		return fmt.Errorf("unpack scripts: %w", err)
	}
	for _, f := range files {
		raw, err := scripts.ReadFile("peers/" + f.Name())
		if err != nil {
			return fmt.Errorf("unpack scripts: %w", err)
		}
		if err := os.WriteFile(filepath.Join(p.dir, f.Name()), raw, 0o600); err != nil {
			return fmt.Errorf("unpack scripts (is the disk full?): %w", err)
		}
	}
	return nil
}

// install makes the environment and installs torch from the CPU index if that can be reached, else from where pip looks.
func (b *bench) install(env string, p *python) error {
	system, err := exec.LookPath(b.flags.String("python"))
	if err != nil {
		return fmt.Errorf("%w: no %s on the PATH; install Python 3 or give --python", errPython, b.flags.String("python"))
	}
	index, need := b.flags.String("index"), int64(cudaBytes)
	if index == "" && reachable(b.ctx, cpuIndex+"/torch/") {
		index = cpuIndex
	}
	if index == cpuIndex {
		need = cpuBytes
	}
	if free, ok := freeBytes(p.dir); ok && free < need {
		return fmt.Errorf("%w: installing it takes %d GB in %s, %d are free; set TMPDIR to a larger disk", errPython, need>>30, p.dir, free>>30)
	}
	b.say("installing torch (a few minutes, up to %d GB, %s)", need>>30, map[bool]string{true: "removed at the end", false: "kept in " + env}[b.flags.String("env") == "" && !b.flags.Bool("keep")])
	if out, err := p.run(b.ctx, system, "-m", "venv", env); err != nil {
		return fmt.Errorf("%w: make an environment (Debian has that in python3-venv): %w: %s", errPython, err, out)
	}
	args := []string{"-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir", "--disable-pip-version-check", "torch"}
	if index != "" {
		args = append(args, "--index-url", index)
	}
	if out, err := p.run(b.ctx, p.bin, args...); err != nil {
		return fmt.Errorf("%w: install it (is there a network, or a mirror to name with --index or PIP_INDEX_URL?): %w: %s", errPython, err, out)
	}
	return nil
}

// run runs a program with the environment's surroundings and returns the last line it said.
func (p *python) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.caches()...)
	killWhole(cmd)
	out, err := cmd.CombinedOutput()
	return lastLine(out), err
}

// caches keep what torch and pip write below our folder.
func (p *python) caches() []string {
	return []string{"TMPDIR=" + p.dir, "XDG_CACHE_HOME=" + filepath.Join(p.dir, "cache"), "TORCHINDUCTOR_CACHE_DIR=" + filepath.Join(p.dir, "inductor"),
		"TORCHINDUCTOR_COMPILE_THREADS=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONNOUSERSITE=1"}
}

// tuned are the settings that made torch fastest where we tried (LOG.md): memory that is given back and asked for again costs
// faults, huge pages spare address translation, and MKL must be told to use its best code.
func (p *python) tuned(threads int) []string {
	env := append(p.stock(threads), "MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=17179869184", "MALLOC_TOP_PAD_=268435456", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1")
	if p.shim != "" {
		env = append(env, "LD_PRELOAD="+p.shim)
	}
	return env
}

// stock is torch as it is installed, on so many threads.
func (p *python) stock(threads int) []string {
	return append(p.caches(), fmt.Sprintf("OMP_NUM_THREADS=%d", threads), fmt.Sprintf("MKL_NUM_THREADS=%d", threads))
}

// buildShim compiles two functions that MKL asks whether it runs on Intel's processors: without them it takes its AVX2 code on AMD,
// at less than half of the speed.
func buildShim(ctx context.Context, dir string) (file, why string) {
	if vendor := procFile("/proc/cpuinfo")["vendor_id"]; vendor != "AuthenticAMD" {
		return "", "only AMD processors need it"
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		return "", "there is no cc to compile it with"
	}
	source := filepath.Join(dir, "shim.c")
	if err := os.WriteFile(source, []byte("int mkl_serv_intel_cpu_true(void){return 1;}\nint mkl_serv_intel_cpu(void){return 1;}\n"), 0o600); err != nil {
		return "", err.Error()
	}
	file = filepath.Join(dir, "shim.so")
	if out, err := exec.CommandContext(ctx, cc, "-O2", "-shared", "-fPIC", "-o", file, source).CombinedOutput(); err != nil {
		return "", "cc failed: " + lastLine(out)
	}
	return file, ""
}

// reachable asks for a page's head.
func reachable(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return false
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return fmt.Sprintf("%.300s", lines[len(lines)-1])
}
