package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/posix"

	"sn3/storage"
)

// AddAccount adds an access key without a bucket, or replaces its secret. Errors match storage.ErrCredential.
func (s *Server) AddAccount(access, secret string) error {
	if _, err := storage.NewCredential(access, secret); err != nil {
		return fmt.Errorf("add account: %w", err)
	}
	s.accounts.set(access, secret)
	return nil
}

// RemoveAccount forgets an access key; its bucket stays, readable as before. See Retire for a key that goes on elsewhere.
func (s *Server) RemoveAccount(access string) { s.accounts.remove(access) }

// AddBucket makes a bucket with an account of its own that may write it; all others may only read it. For a bucket that
// exists it sets account and permissions anew, which also repairs one that a crash left half made.
func (s *Server) AddBucket(name, access, secret string) error {
	if _, err := storage.Local(name); err != nil {
		return fmt.Errorf("add bucket: %w", err)
	}
	if err := s.AddAccount(access, secret); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	acl, err := json.Marshal(auth.ACL{Owner: access})
	if err != nil {
		return fmt.Errorf("add bucket %s: %w", name, err)
	}
	policy, err := policyOf(name, &access)
	if err != nil {
		return fmt.Errorf("add bucket %s: %w", name, err)
	}
	ctx := context.Background() // local file operations, not worth interrupting halfway
	const owned = types.ObjectOwnershipBucketOwnerEnforced
	_, err = os.Stat(filepath.Join(s.dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = s.backend.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name, ObjectOwnership: owned,
			CreateBucketConfiguration: &types.CreateBucketConfiguration{}}, acl)
	case err == nil:
		err = errors.Join(s.backend.PutBucketAcl(ctx, name, acl), s.backend.PutBucketOwnershipControls(ctx, name, owned))
	}
	if err == nil {
		err = s.backend.PutBucketPolicy(ctx, name, policy)
	}
	if err != nil {
		return fmt.Errorf("add bucket %s: %w", name, err)
	}
	return nil
}

// Buckets are the names of all buckets there are, with an account or not.
func (s *Server) Buckets() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, err := storage.Local(e.Name()); err == nil && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Retire makes a bucket one that all may read and nobody may write, whatever account wrote it before.
func (s *Server) Retire(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	policy, err := policyOf(name, nil)
	if err == nil {
		err = s.backend.PutBucketPolicy(context.Background(), name, policy)
	}
	if err != nil {
		return fmt.Errorf("retire bucket %s: %w", name, err)
	}
	return nil
}

// policyOf lets owner, if there is one, write and everyone read and list. The policy must name the owner: with one in place
// the library does not look at ownership.
func policyOf(bucket string, owner *string) ([]byte, error) {
	type statement struct {
		Effect    string
		Principal any
		Action    []string
		Resource  []string
	}
	whole := []string{"arn:aws:s3:::" + bucket, "arn:aws:s3:::" + bucket + "/*"}
	rules := []statement{{"Allow", "*", []string{"s3:GetObject", "s3:ListBucket"}, whole}}
	if owner != nil {
		rules = append(rules, statement{"Allow", map[string]string{"AWS": *owner}, []string{"s3:PutObject", "s3:DeleteObject"}, whole[1:]})
	}
	return json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": rules})
}

// leftover matches the names under which the library links an object before it renames it over an older one.
var leftover = regexp.MustCompile(`^\..*\.sgwtmp\.[0-9]+$`)

// sweep removes what uploads leave behind when the process is killed, which the library never does.
func sweep(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == posix.MetaTmpDir:
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return fs.SkipDir
		case !d.IsDir() && leftover.MatchString(d.Name()):
			return os.Remove(path)
		}
		return nil
	})
}
