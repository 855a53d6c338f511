package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/wallet"
	"sn3/internal/events"
	"sn3/internal/replica"
)

// documents are the JSON files that are known by their fields. Signed files, run descriptors, keystores and diaries are
// recognised before them.
var documents = []struct {
	what string
	keys []string
}{
	{"public file of a wallet", []string{"account", "evm"}},
	{"evidence of a validator", []string{"verdicts", "validator", "base"}},
	{"ratings of a validator", []string{"entries", "seen"}},
	{"genesis of a chain", []string{"block_time_ms", "seats", "beacon_key"}},
	{"settings of a local network", []string{"format", "nodes", "block_time_ms"}},
	{"processes of a local network", []string{"pid", "chain_port", "s3_port"}},
	{"summary of a local network", []string{"windows", "hotkeys", "baselines"}},
	{"checkpoint manifest without signature, as sn3 pull keeps it", []string{"network", "run", "window", "root", "files"}},
	{"model configuration of a checkpoint", []string{"model_type", "hidden_size"}},
	{"tokenizer of a checkpoint", []string{"model", "decoder"}},
	{"tokenizer configuration of a checkpoint", []string{"tokenizer_class"}},
}

func inspectJSON(b []byte, path string) (what string, v any, err error) {
	if run, err := chain.ParseRun(bytes.TrimSpace(b)); err == nil {
		return "run descriptor " + run.Hash().String(), run, nil
	}
	var list []fields
	if what, v, ok := diary(b); ok {
		return what, v, nil
	}
	if decode(b, &list) == nil && len(list) > 0 && list[0]["access_key"] != nil {
		return "accounts of an S3 server", hide(list), nil
	}
	var doc fields
	if err := decode(b, &doc); err != nil {
		var other any
		if decode(b, &other) == nil {
			return "JSON", hide(other), nil
		}
		return "", nil, errUnknown
	}
	switch {
	case has(doc, "body", "hotkey", "signature"):
		return signed(b)
	case has(doc, "crypto", "version"):
		return keystore(path, doc)
	}
	for _, d := range documents {
		if has(doc, d.keys...) {
			return d.what, hide(doc), nil
		}
	}
	return "JSON", hide(doc), nil
}

// decode reads one JSON value, keeping numbers as they are written.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

func has(doc fields, keys ...string) bool {
	for _, k := range keys {
		if _, ok := doc[k]; !ok {
			return false
		}
	}
	return true
}

// diary recognises events.jsonl: every line but a torn one is an event.
func diary(b []byte) (what string, v any, ok bool) {
	var list []events.Event
	torn := 0
	for _, line := range bytes.Split(bytes.TrimRight(b, "\n"), []byte{'\n'}) {
		var e events.Event
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if d.Decode(&e) != nil || e.Kind == "" || e.Time.IsZero() {
			torn++
			continue
		}
		list = append(list, e)
	}
	if len(list) == 0 || torn > len(list) {
		return "", nil, false
	}
	return fmt.Sprintf("diary of a node, %d events", len(list)), list, true
}

// signed shows a window file or a checkpoint manifest if its signature holds.
func signed(b []byte) (what string, v any, err error) {
	var e replica.Envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return "signed file", nil, err
	}
	if f, _, err := replica.OpenWindowFile(local.Verifier{}, e.Hotkey, b); err == nil {
		votes := map[string]any{}
		for _, c := range f.Votes {
			if vote, err := chain.ParseVote(c.Vote); err == nil {
				votes[c.Validator.String()] = vote
			}
		}
		return "window file, signed by " + e.Hotkey.String(), fields{"file": f, "votes_decoded": votes}, nil
	}
	m, _, err := replica.OpenCheckpointManifest(local.Verifier{}, e.Hotkey, b)
	if err != nil {
		return "signed file", nil, fmt.Errorf("its signature verifies for nobody: %w", err)
	}
	return "checkpoint manifest, signed by " + e.Hotkey.String(), m, nil
}

// keystore shows whose key it is and how it is encrypted, nothing of the key.
func keystore(path string, doc fields) (what string, v any, err error) {
	account, err := wallet.AccountInFile(path)
	if err != nil {
		return "keystore", nil, err
	}
	out := fields{"account": account, "address": doc["address"], "version": doc["version"]}
	if c, ok := doc["crypto"].(map[string]any); ok {
		out["cipher"], out["kdf"] = c["cipher"], c["kdf"]
		if p, ok := c["kdfparams"].(map[string]any); ok {
			out["kdf_n"], out["kdf_r"], out["kdf_p"] = p["n"], p["r"], p["p"]
		}
	}
	return "keystore", out, nil
}

// secretName matches the names of fields whose values are nobody's business.
var secretName = regexp.MustCompile(`(?i)secret|passphrase|password|private|priv_key|ciphertext|^mac$|^d$`)

// hide replaces secrets by a note.
func hide(v any) any {
	switch x := v.(type) {
	case []fields:
		out := make([]any, len(x))
		for i := range x {
			out[i] = hide(x[i])
		}
		return out
	case []any:
		for i := range x {
			x[i] = hide(x[i])
		}
	case map[string]any:
		for k, y := range x {
			if secretName.MatchString(k) {
				x[k] = "(hidden)"
			} else {
				x[k] = hide(y)
			}
		}
	}
	return v
}
