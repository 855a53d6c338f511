package storage

import (
	"context"
	"errors"
	"strings"
)

// What a caller decides by. Every error of a Bucket matches at most one of the first six; a cancelled context stays
// context.Canceled, an expired one is ErrUnavailable and context.DeadlineExceeded.
var (
	ErrNotFound    = errors.New("not found")           // no such object or bucket: its owner's doing
	ErrDenied      = errors.New("access denied")       // credential, policy, or an address that must not be dialled
	ErrUnavailable = errors.New("storage unavailable") // nobody's fault, try again: no answer, too slow, overloaded
	ErrTooLarge    = errors.New("object too large")    // more bytes than the caller asked for
	ErrMismatch    = errors.New("wrong content")       // too short, or not the promised hash
	ErrExists      = errors.New("object exists")       // PutOptions.IfAbsent

	ErrLocator    = errors.New("invalid locator")    // malformed, or not allowed on this network
	ErrCredential = errors.New("invalid credential") // malformed
)

// opError says which operation failed on which key, and why. kind is a sentinel or nil.
type opError struct {
	op, key string
	kind    error
	err     error
}

func (e *opError) Error() string {
	s := e.op
	if e.key != "" {
		s += " " + e.key
	}
	var why string
	if e.err != nil {
		why = brief(e.err)
	}
	if e.kind != nil && !strings.HasPrefix(why, e.kind.Error()) {
		s += ": " + e.kind.Error()
	}
	if why != "" {
		s += ": " + why
	}
	return s
}

func (e *opError) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.kind, e.err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// kindOf is the sentinel that err matches, or nil.
func kindOf(err error) error {
	for _, kind := range []error{ErrNotFound, ErrDenied, ErrUnavailable, ErrTooLarge, ErrMismatch, ErrExists} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return nil
}

// failed names the operation in err and gives it a kind: what has none by now never got an answer.
func failed(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(err)
	switch cause := context.Cause(ctx); {
	case kind != nil && kind != ErrUnavailable: // an answer, even if the caller left meanwhile
	case errors.Is(cause, errSlow):
		kind, err = ErrUnavailable, cause
	case errors.Is(cause, context.DeadlineExceeded):
		kind, err = ErrUnavailable, cause
	case cause != nil:
		kind, err = nil, context.Canceled
	case kind == nil && !answered(err):
		kind = ErrUnavailable
	}
	return &opError{op: op, key: key, kind: kind, err: err}
}

// answered says whether err is a server's refusal without a kind, or trouble of this machine.
func answered(err error) bool {
	var remote *remoteError
	var local *localError
	return errors.As(err, &remote) || errors.As(err, &local)
}

// localError is trouble on this side, such as a full disk; the server is not to blame.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// brief shortens text that may come from a remote machine: one line, printable, at most 200 bytes.
func brief(err error) string {
	const most = 200
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, detail(err))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
