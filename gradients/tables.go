package gradients

import (
	"sync"
	"sync/atomic"

	"sn3/model"
)

// lookBits is how many bits one step of a decoder looks at.
const lookBits = 13

// longGap is the first gap whose code is not spelled out for writing.
const longGap = 512

// spelled has the codes of the common gaps of a shape.
type spelled struct {
	// write[gap] is the code in the upper bits and its length in the lower 5; 0: too long.
	write [longGap]uint32
	// read[next bits] is how far the next index is from the last one in the upper bits and the length of the code in the lower 6. 0: one
	// of them does not fit.
	read [1 << lookBits]uint16
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
		if size <= lookBits && gap+1 < 1<<10 {
			first := code << (lookBits - size)
			for i := range uint64(1) << (lookBits - size) {
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
