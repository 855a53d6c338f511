package pack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// parquet yields the values of one column, row group by row group and page by page.
func (s *source) parquet(f *os.File, in input, yield func(item) error) (err error) {
	size := in.size
	if in.packed != "" { // rows are found from the end of the file: it must lie there whole
		if f, size, err = s.whole(f, in.packed); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	}
	defer func() { // the library panics on some malformed files
		if p := recover(); p != nil {
			err = fmt.Errorf("parquet: %v", p)
		}
	}()
	r := counted{f, s, in.packed != ""}
	p, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	leaf, ok := p.Schema().Lookup(s.column) // a name may have dots of its own
	if !ok {
		leaf, ok = p.Schema().Lookup(strings.Split(s.column, ".")...)
	}
	if !ok || !leaf.Node.Leaf() {
		return fmt.Errorf("parquet: no column %q; it has %s (--column)", s.column, columns(p))
	}
	if k := leaf.Node.Type().Kind(); k != parquet.ByteArray && k != parquet.FixedLenByteArray || leaf.MaxRepetitionLevel > 0 {
		return fmt.Errorf("parquet: column %q does not hold one text per row", s.column)
	}
	at := uint64(0)
	for _, group := range p.RowGroups() {
		if err := column(group.ColumnChunks()[leaf.ColumnIndex], &at, yield); err != nil {
			return err
		}
	}
	return nil
}

// columns lists the names of the leaves.
func columns(p *parquet.File) string {
	var names []string
	for _, path := range p.Schema().Columns() {
		names = append(names, strings.Join(path, "."))
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	return strings.Join(names, ", ")
}

// column yields the values of a chunk; at counts rows.
func column(chunk parquet.ColumnChunk, at *uint64, yield func(item) error) (err error) {
	pages := chunk.Pages()
	defer func() { err = errors.Join(err, pages.Close()) }()
	values := make([]parquet.Value, 64)
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("parquet: %w", err)
		}
		err = eachValue(page.Values(), values, at, yield)
		parquet.Release(page)
		if err != nil {
			return err
		}
	}
}

func eachValue(r parquet.ValueReader, values []parquet.Value, at *uint64, yield func(item) error) error {
	for {
		n, err := r.ReadValues(values)
		for _, v := range values[:n] {
			*at++
			x := item{at: *at}
			if !v.IsNull() {
				x.raw = append([]byte(nil), v.ByteArray()...)
			}
			if err := yield(x); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("parquet: %w", err)
		case n == 0:
			return errors.New("parquet: a page yields nothing")
		}
	}
}

// whole unpacks a file into the working folder.
func (s *source) whole(f *os.File, packed string) (*os.File, int64, error) {
	r, done, err := unpack(counter{f, s.read}, packed)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	out, err := os.CreateTemp(s.tmp, "unpacked-*.tmp")
	if err != nil {
		return nil, 0, err
	}
	n, err := io.Copy(out, r)
	if err != nil {
		return nil, 0, errors.Join(err, out.Close(), os.Remove(out.Name()))
	}
	return out, n, nil
}

// counted counts what is read of a file that is read in place.
type counted struct {
	r      io.ReaderAt
	s      *source
	silent bool // it was counted when it was unpacked
}

// ReadAt implements io.ReaderAt.
func (c counted) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 { // what the file says, not the disk
		return 0, errors.New("an offset outside the file")
	}
	n, err := c.r.ReadAt(b, off)
	if !c.silent {
		c.s.read.Add(int64(n))
	}
	return n, err
}
