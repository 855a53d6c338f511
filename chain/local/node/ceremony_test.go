package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/dkg/dkgtest"
	"sn3/chain/local/ceremony"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// guild are n nodes in a ceremony, and a folder that holds the draft.
type guild struct {
	*testing.T
	homes  []string
	folder string
}

func assemble(t *testing.T, n int) *guild {
	t.Helper()
	g, _, err := localtest.Genesis(100)
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey = nil
	c := &guild{T: t, folder: filepath.Join(t.TempDir(), "ceremony")}
	var lines []local.Candidate
	for i := range n {
		c.homes = append(c.homes, filepath.Join(t.TempDir(), "chain"))
		if i == 0 {
			continue
		}
		line, err := Keys(c.homes[i], g.Network)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if _, err := FoundDraft(c.homes[0], c.folder, g, lines); err != nil {
		t.Fatal(err)
	}
	return c
}

// copied is another folder with what is in the guild's.
func (c *guild) copied() string {
	c.Helper()
	to := filepath.Join(c.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(c.folder)); err != nil {
		c.Fatal(err)
	}
	return to
}

func (c *guild) step(who int, folder string) *Ceremony {
	c.Helper()
	x, err := TakePart(c.homes[who], folder)
	if err != nil {
		c.Fatalf("member %d: %v", who, err)
	}
	return x
}

// fails checks that a step goes no further, for a reason, and writes no genesis.
func (c *guild) fails(who int, folder, why string) {
	c.Helper()
	if _, err := TakePart(c.homes[who], folder); !errors.Is(err, ErrCeremony) || !strings.Contains(err.Error(), why) {
		c.Errorf("want %q: %v", why, err)
	}
	if !missing(filepath.Join(folder, madeFile)) {
		c.Errorf("%q, and yet there is a genesis", why)
	}
}

// misdeal puts a dealing with a bad share for another member into a folder.
func (c *guild) misdeal(who, victim int, folder string) {
	c.Helper()
	g, err := readDraft(folder)
	if err != nil {
		c.Fatal(err)
	}
	x, err := ceremony.Draft(g)
	if err != nil {
		c.Fatal(err)
	}
	var m [2]*dkg.Member
	for i, j := range []int{who, victim} {
		if m[i], err = readMember(c.homes[j]); err != nil {
			c.Fatal(err)
		}
	}
	at, err := x.Index(m[1])
	if err != nil {
		c.Fatal(err)
	}
	d, err := dkgtest.Misdeal(x.Session(), m[0], at, [32]byte{1})
	if err != nil {
		c.Fatal(err)
	}
	c.put(folder, "bad", append([]byte("sn3deal1"), d.Encode()...))
}

func (c *guild) put(folder, name string, raw []byte) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), raw, 0o600); err != nil {
		c.Fatal(err)
	}
}

func (c *guild) drop(folder, pattern string) {
	c.Helper()
	list, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil || len(list) == 0 {
		c.Fatalf("no %s: %v", pattern, err)
	}
	for _, f := range list {
		if err := os.Remove(f); err != nil {
			c.Fatal(err)
		}
	}
}

// Members that share one folder come to one genesis, each with its share; the node begins with it, and has it made again after
// it was lost, whether the node's folder is made by then or not.
func TestTakePart(t *testing.T) {
	t.Parallel()
	c := assemble(t, 3)
	for _, want := range []struct{ dealt, answered int }{{3, 1}, {3, 3}} {
		var last *Ceremony
		for i := range c.homes {
			last = c.step(i, c.folder)
		}
		dealt, answered := 0, 0
		for _, m := range last.Members {
			if m.Dealt {
				dealt++
			}
			if m.Answered {
				answered++
			}
		}
		if dealt != want.dealt || answered != want.answered {
			t.Errorf("%d have dealt, %d answered; want %+v", dealt, answered, want)
		}
	}
	g := c.genesis()
	for i, home := range c.homes {
		if i == 0 { // the others' second steps found all answers there
			if err := CheckShare(home, g); !errors.Is(err, ErrShare) {
				t.Errorf("member %d before its share: %v", i, err)
			}
		}
		if x := c.step(i, c.folder); !x.Made || x.Genesis == (chain.Hash{}) {
			t.Errorf("member %d: %+v", i, x)
		}
		share := filepath.Join(home, sharesDir, "0")
		lose := func() {
			t.Helper()
			info, err := os.Stat(share)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v, %v", info, err)
			}
			before, err := os.ReadFile(share)
			if err = errors.Join(err, CheckShare(home, g), os.Remove(share)); err != nil {
				t.Fatal(err)
			}
			if err := CheckShare(home, g); !errors.Is(err, ErrShare) || !strings.Contains(err.Error(), "chaind ceremony") {
				t.Errorf("without a share: %v", err)
			}
			c.step(i, c.folder)
			if after, err := os.ReadFile(share); err != nil || string(after) != string(before) {
				t.Errorf("another share: %v", err)
			}
		}
		lose()
		if err := Init(home, c.genesis(), DefaultNet()); err != nil {
			t.Fatal(err)
		}
		lose()
		n := opened(t, home)
		if !n.app.signer.signs(n.BeaconKeys(), 1) || !n.Status().Beacon {
			t.Error("the node does not sign")
		}
		if err := n.app.close(); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(filepath.Join(c.homes[1], memberFile)); err != nil {
		t.Fatal(err)
	}
	if err := CheckShare(c.homes[1], g); !errors.Is(err, ErrShare) || !strings.Contains(err.Error(), "member.key") {
		t.Errorf("without a member key: %v", err)
	}
	if err := CheckShare(t.TempDir(), g); err != nil {
		t.Errorf("of who is no validator: %v", err)
	}
}

