package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sn3/chain"
)

// PinFile says which dataset a folder, or a bucket it was copied to, holds.
const PinFile = "dataset.json"

// Pin is the content of PinFile.
type Pin struct {
	Manifest chain.Hash `json:"manifest"`      // SHA-256 of the object data/<it>
	Root     chain.Hash `json:"root"`          // as in the run descriptor
	Job      string     `json:"job,omitempty"` // of the options and inputs that made it
}

// Encode writes the file.
func (p Pin) Encode() []byte {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil { // hashes and strings always encode
		return nil
	}
	return append(b, '\n')
}

// ParsePin reads what Encode wrote.
func ParsePin(b []byte) (p Pin, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("parse %s: %w", PinFile, err)
	}
	if !bytes.Equal(p.Encode(), b) {
		return p, fmt.Errorf("parse %s: not as this program writes it", PinFile)
	}
	return p, nil
}

// ReadPin reads the pin of a folder; os.ErrNotExist if it holds no finished dataset.
func ReadPin(dir string) (Pin, error) {
	b, err := Folder(dir).Get(context.Background(), PinFile, 1<<20)
	if err != nil {
		return Pin{}, fmt.Errorf("read %s: %w", PinFile, err)
	}
	return ParsePin(b)
}

// ReadManifest reads and checks the manifest of a folder.
func ReadManifest(dir string, p Pin) (*Manifest, error) {
	return GetManifest(context.Background(), Folder(dir), p)
}

// GetManifest reads and checks a pinned manifest.
func GetManifest(ctx context.Context, g Getter, p Pin) (*Manifest, error) {
	b, err := g.Get(ctx, Key(p.Manifest), MaxManifest)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if chain.Hash(sha256.Sum256(b)) != p.Manifest {
		return nil, fmt.Errorf("read manifest %s: %w", p.Manifest, ErrCorrupt)
	}
	m, err := ParseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", p.Manifest, err)
	}
	if m.Root() != p.Root {
		return nil, fmt.Errorf("manifest %s has root %s, pinned is %s: %w", p.Manifest, m.Root(), p.Root, ErrCorrupt)
	}
	return m, nil
}

// Folder is a local folder with the objects of a bucket. It is a Ranger and a Getter.
type Folder string

func (f Folder) path(key string) string { return filepath.Join(string(f), filepath.FromSlash(key)) }

// GetRange implements Ranger.
func (f Folder) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(key))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if off < 0 || n < 0 || off > info.Size() || n > info.Size()-off {
		return nil, fmt.Errorf("read %s: %d bytes from %d on of %d", key, n, off, info.Size())
	}
	b := make([]byte, n)
	if _, err := file.ReadAt(b, off); err != nil && !(errors.Is(err, io.EOF) && n == 0) {
		return nil, err
	}
	return b, nil
}

// Get reads a whole object of at most max bytes.
func (f Folder) Get(ctx context.Context, key string, max int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(key))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("read %s: more than %d bytes", key, max)
	}
	return b, nil
}
