package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sn3/chain"
	"sn3/chain/yuma"
)

// stateVersion is the first byte of the meta entry: the version of every encoding in this file. Their bytes enter the app
// hash, so a change of any of them is a change of the consensus rules.
const stateVersion = 6

// errForm: bytes that are not the canonical form of an entry.
var errForm = errors.New("not in canonical form")

// Least sizes of what lists hold.
const (
	neuronLen = 2*32 + 8 + 1 + 2*8 + 4*2 + 2*8
	recordLen = 32 + 8 + 2 + 32 + 2
	winnerLen = 2 + 32 + 2 + 2 + 32 + 2
	entryLen  = 2 + 2
)

// Numbers are big-endian, flags 0 or 1, lists and byte strings preceded by a u16 count. What a key says already is not
// repeated in its value.

func encodeMeta(m meta) []byte {
	b := append(make([]byte, 0, 121), stateVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Height))
	for _, x := range m.Money.fields() {
		b = binary.BigEndian.AppendUint64(b, uint64(*x))
	}
	for _, x := range [...]uint64{uint64(m.Cost.Last), uint64(m.Cost.At), m.Rules, m.Next.Rules, uint64(m.Next.At)} {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return b
}

func decodeMeta(v []byte) (meta, error) {
	if len(v) > 0 && v[0] != stateVersion {
		return meta{}, fmt.Errorf("%w: version %d, this program writes %d; start a new network in another folder, or use the release that made it",
			ErrVersion, v[0], stateVersion)
	}
	d := decoder{b: v}
	d.u8()
	m := meta{Height: chain.Block(d.u64())}
	for _, x := range m.Money.fields() {
		*x = chain.Amount(d.u64())
	}
	m.Cost, m.Rules, m.Next = cost{chain.Amount(d.u64()), chain.Block(d.u64())}, d.u64(), upgrade{d.u64(), chain.Block(d.u64())}
	if err := d.end(); err != nil {
		return meta{}, err
	}
	if m.Rules > NewestRules {
		return meta{}, fmt.Errorf("%w: made by rules of version %d, this program knows 1 to %d; install the release the network runs", ErrVersion, m.Rules, NewestRules)
	}
	return m, nil
}

func encodeAccount(a account) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(a.Balance))
	return binary.BigEndian.AppendUint64(b, a.Nonce)
}

func decodeAccount(v []byte) (account, error) {
	d := decoder{b: v}
	a := account{chain.Amount(d.u64()), d.u64()}
	return a, d.end()
}

func encodeHotkey(x hotkey) []byte {
	b := append([]byte(nil), x.Owner[:]...)
	for _, n := range [...]uint64{uint64(x.First), x.Times, uint64(x.Earned), uint64(x.Stake), x.Shares} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(b, x.Take), uint64(x.TakeAt))
}

func decodeHotkey(v []byte) (hotkey, error) {
	d := decoder{b: v}
	x := hotkey{Owner: d.h32(), First: chain.Block(d.u64()), Times: d.u64(), Earned: chain.Amount(d.u64()), Stake: chain.Amount(d.u64()), Shares: d.u64(),
		Take: d.u16(), TakeAt: chain.Block(d.u64())}
	return x, d.end()
}

func encodeShares(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// decodeShares: none are not kept.
func decodeShares(v []byte) (uint64, error) {
	d := decoder{b: v}
	n := d.u64()
	d.bad = d.bad || n == 0
	return n, d.end()
}

func encodeUnbonding(list []due) []byte {
	var b []byte
	for _, x := range list {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, uint64(x.At)), uint64(x.Amount))
	}
	return b
}

// decodeUnbonding reads at least one withdrawal, ascending.
func decodeUnbonding(v []byte) ([]due, error) {
	if len(v) == 0 || len(v)%16 != 0 || len(v) > 16*maxUnbonding {
		return nil, errForm
	}
	d := decoder{b: v}
	list := make([]due, len(v)/16)
	for i := range list {
		list[i] = due{chain.Block(d.u64()), chain.Amount(d.u64())}
		if i > 0 && list[i].At <= list[i-1].At {
			return nil, errForm
		}
	}
	return list, d.end()
}

func appendBytes(b, s []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendPublished writes all but the hotkey.
func appendPublished(b []byte, p chain.Published) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(p.At))
	b = appendBytes(b, p.Record.Locator)
	b = append(b, p.Record.Digest[:]...)
	return appendBytes(b, p.Record.Body)
}

func (d *decoder) published(h chain.Hotkey) chain.Published {
	p := chain.Published{Hotkey: h, At: chain.Block(d.u64())}
	p.Record.Locator = d.bytes()
	p.Record.Digest = d.h32()
	p.Record.Body = d.bytes()
	return p
}

func decodePublished(h chain.Hotkey, v []byte) (chain.Published, error) {
	d := decoder{b: v}
	p := d.published(h)
	return p, d.end()
}

