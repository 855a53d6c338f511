package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sn3/chain"
)

const (
	magic   = "SN3A"
	version = 1
	head    = len(magic) + 1 + 8 + 32 + 32 + 1
)

// MaxAnnouncement is the most bytes an announcement takes.
const MaxAnnouncement = head + chain.MaxLocator

// ErrAnnouncement: the bytes are not a canonical announcement.
var ErrAnnouncement = errors.New("gossip: not a canonical announcement")

// Announcement says that a miner published its submission for a window, before the record is in a block. It is a hint: what it
// says is checked against the chain and the bytes behind it.
//
// Bytes: magic "SN3A", version u8 = 1, window u64 BE, hotkey 32, digest 32, length u8 of the locator, at most 128, locator.
type Announcement struct {
	Window  chain.Window
	Hotkey  chain.Hotkey
	Digest  chain.Hash // SHA-256(manifest), as in the record
	Locator []byte     // of the miner's bucket, as in the record
}

// Encode writes the canonical bytes; a locator too long for a record is an error.
func (a Announcement) Encode() ([]byte, error) {
	if len(a.Locator) > chain.MaxLocator {
		return nil, fmt.Errorf("encode announcement: locator of %d bytes, at most %d", len(a.Locator), chain.MaxLocator)
	}
	b := make([]byte, 0, head+len(a.Locator))
	b = append(b, magic...)
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Window))
	b = append(b, a.Hotkey[:]...)
	b = append(b, a.Digest[:]...)
	b = append(b, byte(len(a.Locator)))
	return append(b, a.Locator...), nil
}

// Parse is the only reader of an announcement; Parse(b) ok implies Encode gives b.
func Parse(b []byte) (Announcement, error) {
	if len(b) < head || len(b) > MaxAnnouncement || string(b[:len(magic)]) != magic || b[len(magic)] != version {
		return Announcement{}, ErrAnnouncement
	}
	if len(b) != head+int(b[head-1]) {
		return Announcement{}, ErrAnnouncement
	}
	r := b[len(magic)+1:]
	a := Announcement{Window: chain.Window(binary.BigEndian.Uint64(r)), Hotkey: chain.Hotkey(r[8:40]), Digest: chain.Hash(r[40:72])}
	a.Locator = append([]byte{}, b[head:]...)
	return a, nil
}
