package localtest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/drand"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/quorum"
	"sn3/chain/timelock"
)

// rounds is what sealing needs of a source of rounds. The chain's beacon and a drand network both have it.
type rounds interface {
	Key(ctx context.Context, r chain.Round) ([]byte, error)
	Signature(ctx context.Context, r chain.Round) ([]byte, error)
}

// relay is a drand network in one process, with its only relay.
func relay(t *testing.T) *drand.Source {
	t.Helper()
	secret := bytes.Repeat([]byte{7}, 32)
	pub, err := beacon.Public(secret)
	if err != nil {
		t.Fatal(err)
	}
	n := drand.Network{Beacon: "test", Genesis: 1000, Period: 3}
	copy(n.Public[:], pub)
	now := func() time.Time { return time.Unix(1000+3*25, 0) }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		round, err := strconv.ParseUint(path.Base(r.URL.Path), 10, 64)
		if err != nil || chain.Round(round) > n.Round(now()) {
			http.NotFound(w, r)
			return
		}
		sig, err := beacon.Sign(secret, chain.Round(round))
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `{"round":%d,"signature":"%x"}`, round, sig)
	}))
	t.Cleanup(s.Close)
	src, err := drand.New(drand.Config{Network: n, Relays: []string{s.URL}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	return src
}

// What is sealed to a round of the chain's beacon, of one node or of several, or of drand, is opened by the same code when the
// round is there, and not before.
func TestSealedToEitherSource(t *testing.T) {
	d := dev(t)
	if err := d.Run(30); err != nil {
		t.Fatal(err)
	}
	three := []quorum.Endpoint{{Name: "a", Node: liar{d, lies["about the beacon"]}}, {Name: "b", Node: d}, {Name: "c", Node: d}}
	for name, src := range map[string]rounds{"one node": local.NewClient(d, nil), "three nodes": local.NewClient(quorum.New(three, nil), nil), "drand": relay(t)} {
		ctx := context30(t)
		key, err := src.Key(ctx, 20)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sealed, err := timelock.Seal(key, 20, []byte("a payload's key"), rand.Reader)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sig, err := src.Signature(ctx, 20)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if plain, err := timelock.Open(sig, sealed); err != nil || string(plain) != "a payload's key" {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
		if _, err := src.Signature(ctx, 40); !errors.Is(err, chain.ErrNotYet) {
			t.Errorf("%s: a round to come: %v", name, err)
		}
	}
	one := local.NewClient(liar{d, map[string]func(json.RawMessage) any{local.QuerySignature: change(func(b *[]byte) { (*b)[40]++ })}}, nil)
	if sig, err := one.Signature(context30(t), 20); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("a signature that is none: %x, %v", sig, err)
	}
}
