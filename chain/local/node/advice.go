package node

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"sn3/chain/local/state"
)

// advice is what to do about an error of the data in an initialised folder.
func advice(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "the user of the node must be able to read and write the whole folder"
	}
	if errors.Is(err, syscall.EROFS) {
		return "the disk is mounted for reading only: mount it for writing, then start the node again"
	}
	if errors.Is(err, state.ErrVersion) {
		return "nothing was changed"
	}
	return "is the disk full? else the folder is damaged: restore it from a copy, or start a new network in another folder"
}

// caught turns what recover gave into an error; CometBFT panics with long texts.
func caught(doing string, r any) error {
	err, ok := r.(error)
	if !ok {
		text := fmt.Sprint(r)
		err = errors.New(text[:min(len(text), 300)])
	}
	return fmt.Errorf("%s: %w; %s", doing, err, advice(err))
}
