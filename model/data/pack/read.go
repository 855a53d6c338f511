package pack

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// Limits on what one file can make the reader hold.
const (
	// MaxDocument is the longest document, in bytes of text. A longer one is cut at line ends into documents of their own.
	MaxDocument = 8 << 20
	// MaxLine is the longest line of JSON; a longer one counts as bad.
	MaxLine = 32 << 20

	maxWindow = 128 << 20 // of zstd: files made with --long=31 are refused
)

// item is what a file holds at one place: raw text, a line of JSON, or the reason why there is none.
type item struct {
	raw  []byte
	line bool   // raw is JSON
	at   uint64 // line, row or piece of the file, from 1
	bad  error
}

// counter counts what is read, for the progress.
type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// source reads files.
type source struct {
	column string
	tmp    string // folder for parquet files that are to be unpacked
	read   *atomic.Int64

	scratch []byte
}

// items yields what is in a file, in order. What is wrong in the file is an item that says so, the last one if the rest cannot
// be read; an error is one of the disk, of ctx or of yield.
func (s *source) items(ctx context.Context, in input, yield func(item) error) error {
	f, err := os.Open(in.path)
	if err != nil {
		return fmt.Errorf("read input: %w", err)
	}
	defer f.Close()
	var stopped error // what yield said: never mistaken for the file's fault
	each := func(x item) error {
		if stopped = ctx.Err(); stopped == nil {
			stopped = yield(x)
		}
		return stopped
	}
	if in.kind == parquetFile {
		err = s.parquet(f, in, each)
	} else {
		err = s.stream(f, in, each)
	}
	if stopped == nil && (err == nil || isBroken(err)) {
		stopped = unchanged(f, in)
	}
	switch {
	case stopped != nil:
		return stopped
	case isBroken(err):
		return each(item{bad: fmt.Errorf("the rest of the file cannot be read: %w", err)})
	case err != nil:
		return fmt.Errorf("read input: %w", err)
	}
	return nil
}

// ErrChanged: a file is not the one that was listed. Another life would skip other documents in it.
var ErrChanged = errors.New("pack: an input was changed while it was read")

// unchanged compares a file, after it was read, with what was listed.
func unchanged(f *os.File, in input) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read input: %w", err)
	}
	if info.Size() != in.size || info.ModTime().UnixNano() != in.stamp {
		return fmt.Errorf("%w: %s; begin anew when it is complete", ErrChanged, in.path)
	}
	return nil
}

func (s *source) stream(f *os.File, in input, yield func(item) error) error {
	r, done, err := unpack(counter{f, s.read}, in.packed)
	if err != nil {
		return err
	}
	defer done()
	if r, err = withoutMark(r); err != nil {
		return err
	}
	if in.kind == textFile {
		return s.texts(r, yield)
	}
	return lines(r, yield)
}

// byteOrderMark says in front of a text that it is UTF-8; it is no part of it.
const byteOrderMark = "\uFEFF"

// withoutMark is r behind its byte order mark, if it has one.
func withoutMark(r io.Reader) (io.Reader, error) {
	head := make([]byte, len(byteOrderMark))
	n, err := io.ReadFull(r, head)
	switch {
	case string(head[:n]) == byteOrderMark:
		return r, nil
	case err == nil:
		return io.MultiReader(bytes.NewReader(head), r), nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF): // r says itself which of them it is
		return io.MultiReader(bytes.NewReader(head[:n]), r), nil
	}
	return nil, err
}

// unpack undoes gzip or zstd, streaming.
func unpack(r io.Reader, packed string) (out io.Reader, done func(), err error) {
	switch packed {
	case ".gz":
		z, err := gzip.NewReader(bufio.NewReaderSize(r, 256<<10))
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return z, func() {}, nil
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd: %w", err)
		}
		return z, z.Close, nil
	}
	return r, func() {}, nil
}

// texts yields a text, cut at line ends if it is longer than a document may be.
func (s *source) texts(r io.Reader, yield func(item) error) error {
	if s.scratch == nil {
		s.scratch = make([]byte, MaxDocument+1)
	}
	n := 0 // bytes of scratch left from the piece before
	for at := uint64(1); ; at++ {
		var err error
		for n < len(s.scratch) && err == nil {
			var got int
			got, err = r.Read(s.scratch[n:])
			n += got
		}
		end := n
		if err == nil {
			end = cutAt(s.scratch[:MaxDocument])
		} else if !errors.Is(err, io.EOF) {
			return err
		}
		if end > 0 || at == 1 { // an empty file is an empty document
			if err := yield(item{raw: append([]byte(nil), s.scratch[:end]...), at: at}); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		n = copy(s.scratch, s.scratch[end:])
	}
}

// cutAt is where a text that is too long is cut: after the last line end, else before the last character.
func cutAt(b []byte) int {
	if i := bytes.LastIndexByte(b, '\n'); i > 0 {
		return i + 1
	}
	at := len(b) - 1
	for at > len(b)-4 && b[at]&0xC0 == 0x80 {
		at--
	}
	return at
}

// lines yields the lines that are not blank.
func lines(r io.Reader, yield func(item) error) error {
	br := bufio.NewReaderSize(r, 256<<10)
	var line []byte
	long := false
	for at := uint64(1); ; {
		part, err := br.ReadSlice('\n')
		if !long && len(line)+len(part) > MaxLine {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		x := item{raw: bytes.TrimSpace(line), line: true, at: at}
		if long {
			x = item{bad: fmt.Errorf("a line longer than %d MiB", MaxLine>>20), at: at}
		}
		if len(x.raw) > 0 || long {
			if err := yield(x); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		line, long, at = nil, false, at+1
	}
}
