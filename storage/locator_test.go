package storage

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	hexA = "00112233445566778899aabbccddeeff"
	hexB = "ffeeddccbbaa99887766554433221100"
	hexS = hexA + hexB
)

var goodLocators = []string{
	"local:alice", "local:a1-b2-c3", "s3:us-east-1/my-bucket", "s3:us-gov-west-1/abc", "s3:cn-north-1/abc", "gcs:bucket-1",
	"b2:us-west-004/abc", "b2:eu-central-003/" + strings.Repeat("x", 63),
	"r2:" + hexA + "/abc", "r2:" + hexA + "/abc?token=" + hexB + ":" + hexS, "r2:" + hexA + "/abc?public=" + hexB,
	"r2:" + hexA + "/" + strings.Repeat("y", 63) + "?token=" + hexB + ":" + hexS,
}

func TestLocatorForms(t *testing.T) {
	seen := map[string]string{}
	for _, s := range goodLocators {
		l, err := ParseLocatorString(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if l.String() != s {
			t.Errorf("%s prints as %s", s, l)
		}
		b := l.Encode()
		if len(b) > MaxLocator || seen[string(b)] != "" {
			t.Errorf("%s: %d bytes, same as %q", s, len(b), seen[string(b)])
		}
		seen[string(b)] = s
		if public := !strings.HasPrefix(s, "r2:") || strings.Contains(s, "?"); l.Public() != public {
			t.Errorf("%s: public %v", s, l.Public())
		}
		if again, err := ParseLocator(b); err != nil || again != l {
			t.Errorf("%s: decoded as %v, %v", s, again, err)
		}
	}
	l, err := ParseLocatorString(goodLocators[len(goodLocators)-1])
	if err != nil || len(l.Encode()) != MaxLocator {
		t.Errorf("longest locator has %d bytes, %v; want %d", len(l.Encode()), err, MaxLocator)
	}
}

func TestLocatorGoldenBytes(t *testing.T) {
	for s, want := range map[string]string{
		"local:alice":                                    "01" + hex.EncodeToString([]byte("alice")),
		"s3:us-east-1/abc":                               "0209" + hex.EncodeToString([]byte("us-east-1abc")),
		"r2:" + hexA + "/abc":                            "03" + hexA + "616263",
		"r2:" + hexA + "/abc?public=" + hexB:             "05" + hexA + hexB + "616263",
		"r2:" + hexA + "/abc?token=" + hexB + ":" + hexS: "04" + hexA + hexB + hexS + "616263",
		"gcs:abc":            "06616263",
		"b2:us-west-004/abc": "070b" + hex.EncodeToString([]byte("us-west-004abc")),
	} {
		l, err := ParseLocatorString(s)
		if got := hex.EncodeToString(l.Encode()); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", s, got, err, want)
		}
	}
}

func TestBadLocators(t *testing.T) {
	for _, s := range []string{
		"", "alice", ":", "local:", "local:ab", "local:Alice", "local:al ice", "local:al.ice", "local:-alice", "local:alice-",
		"local:al--ice", "local:xn--alice", "local:sthree-x", "local:x-s3alias", "local:al/ice", "local:../up", "local:10.0.0.1",
		"local:" + strings.Repeat("x", 64), "local:älice", "local:alice\x00",
		"s3:abc", "s3:/abc", "s3:us-east-1/", "s3:us-east-1/a/b/c", "s3:US-EAST-1/abc", "s3:useast1/abc", "s3:us-east-/abc", "s3:us--1/abc",
		"s3:us-east-1.evil.com/abc", "s3:us-east-1@evil/abc", "s3:eusc-de-east-1/abc", "s3:" + strings.Repeat("a-", 20) + "1/abc",
		"r2:abc", "r2:/abc", "r2:" + hexA[1:] + "/abc", "r2:" + strings.ToUpper(hexA) + "/abc", "r2:" + hexA + "/abc?", "r2:" + hexA + "/abc?public=",
		"r2:" + hexA + "/abc?public=" + hexS, "r2:" + hexA + "/abc?token=" + hexB, "r2:" + hexA + "/abc?token=" + hexB + ":" + hexB, "r2:" + hexA + "/abc?x=1",
		"https://s3.us-east-1.amazonaws.com/abc", "ftp:abc", "gcs:", "LOCAL:alice", " local:alice", "local:alice ",
	} {
		if l, err := ParseLocatorString(s); !errors.Is(err, ErrLocator) || l != (Locator{}) {
			t.Errorf("%q: %v, %v; want ErrLocator", s, l, err)
		}
	}
	for _, b := range [][]byte{
		nil, {0}, {1}, {8, 'a', 'b', 'c'}, {255}, {1, 'a', 'b'}, {2}, {2, 9}, {2, 0, 'a', 'b', 'c'}, {2, 255, 'a', 'b', 'c'},
		append([]byte{1}, make([]byte, 5)...), append([]byte{3}, make([]byte, 16)...), append([]byte{4}, make([]byte, 63)...),
		append([]byte{1}, bytes.Repeat([]byte("x"), 64)...), append([]byte{4}, bytes.Repeat([]byte("x"), 128)...),
	} {
		if l, err := ParseLocator(b); !errors.Is(err, ErrLocator) || l != (Locator{}) {
			t.Errorf("%x: %v, %v; want ErrLocator", b, l, err)
		}
	}
	if b := (Locator{}).Encode(); b != nil {
		t.Errorf("zero locator encodes as %x", b)
	}
}

