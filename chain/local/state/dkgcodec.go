package state

import (
	"bytes"
	"encoding/binary"
	"slices"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
)

// encodeMaking is the stored form of the last outcome and of the making on its way.
func encodeMaking(o outcome, m *making) []byte {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{o.how}, uint64(o.from)), uint64(o.at))
	if m == nil {
		return append(b, 0)
	}
	b = append(b, byte(len(m.members)))
	for _, n := range [...]uint64{uint64(m.from), uint64(m.start), uint64(m.phase)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for i, x := range m.members {
		b = append(append(append(b, x.validator[:]...), x.key[:]...), m.guilty[i])
	}
	return b
}

func decodeMaking(network string, v []byte) (o outcome, m *making, err error) {
	d := decoder{b: v}
	o = outcome{how: d.u8(), from: chain.Round(d.u64()), at: chain.Block(d.u64())}
	n := int(d.u8())
	d.bad = d.bad || o.how >= madeKinds || n > beacon.MaxMembers
	if n == 0 || d.bad {
		return o, nil, d.end()
	}
	m = &making{from: chain.Round(d.u64()), start: chain.Block(d.u64()), phase: chain.Block(d.u64())}
	for range n {
		m.members = append(m.members, member{d.h32(), beacon.MemberKey(d.take(beacon.MemberKeyLen))})
		m.guilty = append(m.guilty, d.u8())
		d.bad = d.bad || int(m.guilty[len(m.guilty)-1]) > n
	}
	if err := d.end(); err != nil {
		return o, nil, err
	}
	if m.open(network) != nil {
		return o, nil, errForm
	}
	return o, m, nil
}

// loadKey enters a stored key; keys come in any order.
func (s *State) loadKey(from chain.Round, v []byte) error {
	k, err := beacon.ParseKey(v)
	if err != nil || k.From != from || from == 0 || slices.ContainsFunc(s.keys, func(x *beacon.Key) bool { return x.From == from }) {
		return errForm
	}
	s.keys = append(s.keys, k)
	slices.SortFunc(s.keys, func(a, b *beacon.Key) int {
		return bytes.Compare([]byte(number(uint64(a.From))), []byte(number(uint64(b.From))))
	})
	return nil
}

// loadDealing enters a stored dealing.
func (s *State) loadDealing(id dealingID, v []byte) error {
	d, err := dkg.ParseDealing(v)
	if err != nil || d.Dealer != int(id.dealer) {
		return errForm
	}
	s.dealings[id] = bytes.Clone(v)
	return nil
}
