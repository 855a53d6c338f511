package node

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// contents are the entries of an archive.
func contents(t *testing.T, file string) (map[string]string, *archive) {
	t.Helper()
	a, err := openArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	out := map[string]string{}
	if err := a.each(func(k, v []byte) error {
		out[string(k)] = string(v)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out, a
}

func export(t *testing.T, home string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "state.sn3c")
	if _, err := Export(home, out, false); err != nil {
		t.Fatal(err)
	}
	return out
}

func balance(t *testing.T, m *member, k chain.Coldkey) chain.Amount {
	t.Helper()
	b, err := local.NewClient(m.Node, nil).Balance(deadline(t), k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lost is a network that made some blocks and stopped, and the file of its state: an account of it has 700.
func lost(t *testing.T, to chain.Coldkey) (file string) {
	t.Helper()
	home := founder(t)
	m := begin(t, home)
	if err := pays(t, m).Transfer(deadline(t), to, 700); err != nil {
		t.Fatal(err)
	}
	m.until(t, 21)
	if _, err := Export(home, filepath.Join(t.TempDir(), "x"), false); !errors.Is(err, ErrInUse) {
		t.Errorf("of a node that runs: %v", err)
	}
	m.app.shots.writing.Wait()
	if e, err := Export(home, filepath.Join(t.TempDir(), "x"), true); err != nil || e.Height != 20 {
		t.Errorf("a snapshot of a node that runs: %+v, %v", e, err)
	}
	m.stop()
	file = export(t, home)
	_, a := contents(t, file)
	if h, hash := m.Height(); a.height != h || a.appHash != hash {
		t.Errorf("a file of block %d", a.height)
	}
	return file
}

func pays(t *testing.T, m *member) *local.Client {
	t.Helper()
	key, err := localtest.Key("me")
	if err != nil {
		t.Fatal(err)
	}
	return local.NewClient(m.Node, local.Signer{Key: key})
}

// inherited are the entries that a new network does not change.
func inherited(all map[string]string) map[string]string {
	maps.DeleteFunc(all, func(k, _ string) bool { return k[0] == 'v' || k[0] == 'd' || k == "g" || k == "h" })
	return all
}

// A network that lost its validators goes on with its state: a new one begins with it at the next block, with everything but
// the validators and the beacon. Others join it with the same file, or with a snapshot once there is one.
func TestExportImport(t *testing.T) {
	t.Parallel()
	to := chain.Coldkey{9}
	file := lost(t, to)
	before, a := contents(t, file)
	heir := filepath.Join(t.TempDir(), "chain")
	g, err := Import(heir, file, ImportOptions{Net: DefaultNet()})
	if err != nil || g.From.Height != a.height || g.Network != localtest.Network {
		t.Fatalf("%+v, %v", g, err)
	}
	again := export(t, heir)
	after, _ := contents(t, again)
	if !maps.Equal(inherited(before), inherited(after)) {
		t.Error("other entries after import and export")
	}
	if _, err := Import(heir, file, ImportOptions{Net: DefaultNet()}); !errors.Is(err, ErrExists) {
		t.Errorf("imported twice: %v", err)
	}

	first := begin(t, heir)
	first.until(t, a.height+2)
	if got := balance(t, first, to); got != 700 {
		t.Errorf("the account holds %d", got)
	}
	if err := pays(t, first).Transfer(deadline(t), to, 50); err != nil {
		t.Fatal(err)
	}
	first.stop()
	first = begin(t, heir) // it replays from its own beginning
	other := filepath.Join(t.TempDir(), "chain")
	n := DefaultNet()
	n.Peers = []string{first.Status().ID + "@" + first.Status().Listen}
	if _, err := Import(other, again, ImportOptions{Genesis: g, Net: n}); !errors.Is(err, state.ErrOrigin) {
		t.Errorf("the file of another state: %v", err)
	}
	if _, err := Import(other, file, ImportOptions{Genesis: g, Net: n}); err != nil {
		t.Fatal(err)
	}
	second := begin(t, other)
	agree(t, first, second)

	late := invite(t, first)
	if _, err := Start(Options{Home: late, Listen: "127.0.0.1:0", Log: first.opts.Log}); !errors.Is(err, ErrNoChain) {
		t.Errorf("a node without the state: %v", err)
	}
	if err := os.Remove(filepath.Join(late, stateFile)); err != nil {
		t.Fatal(err)
	}
	for h, _ := first.Height(); first.Status().Snapshot < a.height; h++ {
		first.until(t, h)
	}
	if _, err := PlanSync(deadline(t), late, []string{first.Addr()}, Trust{}); err != nil {
		t.Fatal(err)
	}
	joined := begin(t, late)
	joined.says(t, "the state is there")
	agree(t, first, joined)
	if got := balance(t, joined, to); got != 750 {
		t.Errorf("the account holds %d", got)
	}
}

// A file for another name: the run descriptor says it, too.
func TestImportRenamed(t *testing.T) {
	a := server(t, 12)
	file := filepath.Join(t.TempDir(), "state")
	raw, err := a.ledger.Query(ctx, local.QueryGenesis, "")
	if err != nil {
		t.Fatal(err)
	}
	f, path := folder{genesis: a.ledger.Genesis(), raw: raw}, a.store.db.Path()
	if err := a.store.close(); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(packStore(path, f, out), out.Close()); err != nil {
		t.Fatal(err)
	}
	g, err := Import(filepath.Join(t.TempDir(), "chain"), file, ImportOptions{Network: "fork", Net: DefaultNet()})
	if err != nil {
		t.Fatal(err)
	}
	run, err := g.Validate()
	if err != nil || g.Network != "fork" || run.Network != "fork" || g.From.Height != 12 || len(g.Accounts)+len(g.Seats) != 0 || len(g.Validators) != 1 {
		t.Errorf("%+v, %v", g, err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{9, len(whole) / 2, len(whole) - 60} {
		bad := append([]byte(nil), whole...)
		bad[i] ^= 1
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "chain")
		if _, err := Import(dir, file, ImportOptions{Net: DefaultNet()}); err == nil || !missing(dir) {
			t.Errorf("byte %d altered: %v", i, err)
		}
	}
}
