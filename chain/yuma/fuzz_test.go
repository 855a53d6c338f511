package yuma

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
)

// reader takes values off bytes; past the end all are zero.
type reader []byte

func (r *reader) byte() byte {
	if len(*r) == 0 {
		return 0
	}
	b := (*r)[0]
	*r = (*r)[1:]
	return b
}

// u64 is of any size: the first byte says how many of eight follow.
func (r *reader) u64() uint64 {
	var b [8]byte
	for i := range r.byte() % 9 {
		b[i] = r.byte()
	}
	return binary.LittleEndian.Uint64(b[:])
}

func (r *reader) u16() uint16 { return uint16(r.byte()) | uint16(r.byte())<<8 }

func (r *reader) row(n int) (row []Entry) {
	for range r.byte() % 12 {
		row = append(row, Entry{uint16(int(r.byte()) % (n + 2)), r.u16()})
	}
	return row
}

// input is any input of up to 9 neurons: uids that nobody has, two entries for one, vectors too short among them.
func (r *reader) input() Input {
	flags := r.byte()
	in := Input{Params: Params{Rules: Rules(flags & 3), Yuma3: flags&4 != 0, LiquidAlpha: flags&8 != 0, Tempo: r.u64(), Kappa: r.u16(),
		BondsMovingAverage: r.u64(), BondsPenalty: r.u16(), AlphaLow: r.u16(), AlphaHigh: r.u16(), SigmoidSteepness: int16(r.u16()),
		ActivityCutoff: r.u64(), MaxValidators: int(r.u64()), StakeThreshold: r.u64(), TaoWeight: r.u64(), Owner: int(int8(r.byte())),
		Emission: r.u64()}, Block: r.u64(), LastEpoch: r.u64()}
	n := int(r.byte() % 10)
	for range n {
		in.RegisteredAt, in.LastUpdate = append(in.RegisteredAt, r.u64()), append(in.LastUpdate, r.u64())
		in.AlphaStake, in.TaoStake = append(in.AlphaStake, r.u64()), append(in.TaoStake, r.u64())
		in.Permit = append(in.Permit, r.byte()&1 == 0)
		in.Weights, in.Bonds = append(in.Weights, r.row(n)), append(in.Bonds, r.row(n))
		if flags&16 != 0 {
			in.EarliestCommit = append(in.EarliestCommit, r.u64())
		}
	}
	for range r.byte() % 4 {
		in.Children = append(in.Children, Child{int(int8(r.byte())), int(r.byte() % 10), r.u64()})
	}
	if flags&32 != 0 && r.byte() == 0 {
		in.Permit = nil
	}
	return in
}

// twice says whether a row has two entries for one neuron, which the dense twin cannot hold.
func twice(rows [][]Entry) bool {
	for _, row := range rows {
		seen := map[uint16]bool{}
		for _, e := range row {
			if seen[e.UID] {
				return true
			}
			seen[e.UID] = true
		}
	}
	return false
}

// Nothing panics, no more than the amount is handed out, and the twin agrees.
func FuzzEpoch(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x0c the quick brown fox jumps over the lazy dog, and pays everybody who bonds with it \x08\x04\x02\x01"))
	for flags := range byte(64) {
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(i*i) ^ flags*37
		}
		b[0] = flags
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader(b)
		in := r.input()
		out, err := Epoch(in)
		if err != nil {
			if !errors.Is(err, ErrInput) {
				t.Fatal(err)
			}
			return
		}
		left := in.Emission
		for i, e := range out.Emission {
			if e > left || out.Server[i] > e || out.Validator[i] > e-out.Server[i] {
				t.Fatalf("%v (%v and %v) is more than %d", out.Emission, out.Server, out.Validator, in.Emission)
			}
			left -= e
		}
		if twice(in.Weights) || twice(in.Bonds) {
			return
		}
		if want := twin(in, slowKit()); !same(out, want) {
			t.Fatalf("%+v: %+v, the twin has %+v", in, out, want)
		}
	})
}

// same compares outputs; of no neurons, nil and empty vectors are the same.
func same(a, b Output) bool { return len(a.Emission) == 0 || reflect.DeepEqual(a, b) }
