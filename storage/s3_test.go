package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// served is a bucket "abc" behind a handler, spoken to as p wants it.
func served(t *testing.T, p Provider, c *Credential, h http.HandlerFunc) *Bucket {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	b, err := OpenEndpoint(Endpoint{URL: srv.URL, Bucket: "abc", Region: "us-east-1", Provider: p}, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>AccessDenied NoSuchKey SlowDown</Message></Error>", code)
}

// The code decides, then the status, never the message (which here names three other codes).
func TestErrorsByCode(t *testing.T) {
	cases := []struct {
		status int
		code   string
		want   error
	}{
		{404, "NoSuchKey", ErrNotFound}, {404, "NoSuchBucket", ErrNotFound}, {301, "PermanentRedirect", ErrNotFound}, {404, "", ErrNotFound},
		{403, "AccessDenied", ErrDenied}, {403, "SignatureDoesNotMatch", ErrDenied}, {400, "ExpiredToken", ErrDenied}, {401, "", ErrDenied}, {403, "Whatever", ErrDenied},
		{503, "SlowDown", ErrUnavailable}, {500, "InternalError", ErrUnavailable}, {502, "", ErrUnavailable}, {429, "", ErrUnavailable},
		{416, "InvalidRange", ErrMismatch}, {412, "PreconditionFailed", ErrExists}, {413, "", ErrTooLarge},
		{400, "MalformedXML", nil}, {418, "", nil},
	}
	var at atomic.Int32
	b := served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) {
		c := cases[at.Load()]
		refuse(w, c.status, c.code)
	})
	for i, c := range cases {
		at.Store(int32(i))
		_, err := b.Get(t.Context(), "key", 10)
		if err == nil || kindOf(err) != c.want {
			t.Errorf("%d %s: %v; want kind %v", c.status, c.code, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "RequestID") || !strings.HasPrefix(err.Error(), "get key: ")) {
			t.Errorf("%d %s: unclear error %q", c.status, c.code, err)
		}
	}
}

func TestStormIsRiddenOutQuickly(t *testing.T) {
	var n atomic.Int32
	b := served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%maxAttempts != 0 {
			refuse(w, 503, "SlowDown")
			return
		}
		_, _ = w.Write([]byte("hello"))
	})
	start := time.Now()
	got, err := b.Get(t.Context(), "key", 10)
	if err != nil || string(got) != "hello" || n.Load() != maxAttempts {
		t.Errorf("%q, %v after %d attempts", got, err, n.Load())
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("seven retries took %s", took)
	}
}

// Many failures must not use up the retries of later calls, as the SDK's own quota would have it after about 60.
func TestNoRetryQuota(t *testing.T) {
	var good atomic.Bool
	var n atomic.Int32
	b := served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) {
		if good.Load() && n.Add(1) == maxAttempts {
			_, _ = w.Write([]byte("hello"))
			return
		}
		refuse(w, 500, "InternalError")
	})
	var wg sync.WaitGroup
	for range 80 {
		wg.Go(func() {
			if _, err := b.Get(t.Context(), "key", 10); !errors.Is(err, ErrUnavailable) {
				t.Errorf("failing server: %v", err)
			}
		})
	}
	wg.Wait()
	good.Store(true)
	if _, err := b.Get(t.Context(), "key", 10); err != nil {
		t.Errorf("after 80 failed calls only %d attempts: %v", n.Load(), err)
	}
}

func TestEndlessObjectIsNotRead(t *testing.T) {
	var sent atomic.Int64
	b := served(t, ProviderOther, nil, func(w http.ResponseWriter, r *http.Request) {
		for chunk := make([]byte, 64<<10); ; {
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil || r.Context().Err() != nil {
				return
			}
		}
	})
	if _, err := b.Get(t.Context(), "key", 1000); !errors.Is(err, ErrTooLarge) {
		t.Errorf("get: %v, want ErrTooLarge", err)
	}
	if err := b.Fetch(t.Context(), "key", 1000, [32]byte{}, discard{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("fetch: %v, want ErrTooLarge", err)
	}
	if n := sent.Load(); n > 64<<20 { // what fits into socket buffers; endless otherwise
		t.Errorf("the server got rid of %d bytes", n)
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestServerThatIgnoresRanges(t *testing.T) {
	b := served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 10)) })
	if _, err := b.GetRange(t.Context(), "key", 5, 5); !errors.Is(err, ErrMismatch) {
		t.Errorf("%v, want ErrMismatch", err)
	}
}

