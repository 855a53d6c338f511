package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/model/data"
)

// errKilled stands for kill -9: nothing is done after it.
var errKilled = errors.New("killed")

// dies returns a fault that ends a life at step number n, and counts steps.
func dies(n int, steps *[]string) func(string) error {
	return func(step string) error {
		if *steps = append(*steps, step); len(*steps) == n {
			return errKilled
		}
		return nil
	}
}

// A job that dies at any step, and again at the next, and so on, ends with the bytes of one that never died.
func TestKilledAtEveryStep(t *testing.T) {
	docs := texts("kill", 40, 5000)
	files := map[string][]byte{"a.jsonl": asLines(docs[:20]), "b.jsonl.gz": gzipped(t, asLines(append(docs[10:30:30], "", "\xff"))), "c.parquet": asParquet(t, docs[25:])}
	in := folder(t, files)
	job := func() Options {
		return Options{Inputs: []string{in}, Tokenizer: wide{}, HeldOut: 4, Workers: 2, MaxBad: 5, every: 1, pages: 4, batch: 35_000}
	}
	whole := filepath.Join(t.TempDir(), "whole")
	o, steps := job(), []string{}
	o.fault = dies(0, &steps)
	want := run(t, whole, o)
	all := tree(t, whole)
	for _, s := range []string{"opened", "object", "hashes", "open tokens", "half a line", "a line", "checkpoint", "pin"} {
		if !slices.Contains(steps, s) {
			t.Fatalf("no step %q in %v", s, steps)
		}
	}
	for n := 1; n <= len(steps); n++ {
		out := filepath.Join(t.TempDir(), "out")
		lives := 0
		for at := n; ; lives++ {
			o, passed := job(), []string{}
			o.fault = dies(at, &passed)
			res, err := Run(context.Background(), out, o)
			if err == nil {
				if res.Spec.Manifest != want.Spec.Manifest || res.Spec.Root != want.Spec.Root || res.Source != want.Source {
					t.Errorf("killed at step %d: %+v, want %+v", n, res, want)
				}
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatalf("killed at step %d (%s), life %d: %v", n, steps[n-1], lives, err)
			}
			if lives == 1 {
				at = 0 // the third life lives
			}
		}
		if lives == 0 {
			t.Errorf("step %d did not kill", n)
		}
		if got := tree(t, out); !maps.Equal(got, all) {
			t.Errorf("killed at step %d (%s): %d files, want %d", n, steps[n-1], len(got), len(all))
		}
	}
}

// A job ended by its context goes on too; it does not begin anew.
func TestInterrupted(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("stop", 200, 9000))})
	out := filepath.Join(t.TempDir(), "out")
	ctx, stop := context.WithCancel(context.Background())
	o := Options{Inputs: []string{in}, Tokenizer: byBytes(t), every: 1, batch: 30_000, Progress: func(p Progress) {
		if p.Source.Documents[0] > 50 {
			stop()
		}
	}}
	if _, err := Run(ctx, out, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	first := -1
	o.Progress = func(p Progress) {
		if first < 0 {
			first = int(p.Source.Documents[0])
		}
	}
	if res := run(t, out, o); !res.Resumed || first <= 50 {
		t.Errorf("resumed %v, the first progress had %d documents", res.Resumed, first)
	}
	if res := run(t, out, o); !res.Done || res.Source.Documents[0]+res.Source.Documents[1] != 200 {
		t.Errorf("once more: %+v", res)
	}
	o.HeldOut = 7
	if _, err := Run(context.Background(), out, o); !errors.Is(err, ErrDone) {
		t.Errorf("another job in a finished folder: %v", err)
	}
}

