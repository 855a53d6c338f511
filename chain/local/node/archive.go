package node

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	digest "hash"
	"io"
	"os"

	"sn3/chain"
	"sn3/chain/local/state"
)

// An archive is the whole state of a chain at one height in one file: a snapshot for nodes that join, or what chaind export
// writes. docs/FORMAT.md has its bytes.

const (
	archiveMagic  = "SN3C\x01" // the file
	manifestMagic = "SN3A\x01" // its table of contents, the metadata of a snapshot among peers

	chunkSize  = 4 << 20 // of a new archive; a message between peers carries one chunk
	leastChunk = 256
	maxChunks  = 1 << 14
	maxGenesis = 64 << 20
	maxKey     = 1 << 10
	maxValue   = 64 << 20
)

// ErrArchive: bytes that are no archive, or not a whole one.
var ErrArchive = errors.New("node: this is no whole archive of a chain's state")

// manifest says what an archive holds. Its hash names the archive among peers.
type manifest struct {
	genesis chain.Hash
	height  chain.Block
	appHash chain.Hash
	rules   uint64 // of the block after height
	entries uint64
	size    uint64 // of all entries, in bytes
	chunk   uint32 // bytes in every chunk but the last
	hashes  []chain.Hash
}

func (m *manifest) encode() []byte {
	b := append([]byte(manifestMagic), m.genesis[:]...)
	b = append(binary.BigEndian.AppendUint64(b, uint64(m.height)), m.appHash[:]...)
	for _, x := range [...]uint64{m.rules, m.entries, m.size} {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	b = binary.BigEndian.AppendUint32(b, m.chunk)
	for _, h := range m.hashes {
		b = append(b, h[:]...)
	}
	return b
}

const manifestLen = len(manifestMagic) + 32 + 8 + 32 + 3*8 + 4 // without hashes

func decodeManifest(b []byte) (*manifest, error) {
	if len(b) < manifestLen || string(b[:len(manifestMagic)]) != manifestMagic {
		return nil, fmt.Errorf("%w: another form of manifest, perhaps of a later release", ErrArchive)
	}
	b = b[len(manifestMagic):]
	m := &manifest{genesis: chain.Hash(b[:32]), height: chain.Block(binary.BigEndian.Uint64(b[32:])), appHash: chain.Hash(b[40:72])}
	m.rules, m.entries, m.size = binary.BigEndian.Uint64(b[72:]), binary.BigEndian.Uint64(b[80:]), binary.BigEndian.Uint64(b[88:])
	m.chunk = binary.BigEndian.Uint32(b[96:])
	list := b[100:]
	if m.chunk < leastChunk || m.chunk > chunkSize || m.size == 0 || m.size > maxChunks*uint64(m.chunk) || m.height == 0 || uint64(m.height) > 1<<62 {
		return nil, fmt.Errorf("%w: sizes out of bounds", ErrArchive)
	}
	n := (m.size + uint64(m.chunk) - 1) / uint64(m.chunk)
	if uint64(len(list)) != 32*n {
		return nil, fmt.Errorf("%w: %d bytes of hashes for %d chunks", ErrArchive, len(list), n)
	}
	for ; len(list) > 0; list = list[32:] {
		m.hashes = append(m.hashes, chain.Hash(list[:32]))
	}
	return m, nil
}

// length of a chunk in bytes.
func (m *manifest) length(i int) int {
	return int(min(uint64(m.chunk), m.size-uint64(i)*uint64(m.chunk)))
}

// check says whether bytes are chunk i.
func (m *manifest) check(i int, chunk []byte) error {
	if i < 0 || i >= len(m.hashes) || len(chunk) != m.length(i) || sha256.Sum256(chunk) != m.hashes[i] {
		return fmt.Errorf("%w: chunk %d of %d is not what the manifest says", ErrArchive, i+1, len(m.hashes))
	}
	return nil
}

// pack writes an archive: its head, then entries by put in ascending order of their keys, then finish.
type pack struct {
	w    *bufio.Writer
	m    manifest
	sum  digest.Hash
	fill uint32 // bytes in the chunk being written
}

func newPack(w io.Writer, genesis []byte, chunk uint32) (*pack, error) {
	p := &pack{w: bufio.NewWriterSize(w, 1<<16), m: manifest{chunk: chunk}, sum: sha256.New()}
	head := binary.BigEndian.AppendUint32([]byte(archiveMagic), uint32(len(genesis)))
	_, err := p.w.Write(append(head, genesis...))
	return p, err
}

func (p *pack) put(k, v []byte) error {
	p.m.entries++
	head := append(binary.BigEndian.AppendUint16(nil, uint16(len(k))), k...)
	for _, b := range [][]byte{binary.BigEndian.AppendUint32(head, uint32(len(v))), v} {
		for len(b) > 0 {
			n := min(len(b), int(p.m.chunk-p.fill))
			if _, err := p.w.Write(b[:n]); err != nil {
				return err
			}
			p.sum.Write(b[:n])
			p.m.size += uint64(n)
			if p.fill += uint32(n); p.fill == p.m.chunk {
				p.cut()
			}
			b = b[n:]
		}
	}
	return nil
}

func (p *pack) cut() {
	p.m.hashes = append(p.m.hashes, chain.Hash(p.sum.Sum(nil)))
	p.sum.Reset()
	p.fill = 0
}

// finish writes the manifest. What it says of the state is given.
func (p *pack) finish(genesis chain.Hash, height chain.Block, appHash chain.Hash, rules uint64) (*manifest, error) {
	if p.fill > 0 {
		p.cut()
	}
	p.m.genesis, p.m.height, p.m.appHash, p.m.rules = genesis, height, appHash, rules
	raw := p.m.encode()
	if _, err := decodeManifest(raw); err != nil {
		return nil, fmt.Errorf("the state is too large for an archive: %w", err)
	}
	if _, err := p.w.Write(binary.BigEndian.AppendUint32(raw, uint32(len(raw)))); err != nil {
		return nil, err
	}
	return &p.m, p.w.Flush()
}

// unpack takes the chunks of an archive in order and gives its entries.
type unpack struct {
	m       *manifest
	next    int    // chunk
	rest    []byte // of an entry that goes on in the next chunk
	last    []byte // key
	entries uint64
}

// add takes the next chunk. The entries' memory is valid during the call.
func (u *unpack) add(chunk []byte, entry func(k, v []byte) error) error {
	if err := u.m.check(u.next, chunk); err != nil {
		return err
	}
	u.next++
	u.rest = append(u.rest, chunk...)
	b := u.rest
	for {
		k, v, rest, ok, err := cutEntry(b)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if u.entries > 0 && bytes.Compare(u.last, k) >= 0 {
			return fmt.Errorf("%w: its entries are not in order", ErrArchive)
		}
		u.entries++
		u.last = append(u.last[:0], k...)
		if err := entry(k, v); err != nil {
			return err
		}
		b = rest
	}
	if len(b) < len(u.rest) {
		u.rest = append(u.rest[:0], b...)
	}
	if u.done() && (len(u.rest) > 0 || u.entries != u.m.entries) {
		return fmt.Errorf("%w: %d entries and %d bytes, the manifest says %d entries", ErrArchive, u.entries, len(u.rest), u.m.entries)
	}
	return nil
}

func (u *unpack) done() bool { return u.next == len(u.m.hashes) }

// cutEntry takes an entry off the front; ok is false if it is not whole yet.
func cutEntry(b []byte) (k, v, rest []byte, ok bool, err error) {
	if len(b) < 2 {
		return nil, nil, b, false, nil
	}
	n := int(binary.BigEndian.Uint16(b))
	if n == 0 || n > maxKey {
		return nil, nil, nil, false, fmt.Errorf("%w: a key of %d bytes", ErrArchive, n)
	}
	if len(b) < 2+n+4 {
		return nil, nil, b, false, nil
	}
	k, b2 := b[2:2+n], b[2+n:]
	size := binary.BigEndian.Uint32(b2)
	if size > maxValue {
		return nil, nil, nil, false, fmt.Errorf("%w: a value of %d bytes", ErrArchive, size)
	}
	if len(b2) < 4+int(size) {
		return nil, nil, b, false, nil
	}
	return k, b2[4 : 4+size], b2[4+size:], true, nil
}

// archive is an open file.
type archive struct {
	*manifest
	raw     []byte // manifest
	genesis []byte
	f       *os.File
	at      int64 // where the entries begin
}

func openArchive(path string) (_ *archive, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open archive %s: %w", path, err), f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a, size := &archive{f: f}, info.Size()
	part := func(at, n int64) (b []byte) {
		if at < 0 || n < 0 || n > maxGenesis || at+n > size {
			err = fmt.Errorf("%w: it is too short; copy it again", ErrArchive)
		}
		if err == nil {
			b = make([]byte, n)
			_, err = f.ReadAt(b, at)
		}
		return b
	}
	head := part(0, int64(len(archiveMagic)+4))
	if err == nil && string(head[:len(archiveMagic)]) != archiveMagic {
		err = fmt.Errorf("%w: it begins otherwise", ErrArchive)
	}
	foot := part(size-4, 4)
	if err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(foot))
	a.raw = part(size-4-n, n)
	a.genesis = part(int64(len(head)), int64(binary.BigEndian.Uint32(head[len(archiveMagic):])))
	if err != nil {
		return nil, err
	}
	if a.manifest, err = decodeManifest(a.raw); err != nil {
		return nil, err
	}
	if a.at = int64(len(head) + len(a.genesis)); uint64(a.at)+a.size+uint64(n)+4 != uint64(size) {
		return nil, fmt.Errorf("%w: it has %d bytes; copy it again", ErrArchive, size)
	}
	return a, nil
}

