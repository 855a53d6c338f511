package node

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"syscall"

	"github.com/cometbft/cometbft/libs/log"
)

// logger hands CometBFT's warnings and errors to slog; the rest is noise to an operator, and so is what its parts say of each
// other while the node closes.
type logger struct {
	l       *slog.Logger
	closing *atomic.Bool
	peers   bool        // it is of a part that deals with peers: their failures are ordinary, and mend themselves
	disk    func(error) // takes errors of the disk: after some of them CometBFT logs for ever and makes no block
}

// Debug is dropped.
func (l logger) Debug(string, ...any) {}

// Info is dropped.
func (l logger) Info(string, ...any) {}

// Warn logs.
func (l logger) Warn(m string, kv ...any) { l.log(slog.LevelWarn, m, kv) }

// Error logs.
func (l logger) Error(m string, kv ...any) {
	level := slog.LevelError
	if l.peers {
		level = slog.LevelWarn
	}
	l.log(level, m, kv)
	for _, v := range kv {
		if err, ok := v.(error); ok && ofDisk(err) {
			l.disk(err)
		}
	}
}

func (l logger) log(level slog.Level, m string, kv []any) {
	if !l.closing.Load() {
		l.l.Log(context.Background(), level, m, kv...)
	}
}

// ofDisk says whether an error means that files cannot be written any more.
func ofDisk(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// With adds fields.
func (l logger) With(kv ...any) log.Logger {
	peers := l.peers
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i] == "module" {
			peers = kv[i+1] == "p2p" || kv[i+1] == "pex" || kv[i+1] == "blocksync" || kv[i+1] == "statesync"
		}
	}
	return logger{l.l.With(kv...), l.closing, peers, l.disk}
}
