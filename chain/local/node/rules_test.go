package node

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// quartet makes the folders of four validators of a network that begins with the first version of the rules.
func quartet(t *testing.T) (homes []string, g *state.Genesis) {
	t.Helper()
	g, _, err := localtest.Genesis(50, localtest.Actor{Name: "me", Seat: true, Balance: chain.RaoPerCoin})
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey, g.Rules = nil, 1
	var lines []local.Candidate
	for range 4 {
		home := filepath.Join(t.TempDir(), "chain")
		line, err := Keys(home, g.Network)
		if err != nil {
			t.Fatal(err)
		}
		homes, lines = append(homes, home), append(lines, line)
	}
	if err := Found(homes[0], g, lines[1:]); err != nil {
		t.Fatal(err)
	}
	return homes, g
}

func old(o *Options) { o.NewestRules = 1 }

// stops waits until a node ends by itself.
func (m *member) stops(t *testing.T, want error) {
	t.Helper()
	if err := m.Wait(deadline(t)); !errors.Is(err, want) {
		t.Fatalf("the node ends with %v", err)
	}
	m.stop()
}

// headerVersion is the version of the rules that a block's header names.
func headerVersion(t *testing.T, m *member, b chain.Block) uint64 {
	t.Helper()
	id, err := chainID(m.Genesis())
	if err != nil {
		t.Fatal(err)
	}
	_, l, err := (&lamp{"", m.Node, id}).fetch(t.Context(), jsonNumber(b))
	if err != nil {
		t.Fatal(err)
	}
	return l.Version.App
}

// A node that does not know the rules of the next block stops before it and says which they are, whether it votes or follows
// far behind; the others go on, and a later release goes on from its folder.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	homes, g := quartet(t)
	var all []*member
	for i, home := range homes {
		n := DefaultNet()
		if i > 0 {
			n.Peers = []string{all[0].Status().ID + "@" + all[0].Status().Listen}
		}
		if err := Init(home, g, n); err != nil {
			t.Fatal(err)
		}
		if i < 3 {
			all = append(all, begin(t, home))
		} else {
			all = append(all, begin(t, home, old))
		}
	}
	lateHome, behind := invite(t, all[0]), all[3]
	key, err := localtest.Key(localtest.Owner)
	if err != nil {
		t.Fatal(err)
	}
	behind.until(t, 2)
	height, _ := all[0].Height()
	at := height + 40
	if _, err := local.NewClient(all[0].Node, local.Signer{Key: key}).Send(deadline(t), local.Upgrade{Version: 2, At: at}); err != nil {
		t.Fatal(err)
	}
	behind.says(t, "this program does not know the new ones")
	all[1].says(t, "this program knows the new ones")
	behind.stops(t, ErrRules)
	if h, _ := behind.Height(); h != at-1 {
		t.Errorf("it stopped at the height %d, not before block %d", h, at)
	}
	all[0].until(t, at+2)
	agree(t, all[:3]...)
	if before, then := headerVersion(t, all[1], at-1), headerVersion(t, all[1], at); before != 1 || then != 2 {
		t.Errorf("headers around block %d name the versions %d and %d", at, before, then)
	}

	late := begin(t, lateHome, old) // executes what it knows, then stops in the midst of fetching blocks
	late.stops(t, ErrRules)
	if h, _ := late.Height(); h != at-1 {
		t.Errorf("the late one stopped at the height %d, not before block %d", h, at)
	}
	if n, err := Start(Options{Home: lateHome, Listen: "127.0.0.1:0", NewestRules: 1, Log: all[0].opts.Log}); !errors.Is(err, ErrRules) || !strings.Contains(err.Error(), "install the release") {
		t.Errorf("it starts again: %v, %v", n, err)
	}
	agree(t, append(all[:3:3], begin(t, homes[3]), begin(t, lateHome))...)
}