// appendNeuron writes all but uid and balance.
func appendNeuron(b []byte, n *chain.Neuron) []byte {
	b = append(append(b, n.Hotkey[:]...), n.Coldkey[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(n.Stake))
	if n.Permit {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(n.RegisteredAt))
	b = binary.BigEndian.AppendUint64(b, uint64(n.LastUpdate))
	for _, x := range [...]uint16{n.Consensus, n.Incentive, n.Dividends, n.Trust} {
		b = binary.BigEndian.AppendUint16(b, x)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(n.Emission))
	return binary.BigEndian.AppendUint64(b, uint64(n.Earned))
}

func (d *decoder) neuron(uid chain.UID) chain.Neuron {
	n := chain.Neuron{UID: uid, Hotkey: d.h32(), Coldkey: d.h32(), Stake: chain.Amount(d.u64()), Permit: d.flag()}
	n.RegisteredAt, n.LastUpdate = chain.Block(d.u64()), chain.Block(d.u64())
	n.Consensus, n.Incentive, n.Dividends, n.Trust = d.u16(), d.u16(), d.u16(), d.u16()
	n.Emission, n.Earned = chain.Amount(d.u64()), chain.Amount(d.u64())
	return n
}

func encodeSeat(x seat) []byte {
	b := appendNeuron(nil, &x.Neuron)
	return appendRow(appendRow(b, x.Weights), x.Bonds)
}

func decodeSeat(uid int, v []byte) (seat, error) {
	d := decoder{b: v}
	x := seat{Neuron: d.neuron(chain.UID(uid)), Weights: d.row(), Bonds: d.row()}
	return x, d.end()
}

func appendRow(b []byte, row []yuma.Entry) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(row)))
	for _, e := range row {
		b = binary.BigEndian.AppendUint16(b, e.UID)
		b = binary.BigEndian.AppendUint16(b, e.Value)
	}
	return b
}

func (d *decoder) row() (row []yuma.Entry) {
	for n := d.count(entryLen); n > 0; n-- {
		row = append(row, yuma.Entry{UID: d.u16(), Value: d.u16()})
	}
	return row
}

func encodeSnapshot(s *chain.Snapshot) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(s.Neurons)))
	for i := range s.Neurons {
		b = appendNeuron(b, &s.Neurons[i])
		b = binary.BigEndian.AppendUint64(b, uint64(s.Neurons[i].Balance))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Records)))
	for _, p := range s.Records {
		b = appendPublished(append(b, p.Hotkey[:]...), p)
	}
	return b
}

func decodeSnapshot(at chain.Block, v []byte) (*chain.Snapshot, error) {
	d := decoder{b: v}
	s := &chain.Snapshot{Block: at}
	for uid := range d.count(neuronLen + 8) {
		n := d.neuron(chain.UID(uid))
		n.Balance = chain.Amount(d.u64())
		s.Neurons = append(s.Neurons, n)
	}
	for i := range d.count(recordLen) {
		p := d.published(d.h32())
		if i > 0 && !less(s.Records[i-1].Hotkey[:], p.Hotkey[:]) {
			return nil, errForm
		}
		s.Records = append(s.Records, p)
	}
	return s, d.end()
}

func encodeSelection(s chain.Selection) []byte {
	b := append([]byte(nil), s.Root[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Winners)))
	for _, w := range s.Winners {
		b = binary.BigEndian.AppendUint16(b, uint16(w.UID))
		b = binary.BigEndian.AppendUint16(append(b, w.Hotkey[:]...), uint16(w.Shard))
		b = append(appendBytes(b, w.Locator), w.Digest[:]...)
		b = binary.BigEndian.AppendUint16(b, w.Score)
	}
	return b
}

func decodeSelection(w chain.Window, v []byte) (chain.Selection, error) {
	d := decoder{b: v}
	s := chain.Selection{Window: w, Root: d.h32()}
	for n := d.count(winnerLen); n > 0; n-- {
		x := chain.Winner{Candidate: chain.Candidate{UID: chain.UID(d.u16()), Hotkey: d.h32(), Shard: chain.Shard(d.u16()), Locator: d.bytes(), Digest: d.h32()}}
		x.Score = d.u16()
		s.Winners = append(s.Winners, x)
	}
	return s, d.end()
}

// decoder takes fields off a slice; past the end it gives zeros and remembers. What it returns shares no memory with the slice.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.b, d.bad = nil, true
		return make([]byte, n)
	}
	x := d.b[:n]
	d.b = d.b[n:]
	return x
}

func (d *decoder) u8() byte      { return d.take(1)[0] }
func (d *decoder) u16() uint16   { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) u64() uint64   { return binary.BigEndian.Uint64(d.take(8)) }
func (d *decoder) h32() [32]byte { return [32]byte(d.take(32)) }
func (d *decoder) bytes() []byte { return append([]byte{}, d.take(int(d.u16()))...) }

func (d *decoder) flag() bool {
	x := d.u8()
	d.bad = d.bad || x > 1
	return x == 1
}

// count is the length of a list whose items have at least size bytes.
func (d *decoder) count(size int) int {
	n := int(d.u16())
	if n*size > len(d.b) {
		d.b, d.bad = nil, true
		return 0
	}
	return n
}

func (d *decoder) end() error {
	if d.bad || len(d.b) != 0 {
		return errForm
	}
	return nil
}
