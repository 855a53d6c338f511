// Package canary finds secrets where they should not be: tests name the secrets of a run and look through all that it left
// behind.
package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Secret is something that must not show, in every form in which it could.
type Secret struct {
	What  string
	forms [][]byte
}

// Of is a secret of at least 8 bytes: as it is, in hex, in base64 wherever it begins within something longer, and in the other
// forms that are given.
func Of(what string, raw []byte, more ...string) Secret {
	s := Secret{What: what, forms: [][]byte{raw}}
	more = append(more, hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)))
	for shift := range 3 { // whole groups of three bytes are the same four characters
		whole := raw[shift : shift+(len(raw)-shift)/3*3]
		std, url := base64.StdEncoding.EncodeToString(whole), base64.URLEncoding.EncodeToString(whole)
		if more = append(more, std); url != std {
			more = append(more, url)
		}
	}
	for _, m := range more {
		s.forms = append(s.forms, []byte(m))
	}
	return s
}

// In says whether a text contains the secret.
func (s Secret) In(text []byte) bool {
	for _, f := range s.forms {
		if bytes.Contains(text, f) {
			return true
		}
	}
	return false
}

// Folder looks through all files below dir but those that may hold a secret, and says what it found where. files counts those
// it looked at.
func Folder(dir string, secrets []Secret, may func(path string) bool) (found []string, files int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || may(path) {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, s := range secrets {
			if s.In(b) {
				found = append(found, fmt.Sprintf("%s holds %s", path, s.What))
			}
		}
		return nil
	})
	return found, files, err
}
