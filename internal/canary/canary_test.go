package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var secret = []byte("canary-Passphrase-61\xfb\xff\xfe\x3e")

// A secret is found in every form, wherever in something longer it begins, and nothing else is taken for it.
func TestFound(t *testing.T) {
	s := Of("it", secret, "spelled out")
	for before := range 4 {
		long := slices.Concat(bytes.Repeat([]byte("x"), before), secret, []byte("yyy"))
		for name, text := range map[string]string{"plain": string(long), "hex": hex.EncodeToString(long), "HEX": strings.ToUpper(hex.EncodeToString(long)),
			"base64": base64.StdEncoding.EncodeToString(long), "base64url": base64.RawURLEncoding.EncodeToString(long)} {
			if !s.In([]byte(text)) {
				t.Errorf("%s, %d bytes in: not found", name, before)
			}
		}
	}
	if !s.In([]byte("it is spelled out here")) {
		t.Error("the other form is not found")
	}
	if s.In([]byte("canary-Passphrase-62")) || s.In(nil) {
		t.Error("another text is taken for it")
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"log": "a" + base64.StdEncoding.EncodeToString(secret), "passphrase": string(secret), "other": "nothing"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, files, err := Folder(dir, []Secret{Of("it", secret)}, func(path string) bool { return filepath.Base(path) == "passphrase" })
	if err != nil || files != 2 || len(found) != 1 || found[0] != filepath.Join(dir, "log")+" holds it" {
		t.Errorf("%q, %d files, %v", found, files, err)
	}
	if _, _, err := Folder(filepath.Join(dir, "none"), nil, nil); err == nil {
		t.Error("a folder that is not there was looked through")
	}
}
