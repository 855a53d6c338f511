//go:build !unix

package hf

import (
	"errors"
	"os"
)

// mapFile: nothing is mapped here; files are read.
func mapFile(*os.File, int64) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmap([]byte) error { return nil }
