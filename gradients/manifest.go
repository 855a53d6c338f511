package gradients

import (
	"encoding/binary"
	"errors"

	"sn3/chain"
)

// ManifestLen is the length of every manifest.
const ManifestLen = 4 + 1 + 6*32 + 8 + 2 + 3*4 + 8

const (
	manifestMagic = "SN3M"
	manifestVer   = 1
)

// ErrManifest: the bytes are not a manifest.
var ErrManifest = errors.New("gradients: not a manifest")

// Manifest binds a payload to what it was made for. The record on chain holds its SHA-256, so it needs no signature.
type Manifest struct {
	Run        chain.Hash
	Window     chain.Window
	Shard      chain.Shard
	Hotkey     chain.Hotkey
	Base       chain.Hash // root(θ_{w-1}) that the pseudo-gradient is measured from
	Assignment chain.Hash // digest of the data assignment
	Consumed   uint32     // samples of it, from its start
	Steps      uint32     // inner steps made
	RebaseStep uint32     // of them before the shift to θ_{w-1}; 0 in gap wait
	Payload    chain.Hash // SHA-256 of the payload
	Sealed     chain.Hash // SHA-256 of what lies in the bucket; equal to Payload while payloads are not sealed
	Length     int64      // bytes in the bucket
}

// Encode writes the ManifestLen bytes, integers big-endian, in the order of the fields.
func (m Manifest) Encode() []byte {
	b := append([]byte(manifestMagic), manifestVer)
	b = append(b, m.Run[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Window))
	b = binary.BigEndian.AppendUint16(b, uint16(m.Shard))
	b = append(b, m.Hotkey[:]...)
	b = append(b, m.Base[:]...)
	b = append(b, m.Assignment[:]...)
	b = binary.BigEndian.AppendUint32(b, m.Consumed)
	b = binary.BigEndian.AppendUint32(b, m.Steps)
	b = binary.BigEndian.AppendUint32(b, m.RebaseStep)
	b = append(b, m.Payload[:]...)
	b = append(b, m.Sealed[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(m.Length))
}

// ParseManifest reads what Encode writes. The fields' meaning is checked by who knows the window.
func ParseManifest(b []byte) (m Manifest, err error) {
	if len(b) != ManifestLen || string(b[:4]) != manifestMagic || b[4] != manifestVer {
		return m, ErrManifest
	}
	b = b[5:]
	take := func(n int) []byte { x := b[:n]; b = b[n:]; return x }
	m.Run = chain.Hash(take(32))
	m.Window = chain.Window(binary.BigEndian.Uint64(take(8)))
	m.Shard = chain.Shard(binary.BigEndian.Uint16(take(2)))
	m.Hotkey = chain.Hotkey(take(32))
	m.Base = chain.Hash(take(32))
	m.Assignment = chain.Hash(take(32))
	m.Consumed = binary.BigEndian.Uint32(take(4))
	m.Steps = binary.BigEndian.Uint32(take(4))
	m.RebaseStep = binary.BigEndian.Uint32(take(4))
	m.Payload = chain.Hash(take(32))
	m.Sealed = chain.Hash(take(32))
	m.Length = int64(binary.BigEndian.Uint64(take(8)))
	if m.Length < 0 {
		return Manifest{}, ErrManifest
	}
	return m, nil
}
