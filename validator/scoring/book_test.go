package scoring

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

func book(t testing.TB) *Book {
	t.Helper()
	b, err := OpenBook(filepath.Join(t.TempDir(), "book.json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hot(i byte) chain.Hotkey { return chain.Hotkey{i} }

// A rating moves by ema towards the window's gain over the typical one, between nothing and twice that.
func TestRecord(t *testing.T) {
	const ema = 0.25
	for name, c := range map[string]struct {
		before map[chain.Hotkey]float64
		marks  map[chain.Hotkey]Mark
		absent []chain.Hotkey
		want   map[chain.Hotkey]float64
	}{
		"typical":              {nil, map[chain.Hotkey]Mark{hot(1): {Gain: 0.01}}, nil, map[chain.Hotkey]float64{hot(1): 0.25}},
		"half and double":      {nil, map[chain.Hotkey]Mark{hot(1): {Gain: 0.5}, hot(2): {Gain: 1}, hot(3): {Gain: 2}}, nil, map[chain.Hotkey]float64{hot(1): 0.125, hot(2): 0.25, hot(3): 0.5}},
		"at most double":       {nil, map[chain.Hotkey]Mark{hot(1): {Gain: 1}, hot(2): {Gain: 1}, hot(3): {Gain: 1e300}}, nil, map[chain.Hotkey]float64{hot(1): 0.25, hot(2): 0.25, hot(3): 0.5}},
		"lower of two medians": {nil, map[chain.Hotkey]Mark{hot(1): {Gain: 1}, hot(2): {Gain: 2}}, nil, map[chain.Hotkey]float64{hot(1): 0.25, hot(2): 0.5}},
		"a loss is nothing":    {map[chain.Hotkey]float64{hot(1): 1}, map[chain.Hotkey]Mark{hot(1): {Gain: -5}, hot(2): {Gain: 1}}, nil, map[chain.Hotkey]float64{hot(1): 0.75, hot(2): 0.25}},
		"nobody gains":         {map[chain.Hotkey]float64{hot(1): 1}, map[chain.Hotkey]Mark{hot(1): {Gain: -5}}, nil, map[chain.Hotkey]float64{hot(1): 0.75}},
		"rejected":             {map[chain.Hotkey]float64{hot(1): 1}, map[chain.Hotkey]Mark{hot(1): {Gain: 9, Rejected: true}, hot(2): {Gain: 1}}, nil, map[chain.Hotkey]float64{hot(1): 0.75, hot(2): 0.25}},
		"absent sinks":         {map[chain.Hotkey]float64{hot(1): 1}, nil, []chain.Hotkey{hot(1)}, map[chain.Hotkey]float64{hot(1): 0.75}},
		"unscored keeps":       {map[chain.Hotkey]float64{hot(1): 1}, map[chain.Hotkey]Mark{hot(2): {Gain: 1}}, nil, map[chain.Hotkey]float64{hot(1): 1, hot(2): 0.25}},
		"a stranger absent":    {nil, nil, []chain.Hotkey{hot(1)}, map[chain.Hotkey]float64{}},
	} {
		t.Run(name, func(t *testing.T) {
			b := book(t)
			for h, r := range c.before {
				b.Entries[h] = Entry{Rating: r}
			}
			for range 2 { // the second time changes nothing: a restart judges a window again
				b.Record(3, c.marks, c.absent, ema)
			}
			got := map[chain.Hotkey]float64{}
			for h, e := range b.Entries {
				got[h] = e.Rating
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			b.Record(2, map[chain.Hotkey]Mark{hot(1): {Gain: 1}}, nil, ema) // an older window is over
			if b.Window != 3 || b.Entries[hot(1)].Rating != c.want[hot(1)] {
				t.Error("an older window was recorded")
			}
		})
	}
}

// Whatever is recorded, ratings stay finite and between 0 and maxRelative, and who gains more is rated no lower.
func TestRatingProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := &Book{Entries: map[chain.Hotkey]Entry{}, Window: chain.NoWindow}
		ema := rapid.Float64Range(0.01, 1).Draw(rt, "ema")
		for w := range chain.Window(rapid.IntRange(1, 12).Draw(rt, "windows")) {
			gain := rapid.Float64Range(-1e6, 1e6).Draw(rt, "gain")
			b.Record(w, map[chain.Hotkey]Mark{hot(1): {Gain: gain}, hot(2): {Gain: gain + rapid.Float64Range(0, 10).Draw(rt, "more")},
				hot(3): {Gain: 1, Rejected: true}, hot(4): {Gain: 0.5, Z: 2}}, nil, ema)
		}
		for h, e := range b.Entries {
			if !(e.Rating >= 0 && e.Rating <= maxRelative) || len(e.Z) > proofMemory {
				rt.Fatalf("%v has %+v", h, e)
			}
		}
		if b.Entries[hot(2)].Rating < b.Entries[hot(1)].Rating || b.Entries[hot(3)].Rating != 0 || len(b.Entries[hot(3)].Z) != 0 {
			rt.Fatalf("ratings %+v", b.Entries)
		}
	})
}

// Proof of work is judged against what others show, and only where that is clear.
func TestCheats(t *testing.T) {
	z := func(n int, v float64) Entry {
		e := Entry{}
		for range n {
			e.Z = append(e.Z, v)
		}
		return e
	}
	for name, c := range map[string]struct {
		entries []Entry
		want    []int
	}{
		"nobody":                {nil, nil},
		"too few to compare":    {[]Entry{z(4, 5), z(4, 0)}, nil},
		"one on other data":     {[]Entry{z(4, 5), z(4, 4), z(4, 6), z(4, 0)}, []int{3}},
		"a negative one":        {[]Entry{z(4, 5), z(4, 4), z(4, -6)}, []int{2}},
		"a weak one":            {[]Entry{z(4, 5), z(4, 5), z(4, 2.1)}, nil},
		"a newcomer":            {[]Entry{z(4, 5), z(4, 5), z(4, 5), z(2, 0)}, nil},
		"no gap to see at all":  {[]Entry{z(8, 0.5), z(8, 0.6), z(8, -3)}, nil},
		"all alike":             {[]Entry{z(8, 3), z(8, 3), z(8, 3)}, nil},
		"enough after 3 of 4":   {[]Entry{z(3, 5), z(3, 5), z(3, 5), z(3, 0)}, []int{3}},
		"most cheat, none said": {[]Entry{z(4, 0), z(4, 0), z(4, 5)}, nil},
	} {
		b := book(t)
		for i, e := range c.entries {
			b.Entries[hot(byte(i))] = e
		}
		want := map[chain.Hotkey]bool{}
		for _, i := range c.want {
			want[hot(byte(i))] = true
		}
		if got := b.Cheats(); len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: accused are %v, want %v", name, got, c.want)
		}
	}
	if p := z(4, 3).Proof(); math.Abs(p-6) > 1e-12 {
		t.Errorf("four windows of z 3 accumulate to %v, want 3·√4", p)
	}
	if p := (Entry{}).Proof(); p != 0 {
		t.Errorf("nothing accumulates to %v", p)
	}
}

