package data

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

func TestPermutationIsABijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 3000).Draw(t, "n")
		p := newPermutation(derive("test", rapid.SliceOf(rapid.Byte()).Draw(t, "key")), n)
		seen := make([]bool, n)
		for i := range n {
			x := p.at(i)
			if x >= n || seen[x] {
				t.Fatalf("at(%d) = %d of %d: outside, or there twice", i, x, n)
			}
			seen[x] = true
		}
	})
}

func TestPermutationOfLargeDomain(t *testing.T) {
	for _, n := range []uint64{1<<20 + 1, 1<<33 - 1, 1 << 40} {
		p := newPermutation(derive("test"), n)
		seen := map[uint64]bool{}
		for i := range uint64(1000) {
			if x := p.at(n - 1 - i); x >= n || seen[x] {
				t.Fatalf("n %d: image %d outside or twice", n, x)
			} else {
				seen[x] = true
			}
		}
	}
}

// A sample's place in one window says nothing about its place in another: with 4096 samples about one stays where it was.
func TestPermutationIsRekeyed(t *testing.T) {
	d := toySet(t, 7)
	n := d.Samples(Train)
	for name, o := range map[string]permutation{"window": d.dealt([]byte("beacon"), 8), "beacon": d.dealt([]byte("beacoN"), 7)} {
		p, same, half := d.dealt([]byte("beacon"), 7), 0, 0
		for i := range n {
			if p.at(i) == o.at(i) {
				same++
			}
			if (p.at(i) < n/2) == (o.at(i) < n/2) {
				half++
			}
		}
		if same > 10 || half < int(n)*45/100 || half > int(n)*55/100 {
			t.Errorf("another %s: %d of %d stay, %d in the same half", name, same, n, half)
		}
	}
}

// Expected values from a second program in another language.
func TestAssignGolden(t *testing.T) {
	a, err := toySet(t, 128).Assign([]byte("beacon"), 3, 4, 1, 5)
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint64{153, 64, 88, 70, 139}; !slices.Equal(a.Samples, want) {
		t.Errorf("samples %v, want %v", a.Samples, want)
	}
	if want := "eac5a82f6b0801106b197b34ec638150717be00fdad006a5aeccb90cf33a30c3"; a.Digest.String() != want {
		t.Errorf("digest %s, want %s", a.Digest, want)
	}
}

func TestAssignIsDisjoint(t *testing.T) {
	d := toySet(t, 15)
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.IntRange(1, 60).Draw(t, "samples")
		ranks := rapid.IntRange(1, int(d.Samples(Train))/samples).Draw(t, "ranks")
		w := chain.Window(rapid.Uint64().Draw(t, "w"))
		beacon := rapid.SliceOf(rapid.Byte()).Draw(t, "beacon")
		owner := map[uint64]int{}
		digests := map[chain.Hash]bool{}
		for r := range ranks {
			a, err := d.Assign(beacon, w, ranks, r, samples)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Samples) != samples || digests[a.Digest] {
				t.Fatalf("rank %d: %d samples, digest seen before: %v", r, len(a.Samples), digests[a.Digest])
			}
			digests[a.Digest] = true
			for _, s := range a.Samples {
				if o, ok := owner[s]; ok || s >= d.Samples(Train) {
					t.Fatalf("rank %d got sample %d, owned by %d, of %d", r, s, o, d.Samples(Train))
				}
				owner[s] = r
			}
		}
		n := rapid.IntRange(1, 300).Draw(t, "n")
		free := d.Unassigned([]byte("later"), beacon, w, ranks, samples, n)
		if want := min(n, int(d.Samples(Train))-ranks*samples); len(free) != want {
			t.Fatalf("%d unassigned samples, want %d", len(free), want)
		}
		for _, s := range free {
			if o, ok := owner[s]; ok || s >= d.Samples(Train) {
				t.Fatalf("unassigned sample %d is owned by %d or drawn twice", s, o)
			}
			owner[s] = -1
		}
	})
}

