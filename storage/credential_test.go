package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const testSecret = "s3cr3t-value-1"

func TestCredentialNeverShowsItsSecret(t *testing.T) {
	c, err := ParseCredential("alice-key:" + testSecret)
	if err != nil || c.Reveal() != testSecret || c.AccessKey != "alice-key" {
		t.Fatalf("%v, %v", c, err)
	}
	type holder struct {
		Public  Credential
		Pointer *Credential
		hidden  Credential
	}
	h := holder{*c, c, *c}
	var outs []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		for _, v := range []any{*c, c, h, &h, []Credential{*c}, map[string]Credential{"k": *c}} {
			outs = append(outs, fmt.Sprintf(verb, v))
		}
	}
	for _, v := range []any{*c, c, h, []*Credential{c}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("encode: %v", err)
		}
		outs = append(outs, string(b))
	}
	var log bytes.Buffer
	for _, l := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(l).Info("opened", "credential", c, "value", *c, "holder", h)
	}
	outs = append(outs, log.String())
	for _, out := range outs {
		if strings.Contains(out, testSecret) || strings.Contains(out, fmt.Sprintf("%x", testSecret)) {
			t.Errorf("secret in %q", out)
		}
	}
	if !strings.Contains(log.String(), "alice-key") {
		t.Error("the access key is not in the log either")
	}
	if _, found := reflect.TypeFor[Locator]().FieldByName("secret"); found {
		t.Error("Locator has a secret field") // and no method or constructor takes a Credential
	}
}

func TestBadCredentials(t *testing.T) {
	for _, c := range [][2]string{
		{"", testSecret}, {"ab", testSecret}, {"a b c", testSecret}, {"a/b", testSecret}, {"a:b", testSecret}, {strings.Repeat("k", 129), testSecret},
		{"key", ""}, {"key", "short"}, {"key", "with spaces in it"}, {"key", "line\nbreak-in-it"}, {"key", strings.Repeat("s", 257)}, {"kéy", testSecret},
	} {
		got, err := NewCredential(c[0], c[1])
		if !errors.Is(err, ErrCredential) || got != nil {
			t.Errorf("%q: %v, %v; want ErrCredential", c, got, err)
		}
		if err != nil && len(c[1]) > 4 && strings.Contains(err.Error(), c[1]) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
	if _, err := ParseCredential("no-colon"); !errors.Is(err, ErrCredential) {
		t.Errorf("no colon: %v", err)
	}
	if (Credential{}).Reveal() != "" {
		t.Error("the zero credential has a secret")
	}
}

func TestAccounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.json")
	if list, err := ReadAccounts(path); !errors.Is(err, fs.ErrNotExist) || list != nil || !strings.Contains(err.Error(), "want a JSON list") {
		t.Errorf("missing file: %v, %v", list, err)
	}
	want := []Account{{"alice", "alice-key", testSecret}, {"bob", "bob-key", testSecret}}
	if err := WriteAccounts(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadAccounts(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read back %v, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if s := fmt.Sprint(got); strings.Contains(s, testSecret) {
		t.Errorf("secret in %s", s)
	}
	for _, bad := range [][]Account{
		{{"Bad", "key", testSecret}}, {{"alice", "k", testSecret}}, {{"alice", "key", ""}},
		{want[0], want[0]}, {want[0], {"alice", "other-key", testSecret}}, {want[0], {"other", "alice-key", testSecret}},
	} {
		if err := WriteAccounts(path, bad); err == nil {
			t.Errorf("%v was written", bad)
		}
	}
	if got, err := ReadAccounts(path); err != nil || len(got) != 2 {
		t.Errorf("after refused writes: %v, %v", got, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(path, []byte(`[{"bucket":1}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAccounts(path); err == nil {
		t.Error("a malformed file was read")
	}
}
