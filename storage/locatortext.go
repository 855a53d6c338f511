package storage

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// String is the text form, which ParseLocatorString reads again. A published read token is shown: it is public.
func (l Locator) String() string {
	account := hex.EncodeToString(l.r2.account[:])
	switch l.kind {
	case KindLocal:
		return "local:" + l.bucket
	case KindS3:
		return "s3:" + l.region + "/" + l.bucket
	case KindR2:
		return "r2:" + account + "/" + l.bucket
	case KindR2Token:
		return "r2:" + account + "/" + l.bucket + "?token=" + hex.EncodeToString(l.r2.access[:]) + ":" + hex.EncodeToString(l.r2.secret[:])
	case KindR2Public:
		return "r2:" + account + "/" + l.bucket + "?public=" + hex.EncodeToString(l.r2.public[:])
	case KindGCS:
		return "gcs:" + l.bucket
	case KindB2:
		return "b2:" + l.region + "/" + l.bucket
	}
	return "no locator"
}

// ParseLocatorString reads the text form:
//
//	local:BUCKET   s3:REGION/BUCKET   gcs:BUCKET   b2:REGION/BUCKET
//	r2:ACCOUNT/BUCKET[?token=ACCESS:SECRET | ?public=ID]
//
// An R2 bucket whose locator others shall read needs one of the two suffixes: a read-only token, or its public r2.dev id.
// Errors match ErrLocator.
func ParseLocatorString(s string) (Locator, error) {
	kind, rest, ok := strings.Cut(s, ":")
	if !ok || len(s) > 4*MaxLocator {
		return Locator{}, fmt.Errorf("%w: %.40q, want for example local:BUCKET, s3:REGION/BUCKET or r2:ACCOUNT/BUCKET", ErrLocator, s)
	}
	switch kind {
	case "local":
		return Locator{kind: KindLocal, bucket: rest}.checked()
	case "gcs":
		return Locator{kind: KindGCS, bucket: rest}.checked()
	case "s3", "b2":
		l := Locator{kind: KindS3}
		if kind == "b2" {
			l.kind = KindB2
		}
		if l.region, l.bucket, ok = strings.Cut(rest, "/"); !ok {
			return Locator{}, fmt.Errorf("%w: want %s:REGION/BUCKET", ErrLocator, kind)
		}
		return l.checked()
	case "r2":
		return parseR2(rest)
	}
	return Locator{}, fmt.Errorf("%w: unknown provider %.20q, use local, s3, r2, gcs or b2", ErrLocator, kind)
}

func parseR2(s string) (Locator, error) {
	l := Locator{kind: KindR2}
	s, read, has := strings.Cut(s, "?")
	account, bucket, ok := strings.Cut(s, "/")
	if !ok {
		return Locator{}, fmt.Errorf("%w: want r2:ACCOUNT/BUCKET", ErrLocator)
	}
	l.bucket = bucket
	if err := unhex(l.r2.account[:], account, "R2 account"); err != nil {
		return Locator{}, err
	}
	if !has {
		return l.checked()
	}
	how, value, _ := strings.Cut(read, "=")
	switch how {
	case "public":
		l.kind = KindR2Public
		if err := unhex(l.r2.public[:], value, "R2 public id"); err != nil {
			return Locator{}, err
		}
	case "token":
		l.kind = KindR2Token
		access, secret, _ := strings.Cut(value, ":")
		if err := unhex(l.r2.access[:], access, "access key of the R2 token"); err != nil {
			return Locator{}, err
		}
		if err := unhex(l.r2.secret[:], secret, "secret of the R2 token"); err != nil {
			return Locator{}, err
		}
	default:
		return Locator{}, fmt.Errorf("%w: want ?token=ACCESS:SECRET or ?public=ID after the R2 bucket", ErrLocator)
	}
	return l.checked()
}

// ParseURL reads what a person types: the text form of a locator, or a bucket's address at one of the providers
// (path-style or virtual-host), or http://127.0.0.1:PORT/BUCKET of a local network. The policy allows exactly what the
// address says. Errors match ErrLocator.
func ParseURL(s string) (Locator, DialPolicy, error) {
	if !strings.Contains(s, "://") {
		l, err := ParseLocatorString(s)
		if err == nil && l.kind == KindLocal {
			return Locator{}, DialPolicy{}, fmt.Errorf("%w: %s has no port; give http://127.0.0.1:PORT/%s", ErrLocator, s, l.bucket)
		}
		return l, DialPolicy{}, err
	}
	u, err := url.Parse(s)
	if err != nil {
		return Locator{}, DialPolicy{}, fmt.Errorf("%w: %w", ErrLocator, err)
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return Locator{}, DialPolicy{}, fmt.Errorf("%w: give the bucket's address without anything after its name, and no password in it", ErrLocator)
	}
	path := strings.Trim(u.Path, "/")
	if u.Scheme == "http" {
		at, err := netip.ParseAddrPort(u.Host)
		if err != nil || at.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) { // where endpoint leads
			return Locator{}, DialPolicy{}, fmt.Errorf("%w: plain http is for 127.0.0.1:PORT only; use https", ErrLocator)
		}
		l, err := Local(path)
		return l, DialPolicy{Loopback: true, LocalPort: int(at.Port())}, err
	}
	if u.Scheme != "https" || u.Port() != "" {
		return Locator{}, DialPolicy{}, fmt.Errorf("%w: %.60q is not the https address of a bucket", ErrLocator, s)
	}
	l, err := fromHost(u.Hostname(), path)
	return l, DialPolicy{}, err
}

// fromHost undoes the templates of endpoint, path-style or with the bucket in front of the host.
func fromHost(host, path string) (Locator, error) {
	l, err := guessHost(host, path)
	if err == nil && "https://"+strings.TrimPrefix(host, l.bucket+".") != l.endpoint(0, true).url {
		return Locator{}, fmt.Errorf("%w: host %.80q is not where %s is", ErrLocator, host, l)
	}
	return l, err
}

func guessHost(host, path string) (Locator, error) {
	for _, p := range []struct {
		suffix string
		kind   Kind
	}{{".amazonaws.com", KindS3}, {".amazonaws.com.cn", KindS3}, {".backblazeb2.com", KindB2}} {
		sub, ok := strings.CutSuffix(host, p.suffix)
		if !ok {
			continue
		}
		if bucket, region, ok := strings.Cut("."+sub, ".s3."); ok {
			return regional(p.kind, region, strings.TrimPrefix(bucket, "."), path)
		}
	}
	if sub, ok := strings.CutSuffix(host, ".r2.cloudflarestorage.com"); ok {
		return parseR2(sub + "/" + path)
	}
	if host == "storage.googleapis.com" {
		return Locator{kind: KindGCS, bucket: path}.checked()
	}
	return Locator{}, fmt.Errorf("%w: host %.80q is of no provider known here (Amazon S3, R2, GCS, B2)", ErrLocator, host)
}

func regional(kind Kind, region, bucket, path string) (Locator, error) {
	if bucket == "" {
		bucket, path = path, ""
	}
	if path != "" {
		return Locator{}, fmt.Errorf("%w: give the bucket's address without a path inside it", ErrLocator)
	}
	return Locator{kind: kind, region: region, bucket: bucket}.checked()
}