func (a *archive) close() error { return a.f.Close() }

// read gives the bytes of chunk i, unchecked.
func (a *archive) read(i int) ([]byte, error) {
	if i < 0 || i >= len(a.hashes) {
		return nil, nil
	}
	b := make([]byte, a.length(i))
	if _, err := a.f.ReadAt(b, a.at+int64(i)*int64(a.chunk)); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return b, nil
}

// each gives all entries, checked against the manifest.
func (a *archive) each(entry func(k, v []byte) error) error {
	u := unpack{m: a.manifest}
	for i := range a.hashes {
		b, err := a.read(i)
		if err != nil {
			return err
		}
		if err := u.add(b, entry); err != nil {
			return err
		}
	}
	return nil
}

// origin is the genesis that an archive's chain began with.
func (a *archive) origin() (*state.Genesis, error) {
	g, err := state.ParseGenesis(a.genesis)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	h, err := g.Hash()
	if err == nil && h != a.manifest.genesis {
		err = fmt.Errorf("%w: its genesis has the hash %s, its manifest says %s", ErrArchive, h.Short(), a.manifest.genesis.Short())
	}
	return g, err
}

// name is the hash of a manifest's bytes.
func (a *archive) name() []byte {
	h := sha256.Sum256(a.raw)
	return h[:]
}
