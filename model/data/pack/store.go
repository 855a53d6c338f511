package pack

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sn3/chain"
	"sn3/model/data"
)

// workFolder holds what an unfinished job needs to go on; it goes when the job is done.
const workFolder = ".pack"

// ErrLocked: another process packs into the folder.
var ErrLocked = errors.New("pack: another pack is at work in this folder")

// store is the output folder. Below workFolder are
//
//	journal       a header and a record per checkpoint, appended and synced
//	hashes        the first 16 bytes of every document's hash, in order
//	open-S-N      tokens of split S behind its N whole shards
//
// Everything but the journal is synced before the record that counts it, so after a crash whatever is longer is cut off.
type store struct {
	dir   string
	fault func(step string) error // tests end the process's life here; never nil

	journal, hashes *os.File
	open            [2]*os.File
	shards          [2]int // whole shards before open
	written         [2]int // bytes in open
}

func (s *store) path(name string) string { return filepath.Join(s.dir, workFolder, name) }

// start makes the folders and opens the journal; records is what an earlier life of the same job left.
func (s *store) start(h header) (records []record, err error) {
	if err := s.fault("start"); err != nil {
		return nil, err
	}
	for _, d := range []string{filepath.Join(s.dir, "data"), filepath.Join(s.dir, workFolder)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("make output folder: %w", err)
		}
	}
	if s.journal, err = os.OpenFile(s.path("journal"), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := s.fault("opened"); err != nil {
		return nil, err
	}
	if err := s.lock(); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(s.journal)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	old, records, size, ok, err := parseJournal(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w; delete %s to begin anew", err, filepath.Join(s.dir, workFolder))
	case ok && old.Job != h.Job:
		return nil, fmt.Errorf("%w: other inputs or options; give another --out, or delete %s to begin anew", ErrOtherJob, filepath.Join(s.dir, workFolder))
	case ok && old.Stamp != h.Stamp:
		return nil, fmt.Errorf("%w: an input file was changed since; delete %s to begin anew", ErrOtherJob, filepath.Join(s.dir, workFolder))
	}
	if err := cut(s.journal, int64(size)); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if !ok {
		return nil, s.write(h)
	}
	return records, nil
}

// lock makes sure that one process at a time works here; it ends with the process.
func (s *store) lock() error {
	err := syscall.Flock(int(s.journal.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: wait for it, or give another --out", ErrLocked)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w; choose an --out on a disk that knows file locks", s.path("journal"), err)
	}
	mine, err := s.journal.Stat()
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	if now, err := os.Stat(s.path("journal")); err != nil || !os.SameFile(mine, now) {
		return fmt.Errorf("%w: it ended just now; the same command says what it made", ErrLocked)
	}
	return nil
}