func TestListOfALiar(t *testing.T) {
	list := func(keys ...string) string {
		s := "<ListBucketResult><IsTruncated>true</IsTruncated>"
		for _, k := range keys {
			s += "<Contents><Key>" + k + "</Key><Size>1</Size></Contents>"
		}
		return s + "</ListBucketResult>"
	}
	for name, body := range map[string]string{
		"the same page for ever": list("a", "b"),
		"descending":             list("b", "a"),
		"broken XML":             "<ListBucketResult><Contents><Key>a</",
	} {
		b := served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		if got, err := b.List(t.Context(), "", "", 10); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v, %v; want ErrMismatch", name, got, err)
		}
	}
	b := served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Replace(list("../up", "/abs", "a//b", "good", "with space"), "true", "false", 1))
	})
	if got, err := b.List(t.Context(), "", "", 10); err != nil || len(got) != 1 || got[0].Key != "good" {
		t.Errorf("odd keys: %v, %v; want only good", got, err)
	}
	more := strings.Replace(list("other/1", "w/1", "w/2", "w/3", "w/4", "x"), "true", "false", 1)
	b = served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, more) })
	if got, err := b.List(t.Context(), "w/", "", 10); err != nil || fmt.Sprint(got) != "[{w/1 1} {w/2 1} {w/3 1} {w/4 1}]" {
		t.Errorf("other prefixes: %v, %v", got, err)
	}
	if got, err := b.List(t.Context(), "", "", 3); err != nil || fmt.Sprint(got) != "[{other/1 1} {w/1 1} {w/2 1}]" {
		t.Errorf("more than asked for: %v, %v", got, err)
	}
	minus := "<ListBucketResult><Contents><Key>a</Key><Size>-5</Size></Contents></ListBucketResult>"
	b = served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, minus) })
	if got, err := b.List(t.Context(), "", "", 3); err != nil || len(got) != 0 {
		t.Errorf("a negative size: %v, %v", got, err)
	}
}

// A server that answers a listing without end is cut off soon, so that what is parsed stays small.
func TestEndlessListing(t *testing.T) {
	var sent atomic.Int64
	b := served(t, ProviderOther, nil, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.WriteString(w, "<ListBucketResult>")
		for sent.Add(int64(n)); r.Context().Err() == nil; sent.Add(int64(n)) {
			var err error
			if n, err = io.WriteString(w, strings.Repeat("<Contents></Contents>", 1000)); err != nil {
				return
			}
		}
	})
	if got, err := b.List(t.Context(), "", "", 10); err == nil || len(got) != 0 {
		t.Errorf("%d objects, %v", len(got), err)
	}
	if n := sent.Load(); n > maxAttempts*(maxListBody+32<<20) { // what fits into socket buffers; endless otherwise
		t.Errorf("the server got rid of %d bytes", n)
	}
}

// seen records requests and answers as an empty but friendly server.
type seen struct {
	mu   sync.Mutex
	reqs []*http.Request
}

func (s *seen) handle(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	s.reqs = append(s.reqs, r)
	s.mu.Unlock()
	if r.Method == http.MethodPost {
		_, _ = io.WriteString(w, "<DeleteResult></DeleteResult>")
	}
}

// last returns the latest request.
func (s *seen) last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reqs[len(s.reqs)-1]
}

func TestProfiles(t *testing.T) {
	c, err := NewCredential("alice-key", testSecret)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Providers() {
		s := &seen{}
		b := served(t, p, c, s.handle)
		if p == ProviderAWS { // a virtual host of an address does not resolve; see TestAmazon
			continue
		}
		if err := b.PutReader(t.Context(), "key", bytes.NewReader(make([]byte, 1000)), 1000); err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		r := s.last()
		if r.URL.Path != "/abc/key" || r.ContentLength != 1000 {
			t.Errorf("%s: put %s with %d bytes", p, r.URL.Path, r.ContentLength)
		}
		for _, h := range []string{"X-Amz-Checksum-Crc32", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Trailer"} {
			if v := r.Header.Get(h); v != "" {
				t.Errorf("%s: %s: %s, which it may refuse", p, h, v)
			}
		}
		auth := r.Header.Get("Authorization")
		if !strings.Contains(auth, "Credential=alice-key/") || strings.Contains(auth, testSecret) {
			t.Errorf("%s: not signed by alice: %q", p, auth)
		}
		if signed := strings.Contains(auth, "accept-encoding"); signed && p == ProviderGCS {
			t.Error("gcs: Accept-Encoding is signed")
		}
		if err := b.Delete(t.Context(), "a", "b"); err != nil {
			t.Errorf("%s: delete: %v", p, err)
		}
		if batch := s.last().Method == http.MethodPost; batch != p.profile().batchDelete {
			t.Errorf("%s: batch delete %v", p, batch)
		}
	}
}

// transport is a function as http.RoundTripper.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Amazon is spoken to by virtual host, over TLS, with a checksum, signed for the locator's region.
func TestAmazon(t *testing.T) {
	c, err := NewCredential("alice-key", testSecret)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseLocatorString("s3:eu-west-1/abc")
	if err != nil {
		t.Fatal(err)
	}
	var last *http.Request
	h := &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		last = r
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})}
	b := NewBucket(newS3(l.endpoint(0, true), c, h))
	if err := b.Put(t.Context(), "payload/x", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if u := last.URL.String(); u != "https://abc.s3.eu-west-1.amazonaws.com/payload/x?x-id=PutObject" {
		t.Errorf("put to %s", u)
	}
	if auth := last.Header.Get("Authorization"); !strings.Contains(auth, "/eu-west-1/s3/") {
		t.Errorf("signed as %q", auth)
	}
	if last.Header.Get("X-Amz-Checksum-Crc32") == "" && last.Header.Get("X-Amz-Trailer") == "" {
		t.Errorf("no checksum: %v", last.Header)
	}
	if _, err := b.Get(t.Context(), "payload/x", 10); err != nil || last.URL.Host != "abc.s3.eu-west-1.amazonaws.com" {
		t.Errorf("get from %s: %v", last.URL, err)
	}
}

