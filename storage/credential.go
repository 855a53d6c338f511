package storage

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// Credential is a static access key and its secret. It cannot be put into a Locator, and no way of printing, logging or
// encoding it shows the secret; the secret sits behind a pointer so that printing a struct around it shows an address.
type Credential struct {
	AccessKey string
	secret    *string
}

// NewCredential checks and holds a key pair; errors match ErrCredential and do not repeat the secret.
func NewCredential(access, secret string) (*Credential, error) {
	if !printable(access, 3, 128) || strings.ContainsAny(access, "/:,=") {
		return nil, fmt.Errorf("%w: the access key must be 3 to 128 printable characters without / : , =", ErrCredential)
	}
	if !printable(secret, 8, 256) {
		return nil, fmt.Errorf("%w: the secret of access key %s must be 8 to 256 printable characters without spaces", ErrCredential, access)
	}
	return &Credential{AccessKey: access, secret: &secret}, nil
}

// ParseCredential reads "ACCESS:SECRET".
func ParseCredential(s string) (*Credential, error) {
	access, secret, ok := strings.Cut(s, ":")
	if !ok {
		return nil, fmt.Errorf("%w: want ACCESS:SECRET", ErrCredential)
	}
	return NewCredential(access, secret)
}

// Reveal returns the secret, for signing requests and for setting up a server.
func (c Credential) Reveal() string {
	if c.secret == nil {
		return ""
	}
	return *c.secret
}

// String shows the access key only.
func (c Credential) String() string { return c.AccessKey + ":redacted" }

// GoString is String, for %#v.
func (c Credential) GoString() string { return "storage.Credential(" + c.String() + ")" }

// Format prints String whatever the verb is; without it %d would print the fields.
func (c Credential) Format(f fmt.State, verb rune) {
	s := c.String()
	if verb == 'v' && f.Flag('#') {
		s = c.GoString()
	}
	_, _ = io.WriteString(f, s) // fmt.State keeps its own errors
}

// LogValue is String, for slog.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON is String as a JSON string.
func (c Credential) MarshalJSON() ([]byte, error) { return []byte(strconv.Quote(c.String())), nil }

// MarshalText is String.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// printable says whether s is min to max bytes of visible ASCII other than quotes and backslash.
func printable(s string, min, max int) bool {
	if len(s) < min || len(s) > max {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' || c == '\'' {
			return false
		}
	}
	return true
}
