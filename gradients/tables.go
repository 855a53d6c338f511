package gradients

import (
	"sync"
	"sync/atomic"

	"sn3/model"
	"sn3/model/kern"
)

// longGap is the first gap whose code is not spelled out for writing.
const longGap = 512

// spelled has the codes of the common gaps of a shape.
type spelled struct {
	// write[gap] is the code in the upper bits and its length in the lower 5; 0: too long.
	write [longGap]uint32
	read  kern.GapCodes
}

func spell(s shape) *spelled {
	t := new(spelled)
	for gap := range uint64(s.real) {
		code, size := s.gaps.code(gap)
		if size > 24 {
			break
		}
		if gap < longGap {
			t.write[gap] = uint32(code)<<5 | uint32(size)
		}
		if size <= kern.GapBits && gap+1 < 1<<10 {
			first := code << (kern.GapBits - size)
			for i := range uint64(1) << (kern.GapBits - size) {
				t.read[first+i] = uint16(gap+1)<<6 | uint16(size)
			}
		}
	}
	return t
}

// table is a shape and, once asked for, its spelled codes.
type table struct {
	shape
	codes atomic.Pointer[spelled]
}

// spelled is nil for a bitmap and for chunks at the edges, which are too few to be worth it.
func (t *table) spelled() *spelled {
	if t.bitmap || t.real < model.ChunkSize {
		return nil
	}
	s := t.codes.Load()
	if s == nil {
		s = spell(t.shape)
		t.codes.Store(s)
	}
	return s
}

// tables has the tables of one k.
type tables struct {
	codec *Codec
	k     int
	byLen sync.Map // real -> *table
}

// tables of the k used last are kept.
func (c *Codec) tables(k int) *tables {
	t := c.last.Load()
	if t == nil || t.k != k {
		t = &tables{codec: c, k: k}
		c.last.Store(t)
	}
	return t
}

// of is the table of chunk i; last, that of another chunk or nil, is right most of the time.
func (t *tables) of(i int, last *table) *table {
	real := t.codec.layout.Chunk(i).Len
	if last != nil && last.real == real {
		return last
	}
	if x, ok := t.byLen.Load(real); ok {
		return x.(*table)
	}
	x, _ := t.byLen.LoadOrStore(real, &table{shape: t.codec.shape(i, t.k)})
	return x.(*table)
}
