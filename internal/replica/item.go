package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"sn3/chain"
	"sn3/storage"
)

// item is one object in the outbox, in a file of its own: "sn3outbox1", window u64, length of the key u16, key, the object's
// bytes, SHA-256 of all before. The file's name is its number in the queue.
type item struct {
	dir    string
	seq    uint64
	window chain.Window
	key    string
}

const (
	itemMagic = "sn3outbox1"
	itemHead  = len(itemMagic) + 8 + 2
)

// errItem: the file is not a whole item.
var errItem = errors.New("replica: not a whole outbox file")

func (it item) path() string { return filepath.Join(it.dir, fmt.Sprintf("%020d", it.seq)) }

func (it item) head() []byte {
	b := binary.BigEndian.AppendUint64([]byte(itemMagic), uint64(it.window))
	b = binary.BigEndian.AppendUint16(b, uint16(len(it.key)))
	return append(b, it.key...)
}

// write makes the file, all or nothing. A durable one is there after a power cut too; what can be fetched again need not be.
func (it item) write(object []byte, durable bool) error {
	return writeAtomic(it.path(), durable, func(w io.Writer) error {
		sum := sha256.New()
		for _, b := range [][]byte{it.head(), object} {
			sum.Write(b)
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		_, err := w.Write(sum.Sum(nil))
		return err
	})
}

// readItem reads what a file holds without the object.
func readItem(path string) (it item, err error) {
	it.dir = filepath.Dir(path)
	if it.seq, err = strconv.ParseUint(filepath.Base(path), 10, 64); err != nil || it.path() != path {
		return it, fmt.Errorf("%w: its name is no number", errItem)
	}
	f, err := os.Open(path)
	if err != nil {
		return it, err
	}
	defer f.Close()
	head := make([]byte, itemHead)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:len(itemMagic)]) != itemMagic {
		return it, fmt.Errorf("%w: wrong head", errItem)
	}
	it.window = chain.Window(binary.BigEndian.Uint64(head[len(itemMagic):]))
	key := make([]byte, binary.BigEndian.Uint16(head[len(itemMagic)+8:]))
	if _, err := io.ReadFull(f, key); err != nil {
		return it, fmt.Errorf("%w: wrong head", errItem)
	}
	if it.key = string(key); !storage.ValidKey(it.key) {
		return it, fmt.Errorf("%w: wrong key", errItem)
	}
	return it, nil
}

// read returns the object.
func (it item) read() ([]byte, error) {
	b, err := os.ReadFile(it.path())
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: it is gone", errItem)
	}
	if err != nil {
		return nil, err
	}
	head := it.head()
	body := len(b) - sha256.Size
	if body < len(head) || !bytes.Equal(b[:len(head)], head) {
		return nil, fmt.Errorf("%w: wrong head", errItem)
	}
	if sum := sha256.Sum256(b[:body]); !bytes.Equal(sum[:], b[body:]) {
		return nil, fmt.Errorf("%w: checksum differs", errItem)
	}
	return b[len(head):body], nil
}

func (it item) remove() error {
	if err := os.Remove(it.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove from outbox: %w", err)
	}
	return nil
}
