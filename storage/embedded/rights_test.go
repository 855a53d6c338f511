package embedded_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"sn3/storage"
)

// ask sends one request as it is, signed by c unless that is nil, and returns status and body.
func ask(t *testing.T, c *storage.Credential, method, path string, header map[string]string, body []byte) (int, string) {
	t.Helper()
	u, err := url.Parse("http://" + server.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, u.String(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.URL = u // with dots and escapes as given
	for k, v := range header {
		r.Header.Set(k, v)
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", hash)
	if c != nil {
		who := aws.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.Reveal()}
		sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if err := sign.SignHTTP(t.Context(), who, r, hash, "s3", "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// tree lists every file of the server but those of alice's own objects, with sizes.
func tree(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(serverDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if own := filepath.Join(serverDir, "objects", "alice"); strings.HasPrefix(path, own) {
			return nil
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&out, path, info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// An account writes objects of its own bucket and does nothing else: no buckets, no permissions, nobody else's objects by
// whatever path, no administration; who has no account does not even that.
func TestRightsEndAtTheOwnBucket(t *testing.T) {
	if err := open(t, "bob", credential(bobKey, bobSecret), 0).Put(t.Context(), "k", []byte("bob's")); err != nil {
		t.Fatal(err)
	}
	if err := open(t, "alice", credential(aliceKey, aliceSecret), 0).Put(t.Context(), "k", []byte("alice's")); err != nil {
		t.Fatal(err)
	}
	const everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::BUCKET","arn:aws:s3:::BUCKET/*"]}]}`
	type request struct {
		method, path, body string
		header             map[string]string
	}
	requests := []request{
		{"PUT", "/mallory", "", nil},
		{"PATCH", "/create-user", `<Account><Access>mallory</Access><Secret>mallory-secret</Secret><Role>admin</Role></Account>`, nil},
		{"PATCH", "/delete-user?access=" + bobKey, "", nil}, {"PATCH", "/list-users", "", nil}, {"PATCH", "/list-buckets", "", nil},
		{"PATCH", "/change-bucket-owner?bucket=bob&owner=" + aliceKey, "", nil},
		{"PUT", "/bob/k", "alice's", nil}, {"DELETE", "/bob/k", "", nil}, {"PUT", "/bob/new", "alice's", nil}, {"POST", "/bob/k?uploads", "", nil},
		{"GET", "/bob?uploads", "", nil}, {"PUT", "/bob/copied", "", map[string]string{"X-Amz-Copy-Source": "/alice/k"}},
		{"POST", "/bob?delete", `<Delete><Object><Key>k</Key></Object></Delete>`, nil},
		{"PUT", "/alice/../bob/new", "x", nil}, {"PUT", "/alice/%2e%2e/bob/new", "x", nil}, {"PUT", "/alice/..%2fbob%2fnew", "x", nil},
		{"PUT", "/alice/x/../../bob/new", "x", nil}, {"PUT", "/alice%2f..%2fbob/new", "x", nil}, {"PUT", "/../new", "x", nil}, {"PUT", "/alice/..%2f..%2f..%2fnew", "x", nil},
		{"GET", "/alice/%2e%2e/%2e%2e/lock", "", nil}, {"GET", "/alice/..%2f..%2flock", "", nil},
	}
	for _, bucket := range []string{"alice", "bob"} {
		for sub, body := range map[string]string{
			"policy":            strings.ReplaceAll(everything, "BUCKET", bucket),
			"acl":               `<AccessControlPolicy><Owner><ID>alice-key</ID></Owner><AccessControlList></AccessControlList></AccessControlPolicy>`,
			"ownershipControls": `<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>`,
			"versioning":        `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`,
			"tagging":           `<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>`,
			"object-lock":       `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>`,
			"cors":              `<CORSConfiguration><CORSRule><AllowedMethod>PUT</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>`,
		} {
			requests = append(requests, request{"PUT", "/" + bucket + "?" + sub, body, nil}, request{"DELETE", "/" + bucket + "?" + sub, "", nil})
		}
		requests = append(requests, request{"DELETE", "/" + bucket, "", nil}, request{"PUT", "/" + bucket + "/k?acl", "", map[string]string{"X-Amz-Acl": "private"}},
			request{"PUT", "/" + bucket + "/k?legal-hold", `<LegalHold><Status>ON</Status></LegalHold>`, nil})
	}
	before := tree(t)
	for name, who := range map[string]*storage.Credential{"nobody": nil, "alice": credential(aliceKey, aliceSecret)} {
		for _, r := range requests {
			if status, body := ask(t, who, r.method, r.path, r.header, []byte(r.body)); status < 400 || status >= 500 {
				t.Errorf("%s: %s %s: HTTP %d %.200s; want a refusal", name, r.method, r.path, status, body)
			}
		}
	}
	for _, r := range []request{{"PUT", "/alice/new", "x", nil}, {"DELETE", "/alice/k", "", nil}, {"POST", "/alice/k?uploads", "", nil}, {"GET", "/", "", nil}} {
		if status, _ := ask(t, nil, r.method, r.path, nil, []byte(r.body)); status != http.StatusForbidden {
			t.Errorf("nobody: %s %s: HTTP %d, want 403", r.method, r.path, status)
		}
	}
	if after := tree(t); after != before {
		t.Errorf("files changed:\n%s\nwere:\n%s", after, before)
	}
	if status, body := ask(t, nil, "GET", "/bob/k", nil, nil); status != http.StatusOK || body != "bob's" {
		t.Errorf("bob's object: HTTP %d %q", status, body)
	}
}