// A refusal says what is wrong, so that an operator knows what to change.
func TestRefusalsSayWhatToDo(t *testing.T) {
	for code, says := range map[string]string{"RequestTimeTooSkewed": "clock", "SignatureDoesNotMatch": "wrong secret", "InvalidAccessKeyId": "does not know this access key",
		"PermanentRedirect": "another region", "AuthorizationHeaderMalformed": "another region", "InsufficientStorage": "disk is full"} {
		status := map[string]int{"InsufficientStorage": 507, "PermanentRedirect": 301}[code]
		b := served(t, ProviderOther, nil, func(w http.ResponseWriter, _ *http.Request) { refuse(w, max(status, 400), code) })
		if err := b.Put(t.Context(), "key", nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q in it", code, err, says)
		}
	}
}

// Whatever the environment of the machine holds, an anonymous bucket stays anonymous and where it is.
func TestEnvironmentIsIgnored(t *testing.T) {
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "stray-key", "AWS_SECRET_ACCESS_KEY": "stray-secret", "AWS_REGION": "mars-north-1",
		"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_CA_BUNDLE": "/nowhere", "AWS_PROFILE": "stray", "AWS_NEW_RETRIES_2026": "true",
	} {
		t.Setenv(k, v)
	}
	s := &seen{}
	b := served(t, ProviderOther, nil, s.handle)
	if _, err := b.Get(t.Context(), "key", 10); err != nil {
		t.Fatal(err)
	}
	if auth := s.last().Header.Get("Authorization"); auth != "" {
		t.Errorf("signed as %q", auth)
	}
}

func TestEndpointTemplates(t *testing.T) {
	for s, want := range map[string][3]string{ // url without and with an own credential, region
		"local:alice":                        {"http://127.0.0.1:9000", "http://127.0.0.1:9000", "us-east-1"},
		"s3:eu-west-1/abc":                   {"https://s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com", "eu-west-1"},
		"s3:cn-north-1/abc":                  {"https://s3.cn-north-1.amazonaws.com.cn", "https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"},
		"gcs:abc":                            {"https://storage.googleapis.com", "https://storage.googleapis.com", "auto"},
		"b2:us-west-004/abc":                 {"https://s3.us-west-004.backblazeb2.com", "https://s3.us-west-004.backblazeb2.com", "us-west-004"},
		"r2:" + hexA + "/abc":                {"https://" + hexA + ".r2.cloudflarestorage.com", "https://" + hexA + ".r2.cloudflarestorage.com", "auto"},
		"r2:" + hexA + "/abc?public=" + hexB: {"https://pub-" + hexB + ".r2.dev", "https://" + hexA + ".r2.cloudflarestorage.com", "auto"},
	} {
		l, err := ParseLocatorString(s)
		if err != nil {
			t.Fatal(err)
		}
		foreign, own := l.endpoint(9000, false), l.endpoint(9000, true)
		if got := [3]string{foreign.url, own.url, own.region}; got != want {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
		if foreign.bucketless != strings.Contains(s, "?public=") || own.bucketless {
			t.Errorf("%s: bucket in the path: %v, %v", s, !foreign.bucketless, !own.bucketless)
		}
	}
}

// An r2.dev address has no bucket in its path; a published token signs.
func TestR2Reading(t *testing.T) {
	s := &seen{}
	srv := httptest.NewServer(http.HandlerFunc(s.handle))
	defer srv.Close()
	public := NewBucket(newS3(endpoint{provider: ProviderR2, url: srv.URL, region: "auto", bucket: "abc", bucketless: true}, nil, srv.Client()))
	if _, err := public.Get(t.Context(), "payload/x", 10); err != nil || s.last().URL.Path != "/payload/x" || s.last().Header.Get("Authorization") != "" {
		t.Errorf("public: %v, %s, %v", err, s.last().URL, s.last().Header)
	}
	l, err := ParseLocatorString("r2:" + hexA + "/abc?token=" + hexB + ":" + hexS)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(l, nil, DialPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	d, ok := b.d.(*s3Driver)
	if !ok {
		t.Fatalf("driver %T", b.d)
	}
	creds, err := d.api.Options().Credentials.Retrieve(t.Context())
	if err != nil || creds.AccessKeyID != hexB || creds.SecretAccessKey != hexS {
		t.Errorf("token of the locator is not used: %s, %v", creds.AccessKeyID, err)
	}
}
