package replica

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
)

func someWindowFile() WindowFile {
	return WindowFile{Network: "replica-test", Window: 7, Before: chain.Hash{1}, After: chain.Hash{2}, Transition: chain.Hash{3},
		Votes:     []Cast{{Validator: chain.Hotkey{4}, Stake: 5, Vote: []byte{6}}},
		Selection: chain.Selection{Window: 7, Winners: []chain.Winner{{Candidate: chain.Candidate{UID: 1, Locator: []byte("<&>")}, Score: 9}}}}
}

// A signed file is taken only as it was signed, by whom it should be, for what it is, in the one spelling.
func TestSignedFileIsStrict(t *testing.T) {
	signer := local.Signer{Key: keyOf(t, "val-1")}
	good, err := seal(signer, domainWindow, someWindowFile())
	if err != nil {
		t.Fatal(err)
	}
	f, digest, err := OpenWindowFile(local.Verifier{}, signer.Hotkey(), good)
	if err != nil || f.Window != 7 || f.Selection.Winners[0].Score != 9 {
		t.Fatalf("an honest file: %+v, %v", f, err)
	}
	if other, err := seal(local.Signer{Key: keyOf(t, "val-2")}, domainWindow, someWindowFile()); err != nil {
		t.Fatal(err)
	} else if _, d, err := OpenWindowFile(local.Verifier{}, hotkey(t, "val-2"), other); err != nil || d != digest {
		t.Errorf("the same content signed by another: digest %s, %v, want %s", d.Short(), err, digest.Short())
	}
	replaced := func(old, new string) []byte {
		b := bytes.Replace(good, []byte(old), []byte(new), 1)
		if bytes.Equal(b, good) {
			t.Fatalf("%q is not in the file", old)
		}
		return b
	}
	// signed signs any bytes as a body: what only a careless or hostile validator would sign.
	signed := func(body string) []byte {
		b, err := seal(signer, domainWindow, json.RawMessage(body))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	canonical, err := json.Marshal(someWindowFile())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":                 nil,
		"no JSON":                 []byte("no"),
		"another window":          replaced(`"window":7`, `"window":8`),
		"another stake":           replaced(`"stake":5`, `"stake":6`),
		"a space in the body":     replaced(`"window":7`, `"window": 7`),
		"trailing bytes":          append(bytes.Clone(good), []byte("{}")...),
		"trailing garbage":        append(bytes.Clone(good), 'x'),
		"an unknown field":        replaced(`{"body"`, `{"more":1,"body"`),
		"another signer's name":   replaced(signer.Hotkey().String(), hotkey(t, "val-2").String()),
		"a cut signature":         replaced(`"}`, ``),
		"no hex":                  replaced(`"signature":"`, `"signature":"x`),
		"signed: unknown field":   signed(`{"extra":1,` + string(canonical[1:])),
		"signed: missing field":   signed(strings.Replace(string(canonical), `"network":"replica-test",`, ``, 1)),
		"signed: another order":   signed(strings.Replace(string(canonical), `"network":"replica-test",`, ``, 1)[:1] + `"window":7,"network":"replica-test"}`),
		"signed: field twice":     signed(`{"network":"x",` + string(canonical[1:])),
		"signed: escaped letters": signed(strings.Replace(string(canonical), `replica-test`, `\u0072eplica-test`, 1)),
		"signed: case":            signed(strings.Replace(string(canonical), `"network"`, `"Network"`, 1)),
		"signed: hex in capitals": signed(strings.Replace(string(canonical), chain.Hash{3}.String(), strings.ToUpper(chain.Hash{0xab}.String()), 1)),
		"signed: null":            signed(`null`),
		"signed: a list":          signed(`[]`),
	} {
		if _, _, err := OpenWindowFile(local.Verifier{}, signer.Hotkey(), b); !errors.Is(err, ErrForged) {
			t.Errorf("%s: got %v, want ErrForged", name, err)
		}
	}
	if _, _, err := OpenCheckpointManifest(local.Verifier{}, signer.Hotkey(), good); !errors.Is(err, ErrForged) {
		t.Errorf("a window file as a checkpoint: %v", err)
	}
	if _, _, err := OpenWindowFile(local.Verifier{}, hotkey(t, "val-2"), good); !errors.Is(err, ErrForged) {
		t.Errorf("in the bucket of another: %v", err)
	}
	var e Envelope
	if err := json.Unmarshal(good, &e); err != nil {
		t.Fatal(err)
	}
	if _, err := hex.DecodeString(e.Signature); err != nil || !bytes.Equal(e.Body, canonical) {
		t.Errorf("the file is not what docs/FORMAT.md says: %v", err)
	}
}

// The signature of one domain is none of the other, for the same bytes.
func TestSignatureDomains(t *testing.T) {
	signer := local.Signer{Key: keyOf(t, "val-1")}
	m := CheckpointManifest{Network: "n", Window: 3, Files: []File{{Name: "model.safetensors", Size: 1}}}
	b, err := seal(signer, domainWindow, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenCheckpointManifest(local.Verifier{}, signer.Hotkey(), b); !errors.Is(err, ErrForged) {
		t.Errorf("a manifest signed as a window file: %v", err)
	}
}

// Whatever bytes come, OpenWindowFile gives a file or ErrForged, and a file that it gives has the digest of its own bytes.
func FuzzOpenWindowFile(f *testing.F) {
	signer := local.Signer{Key: keyOf(f, "val-1")}
	good, err := seal(signer, domainWindow, someWindowFile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"body":{},"hotkey":"","signature":""}`))
	f.Add(bytes.Replace(good, []byte(`"stake":5`), []byte(`"stake":1e3`), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, _, err := OpenWindowFile(local.Verifier{}, signer.Hotkey(), b)
		if err != nil {
			if !errors.Is(err, ErrForged) {
				t.Fatalf("got %v", err)
			}
			return
		}
		want, err := json.Marshal(someWindowFile())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(w); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("took %s, which was never signed", got)
		}
	})
}