// openAt opens a file for writing behind its first size bytes; the rest is cut off.
func openAt(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := cut(f, size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// cut leaves the first size bytes of a file, and what is written next behind them.
func cut(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < size {
		return fmt.Errorf("%w: %s has %d bytes, the journal counts %d", ErrJournal, f.Name(), info.Size(), size)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	_, err = f.Seek(size, io.SeekStart)
	return err
}

// write appends a line to the journal and syncs it.
func (s *store) write(v any) error {
	b, err := line(v)
	if err != nil {
		return fmt.Errorf("encode journal: %w", err)
	}
	half := len(b) / 2
	if _, err := s.journal.Write(b[:half]); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := s.fault("half a line"); err != nil {
		return err
	}
	if _, err := s.journal.Write(b[half:]); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := s.journal.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	return s.fault("a line")
}

// restore brings back the hashes and the open tokens that the last record counts.
func (s *store) restore(records []record, b *data.Builder, set *seen) (record, error) {
	var last record
	var shards [2][]data.Shard
	for _, r := range records {
		last = r
		for i := range shards {
			shards[i] = append(shards[i], r.Shards[i]...)
		}
	}
	var err error
	if s.hashes, err = openAt(s.path("hashes"), last.Seen*seenKey); err != nil {
		return last, fmt.Errorf("open hashes: %w", err)
	}
	if err := s.recall(last.Seen, set); err != nil {
		return last, fmt.Errorf("read hashes: %w", err)
	}
	for i := range shards {
		if last.Open[i] < 0 || last.Open[i] > data.MaxShard || last.Open[i]%b.Width() != 0 {
			return last, fmt.Errorf("%w: %d bytes in an open shard", ErrJournal, last.Open[i])
		}
		s.shards[i] = len(shards[i])
		if s.open[i], err = openAt(s.openPath(i), int64(last.Open[i])); err != nil {
			return last, fmt.Errorf("open tokens: %w", err)
		}
		tokens := make([]byte, last.Open[i])
		if _, err := s.open[i].ReadAt(tokens, 0); err != nil && len(tokens) > 0 {
			return last, fmt.Errorf("read open tokens: %w", err)
		}
		s.written[i] = len(tokens)
		b.Resume(data.Split(i), shards[i], tokens)
	}
	return last, nil
}

func (s *store) openPath(i int) string { return s.path(fmt.Sprintf("open-%d-%d", i, s.shards[i])) }

// recall reads n hashes back.
func (s *store) recall(n int64, set *seen) error {
	buf := make([]byte, 4096*seenKey)
	for r := io.NewSectionReader(s.hashes, 0, n*seenKey); ; {
		got, err := io.ReadFull(r, buf)
		for at := 0; at+seenKey <= got; at += seenKey {
			if _, err := set.add(buf[at:]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// checkpoint makes everything up to r durable. hashes are those added since the last one.
func (s *store) checkpoint(r record, b *data.Builder, hashes []byte) error {
	if _, err := s.hashes.Write(hashes); err != nil {
		return fmt.Errorf("write hashes: %w", err)
	}
	if err := s.hashes.Sync(); err != nil {
		return fmt.Errorf("sync hashes: %w", err)
	}
	if err := s.fault("hashes"); err != nil {
		return err
	}
	var old []string
	for i := range s.open {
		split := data.Split(i)
		all := b.Shards(split)
		if r.Shards[i] = all[s.shards[i]:]; len(r.Shards[i]) > 0 { // what was open is a shard now
			old = append(old, s.openPath(i))
			if err := s.open[i].Close(); err != nil {
				return fmt.Errorf("close open tokens: %w", err)
			}
			s.shards[i], s.written[i] = len(all), 0
			var err error
			if s.open[i], err = openAt(s.openPath(i), 0); err != nil {
				return fmt.Errorf("begin open tokens: %w", err)
			}
		}
		tokens := b.Open(split)
		if _, err := s.open[i].Write(tokens[s.written[i]:]); err != nil {
			return fmt.Errorf("write open tokens: %w", err)
		}
		if err := s.open[i].Sync(); err != nil {
			return fmt.Errorf("sync open tokens: %w", err)
		}
		r.Open[i], s.written[i] = len(tokens), len(tokens)
		if err := s.fault("open tokens"); err != nil {
			return err
		}
	}
	if err := errors.Join(syncDir(filepath.Join(s.dir, "data")), syncDir(filepath.Join(s.dir, workFolder))); err != nil {
		return err
	}
	if err := s.write(r); err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return fmt.Errorf("remove open tokens: %w", err)
		}
	}
	return s.fault("checkpoint")
}

// put keeps an object under its hash. One that is there already was made by an earlier life of the job, or by another shard
// with the same tokens.
func (s *store) put(sum chain.Hash, b []byte) error {
	if err := keep(filepath.Join(s.dir, filepath.FromSlash(data.Key(sum))), b); err != nil {
		return err
	}
	return s.fault("object")
}

// keep writes a file, all or nothing, and syncs it.
func keep(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// close gives the files back; what was synced stays.
func (s *store) close() error {
	var errs []error
	for _, f := range []**os.File{&s.hashes, &s.open[0], &s.open[1], &s.journal} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(errs...)
}

// finish pins the dataset and cleans up.
func (s *store) finish(pin data.Pin) error {
	if err := syncDir(filepath.Join(s.dir, "data")); err != nil {
		return err
	}
	if err := keep(filepath.Join(s.dir, data.PinFile), pin.Encode()); err != nil {
		return fmt.Errorf("write %s: %w", data.PinFile, err)
	}
	if err := errors.Join(s.fault("pin"), syncDir(s.dir)); err != nil {
		return err
	}
	return s.clean()
}

// clean removes what was only needed to go on. The journal goes last, closed only then: whoever finds it may have the lock, but
// not the file of that name any more. Files are closed first where that can be, for network file systems keep open ones.
func (s *store) clean() error {
	if err := s.sweep(); err != nil || s.journal == nil { // Merge has no working folder
		return err
	}
	journal := s.journal
	s.journal = nil
	errs := []error{s.close()}
	left, err := os.ReadDir(s.path(""))
	for _, f := range left {
		if s.path(f.Name()) != journal.Name() {
			errs = append(errs, os.RemoveAll(s.path(f.Name())))
		}
	}
	errs = append(errs, err, os.Remove(journal.Name()), journal.Close())
	if err := os.Remove(s.path("")); !errors.Is(err, syscall.ENOTEMPTY) { // another process just began; it will see that all is done
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove working folder: %w", err)
	}
	return nil
}

// exists says whether something has that name.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// sweep removes files that a crash left half-written.
func (s *store) sweep() error {
	for _, pattern := range []string{filepath.Join(s.dir, "data", ".tmp-*"), filepath.Join(s.dir, ".tmp-*"), s.path("unpacked-*.tmp")} {
		left, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		for _, f := range left {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("sweep: %w", err)
			}
		}
	}
	return nil
}
