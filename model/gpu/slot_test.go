package gpu

import (
	"encoding/binary"
	"slices"
	"testing"

	"sn3/model"
)

// What is longer than a slot passes through in parts, of values of any size, and a slot's values begin at the byte that was asked for.
func TestPass(t *testing.T) {
	tr := planned(t, shapes["odd"], Settings{}, model.Options{Precision: model.BF16})
	n := tr.net
	short, long := make([]uint16, 3*n.slot/4), make([]int64, n.slot/5)
	for i := range short {
		short[i] = uint16(i * 40503)
	}
	for i := range long {
		long[i] = int64(i) * 0x9E3779B97F4A7
	}
	gotShort, gotLong := make([]uint16, len(short)), make([]int64, len(long))
	if err := n.do(func(q *queue) {
		a, b := q.allocate(2*int64(len(short))), q.allocate(8*int64(len(long)))
		pass(q, a, short)
		pass(q, b, long)
		get(q, gotShort, a)
		get(q, gotLong, b)
		q.free(a)
		q.free(b)
		s := q.next()
		values[int64](s, 24, 2)[1] = 0x0102030405060708
		if v := binary.NativeEndian.Uint64(values[uint8](s, 32, 8)); v != 0x0102030405060708 || values[float32](s, 36, 1)[0] != values[float32](s, 32, 2)[1] {
			t.Errorf("at byte 32 is %x", v)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(gotShort, short) || !slices.Equal(gotLong, long) {
		t.Error("something else came")
	}
}
