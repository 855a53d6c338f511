package kernels

import (
	"cmp"
	"slices"
)

// Segments sorts the positions of ids by id, and of one id ascending, into order, as long as ids, and writes to start, one longer,
// where each id's run of positions begins; the runs that are left over begin and end at the last position. It is what embed_back
// and its like read.
func Segments(ids, order, start []int32) {
	for i := range ids {
		order[i] = int32(i)
	}
	slices.SortFunc(order[:len(ids)], func(a, b int32) int {
		return cmp.Or(cmp.Compare(ids[a], ids[b]), cmp.Compare(a, b))
	})
	n := 0
	for i := range ids {
		if i == 0 || ids[order[i]] != ids[order[i-1]] {
			start[n] = int32(i)
			n++
		}
	}
	for ; n <= len(ids); n++ {
		start[n] = int32(len(ids))
	}
}
