package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Account is one line of the accounts file of a local network's S3 server (s3d): a bucket and the key that may write it.
// It is the only place where a secret is written down, in a file of mode 0600.
type Account struct {
	Bucket    string `json:"bucket"`
	AccessKey string `json:"access_key"`
	Secret    string `json:"secret"`
}

const accountsForm = `want a JSON list of {"bucket": …, "access_key": …, "secret": …}, [] for none`

// String leaves out the secret.
func (a Account) String() string { return a.Bucket + " " + a.AccessKey }

// ReadAccounts reads and checks an accounts file, a JSON list of Account. Two accounts may not share a bucket or a key. The
// error about a missing file matches fs.ErrNotExist.
func ReadAccounts(path string) ([]Account, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w; %s", err, accountsForm)
	}
	var list []Account
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("read accounts %s: %w; %s", path, err, accountsForm)
	}
	if err := checkAccounts(list); err != nil {
		return nil, fmt.Errorf("read accounts %s: %w", path, err)
	}
	return list, nil
}

// WriteAccounts replaces an accounts file atomically, with mode 0600.
func WriteAccounts(path string, list []Account) error {
	if err := checkAccounts(list); err != nil {
		return fmt.Errorf("write accounts: %w", err)
	}
	b, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		return fmt.Errorf("encode accounts: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".accounts-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write accounts: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write accounts: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

func checkAccounts(list []Account) error {
	buckets, keys := map[string]bool{}, map[string]bool{}
	for _, a := range list {
		if err := validBucket(a.Bucket); err != nil {
			return err
		}
		if _, err := NewCredential(a.AccessKey, a.Secret); err != nil {
			return fmt.Errorf("bucket %s: %w", a.Bucket, err)
		}
		if buckets[a.Bucket] || keys[a.AccessKey] {
			return fmt.Errorf("bucket %s or access key %s is listed twice", a.Bucket, a.AccessKey)
		}
		buckets[a.Bucket], keys[a.AccessKey] = true, true
	}
	return nil
}