// A life that dies while it cleans up has nothing left to do in the next, whatever of its notes is gone.
func TestKilledCleaningUp(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("clean", 30, 900))})
	for _, gone := range []string{"hashes", "open-0-0", "journal", ""} {
		out := filepath.Join(t.TempDir(), "out")
		o := Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 3}
		o.fault = func(step string) error {
			if step != "pin" {
				return nil
			}
			if gone == "" { // all but the folder
				return errors.Join(os.RemoveAll(filepath.Join(out, workFolder)), os.Mkdir(filepath.Join(out, workFolder), 0o755), errKilled)
			}
			return errors.Join(os.Remove(filepath.Join(out, workFolder, gone)), errKilled)
		}
		if _, err := Run(context.Background(), out, o); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		o.fault, o.Progress = nil, func(Progress) { t.Errorf("without %q: it begins anew", gone) }
		if res := run(t, out, o); !res.Done || res.Source.Documents[0] == 0 || exists(filepath.Join(out, workFolder)) {
			t.Errorf("without %q: %+v", gone, res)
		}
	}
}

// Who waits at the door while another ends its job finds that out, and neither packs again nor into the wrong folder.
func TestLockOfTheDead(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("door", 30, 900))})
	first := Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 3}
	other := first
	other.HeldOut = 4
	for name, c := range map[string]struct {
		o    Options
		at   string // where the second is when the first does all its work
		next bool   // and a third begins
		want error
	}{
		"same, journal open": {first, "opened", false, ErrLocked},
		"same, and a third":  {first, "opened", true, ErrLocked},
		"same, before it":    {first, "start", false, nil},
		"other, before it":   {other, "start", false, ErrDone},
	} {
		out, o := filepath.Join(t.TempDir(), "out"), c.o
		o.fault = func(step string) error {
			if step == c.at {
				run(t, out, first)
			}
			if step == c.at && c.next {
				check(t, os.Mkdir(filepath.Join(out, workFolder), 0o755))
				check(t, os.WriteFile(filepath.Join(out, workFolder, "journal"), nil, 0o644))
			}
			return nil
		}
		_, err := Run(context.Background(), out, o)
		if !errors.Is(err, c.want) || exists(filepath.Join(out, workFolder)) != c.next {
			t.Errorf("%s: %v, want %v; a working folder: %v", name, err, c.want, exists(filepath.Join(out, workFolder)))
		}
		if res := run(t, out, first); !res.Done {
			t.Errorf("%s: what the first made is gone", name)
		}
	}
}

// What a crash left behind the counted bytes is gone before anything is written; what lacks some of them is damaged.
func TestOpenAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	check(t, os.WriteFile(path, []byte("counted and more"), 0o600))
	f, err := openAt(path, 7)
	check(t, err)
	_, err = f.Write([]byte("!"))
	check(t, errors.Join(err, f.Close()))
	if b, err := os.ReadFile(path); err != nil || string(b) != "counted!" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := openAt(path, 9); !errors.Is(err, ErrJournal) {
		t.Errorf("too short: %v", err)
	}
}

