package kernels

// Segments sorts the positions of ids, none of which is negative, by id, and of one id ascending, into order, as long as ids, and
// writes to start, one longer, where each id's run of positions begins; the runs that are left over begin and end at the last
// position. It is what embed_back and its like read.
func Segments(ids, order, start []int32) {
	// Counting sort by eleven bits at a time, the lowest first, from one of the two slices to the other.
	const digits = 1 << 11
	from, to, top := start[:len(ids)], order[:len(ids)], int32(0)
	for i, id := range ids {
		from[i], top = int32(i), max(top, id)
	}
	for shift := 0; shift == 0 || top>>shift > 0; shift += 11 {
		var at [digits + 1]int32 // where the next position with a digit goes
		for _, id := range ids {
			at[id>>shift&(digits-1)+1]++
		}
		for d := range digits {
			at[d+1] += at[d]
		}
		for _, p := range from {
			d := ids[p] >> shift & (digits - 1)
			to[at[d]] = p
			at[d]++
		}
		from, to = to, from
	}
	copy(order, from)
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
