package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// lockFile is held by the process that uses a folder. The databases' own locks are not enough: a node that fetches its state
// deletes and replaces them, and whoever came then would delete what the first one uses, and sign with the same key.
const lockFile = "lock"

// lockHome takes a folder for this process until it is given back, or the process ends.
func lockHome(home string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(home, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock node folder: %w; %s", err, advice(err))
	}
	if err := tryLock(f); err != nil {
		return nil, errors.Join(inUse(home), f.Close())
	}
	return f.Close, nil
}

func inUse(home string) error {
	return fmt.Errorf("%w (%s): stop it, or give this one another --home", ErrInUse, home)
}