func TestLocatorRoundTrip(t *testing.T) {
	bucket := rapid.StringMatching(`[a-z0-9](-?[a-z0-9]){2,31}`)
	region := rapid.StringMatching(`[a-z]{2}-[a-z]{1,12}(-[a-z]{1,5})?-[0-9]{1,3}`)
	id := rapid.StringMatching(`[0-9a-f]{32}`)
	rapid.Check(t, func(t *rapid.T) {
		name := bucket.Draw(t, "bucket")
		if strings.HasPrefix(name, "sthree-") || strings.HasSuffix(name, "-s3alias") {
			t.Skip("reserved")
		}
		r2 := "r2:" + id.Draw(t, "account") + "/" + name
		s := rapid.SampledFrom([]string{
			"local:" + name, "gcs:" + name, "s3:" + region.Draw(t, "s3") + "/" + name, "b2:" + region.Draw(t, "b2") + "/" + name,
			r2, r2 + "?public=" + id.Draw(t, "public"), r2 + "?token=" + id.Draw(t, "access") + ":" + id.Draw(t, "s1") + id.Draw(t, "s2"),
		}).Draw(t, "locator")
		l, err := ParseLocatorString(s)
		if err != nil || l.String() != s || l.Bucket() != name {
			t.Fatalf("%s: %v, %v", s, l, err)
		}
		if again, err := ParseLocator(l.Encode()); err != nil || again != l {
			t.Fatalf("%s: decoded as %v, %v", s, again, err)
		}
	})
}

func FuzzParseLocator(f *testing.F) {
	for _, s := range goodLocators {
		l, err := ParseLocatorString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(l.Encode())
	}
	f.Add([]byte{2, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLocator(b)
		if err != nil {
			if !errors.Is(err, ErrLocator) || l != (Locator{}) {
				t.Fatalf("%x: %v, %v", b, l, err)
			}
			return
		}
		if !bytes.Equal(l.Encode(), b) {
			t.Fatalf("%x encodes again as %x", b, l.Encode())
		}
		if again, err := ParseLocatorString(l.String()); err != nil || again != l {
			t.Fatalf("%x prints as %s, read again as %v, %v", b, l, again, err)
		}
		safeHost(t, l)
	})
}

func FuzzParseLocatorString(f *testing.F) {
	for _, s := range goodLocators {
		f.Add(s)
	}
	f.Add("s3:us-east-1@evil.com/abc")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLocatorString(s)
		if err != nil {
			if !errors.Is(err, ErrLocator) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if l.String() != s {
			t.Fatalf("%q prints as %q", s, l)
		}
		if again, err := ParseLocator(l.Encode()); err != nil || again != l {
			t.Fatalf("%q: decoded as %v, %v", s, again, err)
		}
		safeHost(t, l)
	})
}

// safeHost checks that whatever the locator is, its host is one of a provider's.
func safeHost(t *testing.T, l Locator) {
	t.Helper()
	for _, own := range []bool{false, true} {
		u := l.endpoint(9000, own).url
		if u == "http://127.0.0.1:9000" || u == "https://storage.googleapis.com" {
			continue
		}
		host, ok := strings.CutPrefix(u, "https://")
		known := false
		for _, suffix := range []string{".amazonaws.com", ".amazonaws.com.cn", ".r2.cloudflarestorage.com", ".r2.dev", ".backblazeb2.com"} {
			known = known || strings.HasSuffix(host, suffix)
		}
		if !ok || !known || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
			t.Fatalf("%v leads to %s", l, u)
		}
	}
}