func TestUnassignedDependsOnTheDraw(t *testing.T) {
	d := toySet(t, 15)
	a := d.Unassigned([]byte("a"), []byte("seed"), 1, 4, 10, 20)
	if again := d.Unassigned([]byte("a"), []byte("seed"), 1, 4, 10, 20); !slices.Equal(a, again) {
		t.Error("not a function of its arguments")
	}
	if b := d.Unassigned([]byte("b"), []byte("seed"), 1, 4, 10, 20); slices.Equal(a, b) {
		t.Error("another draw gives the same samples")
	}
	for _, bad := range [][]uint64{d.Unassigned(nil, nil, 0, 1<<40, 1<<10, 5), d.Unassigned(nil, nil, 0, 1, 1, 0)} {
		if len(bad) != 0 {
			t.Errorf("drew %v", bad)
		}
	}
}

// Who else takes part must not change what a rank was dealt, but it is bound by the digest.
func TestAssignBinds(t *testing.T) {
	d := toySet(t, 31)
	base, err := d.Assign([]byte("beacon"), 5, 4, 2, 8)
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]func() (Assignment, error){
		"beacon":  func() (Assignment, error) { return d.Assign([]byte("beacoN"), 5, 4, 2, 8) },
		"window":  func() (Assignment, error) { return d.Assign([]byte("beacon"), 6, 4, 2, 8) },
		"ranks":   func() (Assignment, error) { return d.Assign([]byte("beacon"), 5, 5, 2, 8) },
		"rank":    func() (Assignment, error) { return d.Assign([]byte("beacon"), 5, 4, 3, 8) },
		"samples": func() (Assignment, error) { return d.Assign([]byte("beacon"), 5, 4, 2, 9) },
	} {
		o, err := a()
		if err != nil || o.Digest == base.Digest {
			t.Errorf("another %s: same digest or error %v", name, err)
		}
		if name == "ranks" && !slices.Equal(o.Samples, base.Samples) {
			t.Error("another number of ranks deals other samples")
		}
	}
	for _, bad := range [][3]int{{0, 0, 1}, {2, 2, 1}, {2, -1, 1}, {2, 0, 0}} {
		if _, err := d.Assign(nil, 0, bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("assigned ranks, rank, samples %v", bad)
		}
	}
}

// The refusal names changes that work, and smaller ones do not.
func TestAssignRefusesAndAdvises(t *testing.T) {
	c := toyCorpus(36_000, 4_000)
	p := packed(t, c)
	d := open(t, p, p.Spec, "", 31)
	_, err := d.Assign(nil, 0, 50, 0, 40)
	if !errors.Is(err, ErrTooSmall) {
		t.Fatalf("%v, want ErrTooSmall", err)
	}
	m := regexp.MustCompile(`serves (\d+) miners, or (\d+) samples for each of 50, or needs (\d+) more tokens`).FindStringSubmatch(err.Error())
	if m == nil {
		t.Fatalf("no advice in %q", err)
	}
	miners, samples, more := number(t, m[1]), number(t, m[2]), number(t, m[3])
	for i, ok := range []bool{true, false} {
		bigger := packed(t, &Corpus{Train: append(slices.Clone(c.Train), toy("more", more-i)...), HeldOut: c.HeldOut})
		for name, try := range map[string]func() error{
			"miners":  func() error { _, err := d.Assign(nil, 0, miners+i, 0, 40); return err },
			"samples": func() error { _, err := d.Assign(nil, 0, 50, 0, samples+i); return err },
			"text":    func() error { _, err := open(t, bigger, bigger.Spec, "", 31).Assign(nil, 0, 50, 0, 40); return err },
		} {
			if err := try(); (err == nil) != ok {
				t.Errorf("advice on %s, %d off: %v", name, i, err)
			}
		}
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRank(t *testing.T) {
	s := &chain.Snapshot{Neurons: []chain.Neuron{{UID: 0, Hotkey: chain.Hotkey{9}}, {UID: 1, Hotkey: chain.Hotkey{1}, Permit: true},
		{UID: 2, Hotkey: chain.Hotkey{5}}, {UID: 3, Hotkey: chain.Hotkey{5, 1}}}}
	for _, c := range []struct {
		h    chain.Hotkey
		rank int
		ok   bool
	}{{chain.Hotkey{5}, 0, true}, {chain.Hotkey{5, 1}, 1, true}, {chain.Hotkey{9}, 2, true}, {chain.Hotkey{1}, 0, false}, {chain.Hotkey{7}, 0, false}} {
		rank, ranks, ok := Rank(s, c.h)
		if rank != c.rank || ranks != 3 || ok != c.ok {
			t.Errorf("Rank(%s) = %d, %d, %v", c.h.Short(), rank, ranks, ok)
		}
	}
}