// Another job does not go on with the work of this one; nor does this one if an input changed, or if its notes are damaged.
func TestResumeRefuses(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("other", 100, 9000))})
	base := Options{Inputs: []string{in}, Tokenizer: byBytes(t), every: 1, batch: 30_000}
	for name, c := range map[string]struct {
		change func(o *Options, work string)
		want   error
	}{
		"held-out":  {func(o *Options, _ string) { o.HeldOut = 9 }, ErrOtherJob},
		"licence":   {func(o *Options, _ string) { o.Licence = "MIT" }, ErrOtherJob},
		"tokenizer": {func(o *Options, _ string) { o.Tokenizer = wide{} }, ErrOtherJob},
		"input": {func(o *Options, _ string) {
			o.Inputs = []string{folder(t, map[string][]byte{"a.jsonl": asLines(texts("other", 100, 9000))})}
		}, ErrOtherJob}, // same names and sizes, another time of change
		"hashes short":   {func(_ *Options, w string) { check(t, os.Truncate(filepath.Join(w, "hashes"), 5)) }, ErrJournal},
		"read otherwise": {func(o *Options, _ string) { o.AsText = []string{".jsonl"} }, ErrOtherJob}, // the same names and sizes
		"tokens gone":    {func(_ *Options, w string) { check(t, os.Remove(filepath.Join(w, "open-0-0"))) }, ErrJournal},
		"journal flipped": {func(_ *Options, w string) {
			b, err := os.ReadFile(filepath.Join(w, "journal"))
			check(t, err)
			b[bytes.IndexByte(b, '\n')+30] ^= 1
			check(t, os.WriteFile(filepath.Join(w, "journal"), b, 0o644))
		}, ErrJournal},
		"locked": {func(_ *Options, w string) {
			s := &store{dir: filepath.Dir(w), fault: func(string) error { return nil }}
			if _, err := s.start(header{}); !errors.Is(err, ErrOtherJob) {
				t.Fatal(err) // it holds the lock all the same
			}
			t.Cleanup(func() { check(t, s.close()) })
		}, ErrLocked},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			o, steps := base, []string{}
			o.fault = dies(20, &steps)
			if _, err := Run(context.Background(), out, o); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			o = base
			c.change(&o, filepath.Join(out, workFolder))
			if _, err := Run(context.Background(), out, o); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Bad documents that were allowed for before count in the next life too.
func TestResumeCountsBad(t *testing.T) {
	docs := asLines(texts("bad", 60, 9000))
	in := folder(t, map[string][]byte{"a.jsonl": append([]byte("{\n{\n"), docs...)})
	out := filepath.Join(t.TempDir(), "out")
	o, steps := Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 3, every: 1, batch: 30_000, MaxBad: 2}, []string{}
	o.fault = dies(14, &steps)
	if _, err := Run(context.Background(), out, o); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	o.fault, o.MaxBad = nil, 1
	if _, err := Run(context.Background(), out, o); !errors.Is(err, ErrBad) {
		t.Errorf("fewer are allowed now: %v", err)
	}
	o.MaxBad = 3
	if res := run(t, out, o); res.Source.Bad != 2 || !res.Resumed {
		t.Errorf("%+v", res)
	}
}

// journal is a journal with n records.
func journal(t rapid.TB, n int) []byte {
	b, err := line(header{"job", "stamp"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r := record{At: position{i, uint64(i)}, Seen: int64(i), Source: data.Source{Name: "ü\n"}}
		r.Shards[0] = []data.Shard{{Tokens: uint32(i), Root: chain.Hash{byte(i)}}}
		l, err := line(r)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, l...)
	}
	return b
}

// Cut anywhere, with any bytes of a torn write behind, a journal yields the whole records that stand before the cut.
func TestJournalTorn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := journal(t, rapid.IntRange(0, 5).Draw(t, "records"))
		cut := rapid.IntRange(0, len(b)).Draw(t, "cut")
		torn := append(slices.Clone(b[:cut]), rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "torn")...)
		want := strings.Count(string(b[:cut]), "\n") - 1
		_, records, size, ok, err := parseJournal(torn)
		if err != nil || ok != (want >= 0) || len(records) != max(want, 0) || size != bytes.LastIndexByte(b[:cut], '\n')+1 {
			t.Fatalf("%d records, %d bytes, %v, %v; want %d", len(records), size, ok, err, want)
		}
	})
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(nil))
	for n := range 3 {
		b := journal(f, n)
		f.Add(b)
		f.Add(b[:len(b)-3])
		b[20] ^= 1
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, records, size, ok, err := parseJournal(b)
		if err != nil {
			if !errors.Is(err, ErrJournal) {
				t.Fatal(err)
			}
			return
		}
		h2, again, size2, ok2, err := parseJournal(b[:size])
		if err != nil || h2 != h || len(again) != len(records) || size2 != size || ok2 != ok {
			t.Fatalf("what was read reads otherwise: %d and %d records, %v", len(records), len(again), err)
		}
	})
}

func ExampleKinds() {
	fmt.Println(Kinds())
	// Output: .jsonl, .ndjson, .parquet, .txt
}