func TestParseURL(t *testing.T) {
	for s, want := range map[string]string{
		"http://127.0.0.1:9000/alice":                       "local:alice",
		"http://127.0.0.1:9000/alice/":                      "local:alice",
		"https://s3.us-east-1.amazonaws.com/abc":            "s3:us-east-1/abc",
		"https://abc.s3.us-east-1.amazonaws.com/":           "s3:us-east-1/abc",
		"https://s3.us-west-004.backblazeb2.com/abc":        "b2:us-west-004/abc",
		"https://abc.s3.us-west-004.backblazeb2.com":        "b2:us-west-004/abc",
		"https://" + hexA + ".r2.cloudflarestorage.com/abc": "r2:" + hexA + "/abc",
		"https://storage.googleapis.com/abc":                "gcs:abc",
		"https://s3.cn-north-1.amazonaws.com.cn/abc":        "s3:cn-north-1/abc",
		"https://abc.s3.cn-north-1.amazonaws.com.cn":        "s3:cn-north-1/abc",
		"s3:us-east-1/abc":                                  "s3:us-east-1/abc",
	} {
		l, p, err := ParseURL(s)
		if err != nil || l.String() != want {
			t.Errorf("%s: %v, %v; want %s", s, l, err, want)
		}
		if local := l.Kind() == KindLocal; p.Loopback != local || local && p.LocalPort != 9000 || !local && p.LocalPort != 0 {
			t.Errorf("%s: policy %+v", s, p)
		}
	}
	for _, s := range []string{"", "local:alice", "http://example.com/abc", "http://10.0.0.1:80/abc", "http://127.0.0.1/abc", "http://localhost:9000/abc", "http://[::1]:9000/abc", "http://127.0.0.2:9000/abc", "http://[::ffff:127.0.0.1]:9000/abc",
		"https://example.com/abc", "https://s3.us-east-1.amazonaws.com.evil.com/abc", "https://user@storage.googleapis.com/abc",
		"https://storage.googleapis.com:8443/abc", "https://storage.googleapis.com/abc/def", "https://abc.s3.us-east-1.amazonaws.com/def", "ftp://127.0.0.1:1/abc", "https://%zz",
		"https://s3.cn-north-1.amazonaws.com/abc", "https://s3.us-east-1.amazonaws.com.cn/abc", "https://storage.googleapis.com/abc?x=1", "https://storage.googleapis.com/abc#x",
		"http://127.0.0.1:9000/alice?x=1", "http://me:pass@127.0.0.1:9000/alice", "http://127.0.0.1:9000/alice/payload", "http://127.0.0.1:9000/"} {
		if l, _, err := ParseURL(s); !errors.Is(err, ErrLocator) {
			t.Errorf("%q: %v, %v; want ErrLocator", s, l, err)
		}
	}
}

// Whatever a person types: a locator whose host is the one in the address, with the policy of that place, or ErrLocator.
func FuzzParseURL(f *testing.F) {
	for _, s := range append(goodLocators, "http://127.0.0.1:9000/alice", "https://abc.s3.us-east-1.amazonaws.com/", "https://s3.cn-north-1.amazonaws.com.cn/abc",
		"https://"+hexA+".r2.cloudflarestorage.com/abc", "https://storage.googleapis.com/abc", "https://abc.s3.us-west-004.backblazeb2.com") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, p, err := ParseURL(s)
		if err != nil {
			if !errors.Is(err, ErrLocator) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if again, err := ParseLocator(l.Encode()); err != nil || again != l {
			t.Fatalf("%q: decoded as %v, %v", s, again, err)
		}
		if p.Loopback != (l.Kind() == KindLocal) || p.any {
			t.Fatalf("%q: policy %+v", s, p)
		}
		safeHost(t, l)
		if host, ok := strings.CutPrefix(l.endpoint(0, true).url, "https://"); ok && strings.Contains(s, "://") && !strings.Contains(s, host) {
			t.Fatalf("%q leads to %s", s, host)
		}
	})
}
