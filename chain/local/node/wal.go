package node

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// keepWAL is how many full files of the consensus log stay beside the one being written. Each has 10 MiB; a restart reads
// back to the end of the height before, some kilobytes.
const keepWAL = 2

// trimWAL deletes the oldest full files of the consensus log. CometBFT would let them grow to 1 GiB.
func trimWAL(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("trim consensus log: %w", err)
	}
	var full []string
	for _, e := range entries {
		if digits, ok := strings.CutPrefix(e.Name(), "wal."); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			full = append(full, e.Name())
		}
	}
	slices.SortFunc(full, func(a, b string) int { // newest first; numbers have three digits at least
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(b, a))
	})
	for _, name := range full[min(keepWAL, len(full)):] {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("trim consensus log: %w", err)
		}
	}
	return nil
}
