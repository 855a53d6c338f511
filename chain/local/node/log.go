package node

import (
	"log/slog"

	"github.com/cometbft/cometbft/libs/log"
)

// logger hands CometBFT's warnings and errors to slog; the rest is noise to an operator.
type logger struct{ l *slog.Logger }

// Debug is dropped.
func (l logger) Debug(string, ...any) {}

// Info is dropped.
func (l logger) Info(string, ...any) {}

// Warn logs.
func (l logger) Warn(m string, kv ...any) { l.l.Warn(m, kv...) }

// Error logs.
func (l logger) Error(m string, kv ...any) { l.l.Error(m, kv...) }

// With adds fields.
func (l logger) With(kv ...any) log.Logger { return logger{l.l.With(kv...)} }
