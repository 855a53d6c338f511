package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"sn3/model/data"
)

// ErrJournal: the journal of an unfinished job is damaged in a way that a crash does not explain.
var ErrJournal = errors.New("pack: the journal is damaged")

// ErrOtherJob: the folder holds the work of a job with other inputs or options.
var ErrOtherJob = errors.New("pack: the folder holds the unfinished work of another job")

// header is the first line of a journal.
type header struct {
	Job   string `json:"job"`   // of the options and the inputs' names and sizes
	Stamp string `json:"stamp"` // of the inputs' times of change on this machine
}

// record is a checkpoint: all that came before it is on disk. Shards are those finished since the record before.
type record struct {
	At     position        `json:"at"`
	Source data.Source     `json:"source"`
	Seen   int64           `json:"seen"` // hashes in the file of hashes
	Open   [2]int          `json:"open"` // bytes in the files of tokens that fill no shard yet
	Shards [2][]data.Shard `json:"shards"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line is a value as it stands in the journal: CRC-32C in 8 hex digits, a space, JSON, a line end.
func line(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(b, castagnoli), b), nil
}

// unline is the JSON of a line without its end; ok is false for what line did not write.
func unline(l []byte) (b []byte, ok bool) {
	if len(l) < 9 || l[8] != ' ' {
		return nil, false
	}
	want, err := strconv.ParseUint(string(l[:8]), 16, 32)
	if err != nil || uint32(want) != crc32.Checksum(l[9:], castagnoli) {
		return nil, false
	}
	return l[9:], true
}

// parseJournal reads the header and the records, and how many bytes of b they are. What follows them was torn by a crash; a
// whole line among it is damage (ErrJournal). An empty or torn header is none: ok is false.
func parseJournal(b []byte) (h header, records []record, size int, ok bool, err error) {
	for at := 0; at < len(b); {
		end := bytes.IndexByte(b[at:], '\n')
		raw, good := []byte(nil), false
		if end >= 0 {
			raw, good = unline(b[at : at+end])
		}
		if !good {
			return h, records, size, ok, torn(b[at:])
		}
		if !ok {
			err = strict(raw, &h)
		} else {
			var r record
			err = strict(raw, &r)
			records = append(records, r)
		}
		if err != nil {
			return h, nil, 0, false, fmt.Errorf("%w: %w", ErrJournal, err)
		}
		ok, at, size = true, at+end+1, at+end+1
	}
	return h, records, size, ok, nil
}

func strict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// torn refuses a rest in which a whole line still stands.
func torn(rest []byte) error {
	for l := range bytes.Lines(rest) {
		if _, ok := unline(bytes.TrimSuffix(l, []byte("\n"))); ok && l[len(l)-1] == '\n' {
			return fmt.Errorf("%w: whole lines stand behind a broken one", ErrJournal)
		}
	}
	return nil
}