// Weights belong to hotkeys, wherever they sit now: who took over a seat inherits nothing, who moved loses nothing.
func TestWeights(t *testing.T) {
	neuron := func(uid chain.UID, h chain.Hotkey, permit bool) chain.Neuron {
		return chain.Neuron{UID: uid, Hotkey: h, Permit: permit}
	}
	proven, unproven := []float64{9, 9, 9}, []float64{0, 0, 0}
	for name, c := range map[string]struct {
		entries map[chain.Hotkey]Entry
		seats   []chain.Neuron
		want    []chain.Weight
	}{
		"nobody rated":      {nil, []chain.Neuron{neuron(0, hot(1), false)}, nil},
		"the best is 65535": {map[chain.Hotkey]Entry{hot(1): {Rating: 0.5}, hot(2): {Rating: 1}}, []chain.Neuron{neuron(0, hot(1), false), neuron(1, hot(2), false)}, []chain.Weight{{UID: 0, Value: 32768}, {UID: 1, Value: 65535}}},
		"a recycled seat":   {map[chain.Hotkey]Entry{hot(1): {Rating: 1}, hot(2): {Rating: 1}}, []chain.Neuron{neuron(0, hot(9), false), neuron(5, hot(1), false)}, []chain.Weight{{UID: 5, Value: 65535}}},
		"a validator":       {map[chain.Hotkey]Entry{hot(1): {Rating: 1}, hot(2): {Rating: 2}}, []chain.Neuron{neuron(0, hot(1), false), neuron(1, hot(2), true)}, []chain.Weight{{UID: 0, Value: 65535}}},
		"too little":        {map[chain.Hotkey]Entry{hot(1): {Rating: 1e-9}}, []chain.Neuron{neuron(0, hot(1), false)}, nil},
		"far below":         {map[chain.Hotkey]Entry{hot(1): {Rating: 1e-6}, hot(2): {Rating: 1}}, []chain.Neuron{neuron(0, hot(1), false), neuron(1, hot(2), false)}, []chain.Weight{{UID: 1, Value: 65535}}},
		"without proof of work": {map[chain.Hotkey]Entry{hot(1): {Rating: 1, Z: proven}, hot(2): {Rating: 1, Z: proven}, hot(3): {Rating: 2, Z: unproven}},
			[]chain.Neuron{neuron(0, hot(1), false), neuron(1, hot(2), false), neuron(2, hot(3), false)}, []chain.Weight{{UID: 0, Value: 65535}, {UID: 1, Value: 65535}}},
	} {
		b := book(t)
		for h, e := range c.entries {
			b.Entries[h] = e
		}
		if got := b.Weights(&chain.Snapshot{Neurons: c.seats}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// Payloads are remembered with the first window that sent them, for keep windows, across a restart.
func TestRemember(t *testing.T) {
	b := book(t)
	p := chain.Hash{7}
	if _, ok := b.Sent(p, 5); ok {
		t.Error("an unknown payload was sent")
	}
	b.Remember(p, 5, 16)
	b.Remember(p, 6, 16)
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBook(b.path)
	if err != nil {
		t.Fatal(err)
	}
	for w, want := range map[chain.Window]bool{4: false, 5: false, 6: true, 21: true} { // window 5 judged again finds its own
		if before, ok := b.Sent(p, w); ok != want || ok && before != 5 {
			t.Errorf("in window %d: sent before %v in %d", w, ok, before)
		}
	}
	b.Remember(chain.Hash{8}, 21, 16)
	if _, ok := b.Sent(p, 21); !ok {
		t.Error("forgotten after 16 windows")
	}
	b.Remember(chain.Hash{8}, 22, 16)
	if _, ok := b.Sent(p, 22); ok {
		t.Error("remembered after 17 windows")
	}
}

func TestBookFile(t *testing.T) {
	b := book(t)
	b.Record(4, map[chain.Hotkey]Mark{hot(1): {Gain: 1, Z: 2.5}}, nil, 0.25)
	b.Weighed = 99
	b.Remember(chain.Hash{1}, 4, 16)
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	if again, err := OpenBook(b.path); err != nil || !reflect.DeepEqual(again, b) {
		t.Errorf("got %+v, %v", again, err)
	}
	if _, err := os.Stat("/dev/full"); err == nil {
		if err := os.Symlink("/dev/full", b.path+".tmp"); err != nil {
			t.Fatal(err)
		}
		b.Weighed = 100
		if err := b.Save(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("on a full disk: %v", err)
		}
		if again, err := OpenBook(b.path); err != nil || again.Weighed != 99 {
			t.Errorf("after a full disk: %+v, %v", again, err)
		}
	}
	for name, content := range map[string]string{"cut": `{"entries":{"0`, "empty": ``, "no entries": `{}`, "another thing": `[]`} {
		if err := os.WriteFile(b.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := OpenBook(b.path)
		if err != nil || got.Window != chain.NoWindow || len(got.Entries) != 0 || got.Seen == nil {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		if kept, err := os.ReadFile(b.path + ".damaged"); err != nil || string(kept) != content {
			t.Errorf("%s: not set aside: %q, %v", name, kept, err)
		}
		if err := got.Damaged(); err == nil || !strings.Contains(err.Error(), b.path+".damaged") {
			t.Errorf("%s: nobody is told: %v", name, err)
		}
	}
	if err := os.WriteFile(b.path, []byte(`{"entries":{},"window":3}`), 0o600); err != nil { // of the version before
		t.Fatal(err)
	}
	if got, err := OpenBook(b.path); err != nil || got.Window != 3 || got.Seen == nil || got.Damaged() != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := OpenBook(t.TempDir()); err == nil {
		t.Error("a folder was read as a book")
	}
}

// Hotkeys without a seat are forgotten once they have not been seen for a while; with one they never are.
func TestForget(t *testing.T) {
	b := book(t)
	b.Entries = map[chain.Hotkey]Entry{hot(1): {Last: 2}, hot(2): {Last: 9}, hot(3): {Last: 2}}
	b.Forget(&chain.Snapshot{Neurons: []chain.Neuron{{Hotkey: hot(3)}}}, 5)
	if _, gone := b.Entries[hot(1)]; gone || len(b.Entries) != 2 {
		t.Errorf("left are %v", b.Entries)
	}
}
