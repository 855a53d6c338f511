package storage

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Kind is the provider and form of a Locator; its value is the first byte of the canonical encoding.
type Kind uint8

// Kinds of locators and the bytes after the kind. Lengths are fixed but for region and bucket.
const (
	KindLocal    Kind = 1 // bucket: on the loopback server of a local network; the port is the network's
	KindS3       Kind = 2 // length of region, region, bucket: Amazon S3
	KindR2       Kind = 3 // account [16], bucket: Cloudflare R2, readable only with an own credential
	KindR2Token  Kind = 4 // account [16], access key [16], secret [32], bucket: R2 with a published read-only token
	KindR2Public Kind = 5 // account [16], public id [16], bucket: R2 read through pub-ID.r2.dev, which cannot list
	KindGCS      Kind = 6 // bucket: Google Cloud Storage
	KindB2       Kind = 7 // length of region, region, bucket: Backblaze B2
)

// MaxLocator is the size in bytes of the longest canonical encoding: R2 with a token and a bucket name of 63.
const MaxLocator = 128

const (
	minBucket, maxBucket = 3, 63
	maxRegion            = 32
)

// Locator says where a bucket is, without any URL: hosts are built from templates, so that what a stranger publishes can
// only ever name a bucket at a known provider. It is comparable; the zero value is invalid.
type Locator struct {
	kind   Kind
	bucket string
	region string
	r2     r2Fields
}

type r2Fields struct {
	account, access, public [16]byte
	secret                  [32]byte
}

// Local names a bucket on the server of a local network.
func Local(bucket string) (Locator, error) {
	return Locator{kind: KindLocal, bucket: bucket}.checked()
}

// Kind returns the kind; 0 for the zero Locator.
func (l Locator) Kind() Kind { return l.kind }

// Bucket returns the bucket's name.
func (l Locator) Bucket() string { return l.bucket }

// Public says whether strangers can read the bucket by what the locator says, as they must where it is published.
func (l Locator) Public() bool { return l.kind != 0 && l.kind != KindR2 }

// Encode returns the canonical bytes, at most MaxLocator, for the chain; nil for the zero Locator.
func (l Locator) Encode() []byte {
	if l.kind == 0 {
		return nil
	}
	b := append(make([]byte, 0, MaxLocator), byte(l.kind))
	switch l.kind {
	case KindS3, KindB2:
		b = append(append(b, byte(len(l.region))), l.region...)
	case KindR2:
		b = append(b, l.r2.account[:]...)
	case KindR2Token:
		b = append(append(append(b, l.r2.account[:]...), l.r2.access[:]...), l.r2.secret[:]...)
	case KindR2Public:
		b = append(append(b, l.r2.account[:]...), l.r2.public[:]...)
	}
	return append(b, l.bucket...)
}

// ParseLocator reads canonical bytes. It is total: a locator whose Encode gives b again, or an error matching ErrLocator.
func ParseLocator(b []byte) (Locator, error) {
	if len(b) == 0 || len(b) > MaxLocator {
		return Locator{}, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrLocator, len(b), MaxLocator)
	}
	l := Locator{kind: Kind(b[0])}
	rest := b[1:]
	ok := true
	field := func(dst []byte) {
		if len(rest) < len(dst) {
			ok, rest = false, nil
			return
		}
		rest = rest[copy(dst, rest):]
	}
	switch l.kind {
	case KindLocal, KindGCS:
	case KindS3, KindB2:
		var n [1]byte
		field(n[:])
		region := make([]byte, n[0])
		field(region)
		l.region = string(region)
	case KindR2:
		field(l.r2.account[:])
	case KindR2Token:
		field(l.r2.account[:])
		field(l.r2.access[:])
		field(l.r2.secret[:])
	case KindR2Public:
		field(l.r2.account[:])
		field(l.r2.public[:])
	default:
		return Locator{}, fmt.Errorf("%w: unknown kind %d", ErrLocator, b[0])
	}
	if !ok {
		return Locator{}, fmt.Errorf("%w: cut short at %d bytes", ErrLocator, len(b))
	}
	l.bucket = string(rest)
	return l.checked()
}

// checked applies the grammar of names.
func (l Locator) checked() (Locator, error) {
	if err := validBucket(l.bucket); err != nil {
		return Locator{}, err
	}
	if (l.kind == KindS3 || l.kind == KindB2) && !validRegion(l.region) {
		return Locator{}, fmt.Errorf("%w: region %q, want a form like us-east-1", ErrLocator, l.region)
	}
	return l, nil
}

// validBucket holds names to what every provider takes and no provider treats specially: lower-case letters, digits and
// single hyphens inside; no dots (they break TLS of virtual hosts), none of S3's reserved prefixes and suffixes (those
// that are not ruled out by the single hyphen).
func validBucket(s string) error {
	bad := len(s) < minBucket || len(s) > maxBucket || s[0] == '-' || s[len(s)-1] == '-' ||
		strings.Contains(s, "--") || strings.HasPrefix(s, "sthree-") || strings.HasSuffix(s, "-s3alias")
	for i := 0; i < len(s) && !bad; i++ {
		bad = !lowerOrDigit(s[i]) && s[i] != '-'
	}
	if bad {
		return fmt.Errorf("%w: bucket %q, want %d to %d lower-case letters, digits and single hyphens", ErrLocator, s, minBucket, maxBucket)
	}
	return nil
}

// validRegion takes letters-letters…-digits, such as us-east-1, us-gov-west-1, us-west-004.
func validRegion(s string) bool {
	parts := strings.Split(s, "-")
	if len(s) > maxRegion || len(parts) < 3 || len(parts) > 5 {
		return false
	}
	for i, p := range parts {
		last := i == len(parts)-1
		if p == "" || len(p) > 12 || i == 0 && len(p) != 2 || last && len(p) > 3 {
			return false
		}
		for j := range len(p) {
			if digit := p[j] >= '0' && p[j] <= '9'; digit != last || !lowerOrDigit(p[j]) {
				return false
			}
		}
	}
	return true
}

func lowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// unhex reads exactly len(dst) bytes of lower-case hexadecimal digits.
func unhex(dst []byte, s, what string) error {
	if len(s) != 2*len(dst) || strings.ToLower(s) != s {
		return fmt.Errorf("%w: %s must be %d lower-case hexadecimal digits", ErrLocator, what, 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLocator, what, err)
	}
	return nil
}
