package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func shell(t *testing.T, script string) (*worker, error) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no sh")
	}
	return start(t.Context(), nil, "sh", "-c", script)
}

// A worker that does not keep the protocol is an error that says what it said.
func TestWorkerFails(t *testing.T) {
	for script, want := range map[string]string{
		"echo why >&2; exit 3":        "why",
		"echo nonsense":               "nonsense",
		`echo '{"error":"no torch"}'`: "no torch",
		"exit 0":                      "without an answer",
	} {
		if w, err := shell(t, script); w != nil || !errors.Is(err, errWorker) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	for script, want := range map[string]string{
		"echo dies >&2":               "dies",
		`echo '{"error":"too much"}'`: "too much",
		`echo '{"seconds":0}'`:        "worker failed",
	} {
		w, err := shell(t, `echo '{"what":"x"}'; read line; `+script)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.ask(t.Context(), 1); !errors.Is(err, errWorker) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
		if err := w.close(); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	}
	if _, err := start(t.Context(), nil, filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Error("a program that does not exist was started")
	}
}

// Of a Go program that fell over the first lines are told, however long its account is.
func TestWorkerFallsOver(t *testing.T) {
	for _, first := range []string{"panic: oh dear", "fatal error: oh dear"} {
		w, err := shell(t, "{ echo before; echo '"+first+"'; echo; echo 'goroutine 7 [running]:'; for i in `seq 2000`; do echo \"frame $i\"; done; echo 'created by somebody'; } >&2; exit 2")
		if w != nil || !errors.Is(err, errWorker) || !strings.Contains(err.Error(), first+" |  | goroutine 7 [running]: | frame 1 |") || strings.Contains(err.Error(), "created by") {
			t.Errorf("%s: %v", first, err)
		}
	}
	var x tail // however it comes
	for _, c := range "warning\npanic: no\n\tat 1\n" {
		if _, err := x.Write([]byte(string(c))); err != nil {
			t.Fatal(err)
		}
	}
	if got := x.String(); got != "panic: no | \tat 1" {
		t.Errorf("%q", got)
	}
}

// A cancelled run ends a worker that is busy, and says so.
func TestWorkerIsCancelled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no sh")
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stop")
	w, err := start(ctx, nil, "sh", "-c", `echo '{"what":"x"}'; exec cat >/dev/null`)
	if err != nil {
		t.Fatal(err)
	}
	cancel(stop)
	if _, err := w.ask(ctx, 1); err == nil {
		t.Error("a killed worker answered")
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}

// The contenders take turns, each as often as the other, with as many turns a round as were asked for.
func TestInterleave(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	answer := func(name string) string {
		return `echo '{"what":"x"}'; while read line; do echo "` + name + ` $line" >>` + log + `; echo '{"seconds":0.5,"work":6,"memory":7,"allocs":8}'; done`
	}
	var cs []*contender
	for _, name := range []string{"a", "b"} {
		w, err := shell(t, answer(name))
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		cs = append(cs, &contender{by: name, w: w, turns: map[string]int{"a": 4, "b": 0}[name]})
	}
	if err := interleave(t.Context(), 3, 0, cs); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(strings.NewReplacer(`{"n":1}`, "1", `{"n":4}`, "4").Replace(string(raw))), "b 1 a 4 b 1 b 1 a 4 a 4 b 1"; strings.Join(got, " ") != want {
		t.Errorf("turns %q, want %q", got, want)
	}
	if r := cs[0].row("x", "tokens/s", 2); r.Median != 12 || r.Rounds != 3 || r.Memory != 7 || r.Allocs == nil || *r.Allocs != 2 {
		t.Errorf("%+v", r)
	}
	if r := cs[0].row("x", "ms", 2); r.Median != 125 {
		t.Errorf("%+v", r)
	}
}

// The Python side of the protocol, with work that needs no torch; the scripts at least compile.
func TestPythonServes(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3: the scripts of peers are not tested")
	}
	p := &python3{python: python, dir: t.TempDir()}
	p.write(t, "ok.py", "from serve import serve\nprint('a library talks')\nserve(lambda: ({'what': 'x', 'losses': [1.5]}, 3, lambda: None))\n")
	p.write(t, "bad.py", "from serve import serve\nserve(lambda: 1 / 0)\n")
	w, err := start(t.Context(), nil, python, filepath.Join(p.dir, "ok.py"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.ask(t.Context(), 5)
	if err != nil || r.Work != 15 || len(w.ready.Losses) != 1 {
		t.Errorf("%+v, %+v, %v", w.ready, r, err)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
	if _, err := start(t.Context(), nil, python, filepath.Join(p.dir, "bad.py")); !errors.Is(err, errWorker) || !strings.Contains(err.Error(), "ZeroDivisionError") {
		t.Errorf("%v", err)
	}
	for _, f := range []string{"llama.py", "matmul.py", "codec.py"} {
		if out, err := exec.Command(python, "-m", "py_compile", filepath.Join(p.dir, f)).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", f, out)
		}
	}
}

// python3 is a folder of scripts and what runs them.
type python3 struct{ python, dir string }

func (p *python3) write(t *testing.T, name, text string) {
	t.Helper()
	if err := (&python{dir: p.dir}).unpack(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
