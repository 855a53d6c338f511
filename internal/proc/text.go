package proc

import (
	"strings"
	"unicode"
)

// Printable makes text of strangers and models safe for a terminal: no control characters but newline and tab, nothing that
// is not UTF-8.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, strings.ToValidUTF8(s, "·"))
}