func (c *guild) genesis() *state.Genesis {
	c.Helper()
	raw, err := os.ReadFile(filepath.Join(c.folder, madeFile))
	if err != nil {
		c.Fatal(err)
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		c.Fatal(err)
	}
	return g
}

// What lies in the folder beside files of members is left alone, or refused with its name.
func TestCeremonyFolder(t *testing.T) {
	t.Parallel()
	c := assemble(t, 3)
	c.put(c.folder, ".DS_Store", []byte("junk"))
	c.put(c.folder, "x.tmp", []byte("junk"))
	if err := errors.Join(os.Mkdir(filepath.Join(c.folder, "old"), 0o700), syscall.Mkfifo(filepath.Join(c.folder, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	c.step(0, c.folder)
	for name, raw := range map[string][]byte{"empty": nil, "notes": []byte("hello"), "huge": append([]byte("sn3deal1"), make([]byte, 1<<20)...), "answer": []byte("sn3answer1")} {
		c.put(c.folder, name, raw)
		c.fails(0, c.folder, filepath.Join(c.folder, name)+": ")
		c.drop(c.folder, name)
	}
	c.step(0, c.folder)
	if _, err := FoundDraft(c.homes[0], c.folder, &state.Genesis{}, nil); err == nil {
		t.Error("a draft in a folder of another one")
	}
	c.put(c.folder, draftFile, []byte("{"))
	c.fails(0, c.folder, "have it sent again")
	c.drop(c.folder, draftFile)
	c.fails(0, c.folder, "it comes from the validator that ran chaind genesis")
}

// A member that gives some another dealing than others is found before there is a key, by whoever has an answer to the other one.
func TestTwoDealings(t *testing.T) {
	t.Parallel()
	c := assemble(t, 4)
	for i := range 3 {
		c.step(i, c.folder)
	}
	cheated := c.copied()
	c.misdeal(3, 1, cheated)
	c.step(3, c.folder)
	c.step(1, cheated) // it answers to the bad one
	answer, err := filepath.Glob(filepath.Join(cheated, "*"+tellSuffix))
	if err != nil || len(answer) != 1 {
		t.Fatalf("%v, %v", answer, err)
	}
	raw, err := os.ReadFile(answer[0])
	if err != nil {
		t.Fatal(err)
	}
	own := c.copied()
	c.put(own, "answer", raw)
	c.fails(1, own, "this node has answered to another dealing of validator")
	c.put(c.folder, "answer", raw)
	c.fails(0, c.folder, "has answered to another dealing of validator")
	for _, i := range []int{2, 3} {
		c.fails(i, c.folder, "if it gave out two, begin again without its line")
	}
}

// Where too few good dealings are left there is no key, and everybody is told who dealt badly.
func TestTooFewDealings(t *testing.T) {
	t.Parallel()
	c := assemble(t, 3)
	c.step(0, c.folder)
	c.step(1, c.folder)
	c.misdeal(2, 0, c.folder)
	c.step(0, c.folder)
	c.step(1, c.folder)
	for _, i := range []int{2, 0, 1} {
		c.fails(i, c.folder, "of 3 members 1 have dealt bad shares")
	}
}

// Who is not in the draft, or no longer has the keys of its line, is told so; it gets no keys by the way.
func TestNotInTheDraft(t *testing.T) {
	t.Parallel()
	c := assemble(t, 2)
	none := filepath.Join(t.TempDir(), "none")
	if _, err := TakePart(none, c.folder); !errors.Is(err, dkg.ErrNotMember) || !missing(none) {
		t.Errorf("a folder without keys: %v", err)
	}
	if _, err := Keys(none, localtest.Network); err != nil {
		t.Fatal(err)
	}
	if _, err := TakePart(none, c.folder); !errors.Is(err, dkg.ErrNotMember) {
		t.Errorf("other keys: %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(c.homes[1], memberFile))
	if err != nil {
		t.Fatal(err)
	}
	c.put(none, memberFile, raw) // of another node
	if _, err := TakePart(none, c.folder); !errors.Is(err, dkg.ErrNotMember) {
		t.Errorf("another one's member key: %v", err)
	}
	c.drop(c.homes[1], memberFile)
	if _, err := TakePart(c.homes[1], c.folder); !errors.Is(err, dkg.ErrNotMember) {
		t.Errorf("without a member key: %v", err)
	}
}
