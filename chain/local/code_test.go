package local

import (
	"encoding/json"
	"os"
	"testing"

	"sn3/internal/golden"
)

// elsewhere are names that no pallet of Subtensor has: the runtime's frame gives them.
var elsewhere = map[string]string{
	"BadProof":  "InvalidTransaction: a signature that does not verify",
	"Stale":     "InvalidTransaction: a nonce that was used (Future: one ahead)",
	"BadOrigin": "DispatchError: not the origin that the call needs",
}

// A code that says a Subtensor name says one that exists there.
func TestCodeNames(t *testing.T) {
	raw, err := os.ReadFile(golden.Dir(t, "errors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var versions map[string]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &versions); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, pallets := range versions {
		for _, p := range pallets {
			var x struct{ Errors map[string]int }
			if json.Unmarshal(p, &x) != nil { // a note on where the list is from
				continue
			}
			for name := range x.Errors {
				known[name] = true
			}
		}
	}
	named := 0
	for code, text := range codeTexts {
		_, frame := elsewhere[text.name]
		if text.name != "" && known[text.name] == frame {
			t.Errorf("code %d: %s, in a pallet: %v, of the frame: %v", code, text.name, known[text.name], frame)
		}
		if text.name != "" {
			named++
		}
		if x := (&TxError{code}).Name(); x != text.name {
			t.Errorf("code %d has the name %q, want %q", code, x, text.name)
		}
	}
	if named < 20 || len(known) != 207 { // 207 names stand in the file: a pallet that was not read would be missed
		t.Errorf("%d names are compared with %d", named, len(known))
	}
}
