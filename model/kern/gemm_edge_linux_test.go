package kern

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// No product reads or writes beyond its matrices, of whatever form: at the first and at the last byte of mapped memory, the next
// one would end the process. The last row ends with its last value, not with the leading dimension.
func TestMulAtTheEdge(t *testing.T) {
	pages := [3][]byte{between(t), between(t), between(t)}
	for name, way := range ways() {
		r, x := rand.New(rand.NewPCG(31, 32)), &Mul{Threads: 2}
		for form := range 8 {
			for _, s := range [][3]int{{1, 1, 1}, {14, 32, 16}, {28, 32, 28}, {29, 31, 30}, {13, 33, 27}, {29, 30, 31}, {3, 5, 120}, {5, 3, 121}} {
				p := newProduct(r, s[0], s[1], s[2], form&1 > 0, form&2 > 0, form&4 > 0)
				for _, end := range []bool{false, true} {
					q, c := *p, place(pages[2], p.c0[:(p.m-1)*p.ldc+p.n], end)
					rows := func(tr bool, rows, cols, ld int) int {
						if tr {
							rows, cols = cols, rows
						}
						return (rows-1)*ld + cols
					}
					a, b := rows(p.tA, p.m, p.k, p.lda), rows(p.tB, p.k, p.n, p.ldb)
					q.a, q.b = place(pages[0], p.a[:a], end), place(pages[1], p.b[:b], end)
					if strings.Contains(name, "amx") || strings.Contains(name, "bf16") {
						q.ah, q.bh = place(pages[0], p.ah[:a], end), place(pages[1], p.bh[:b], end)
					}
					way(x, &q, c)
					p.check(t, name, func(all []float32) { copy(all, c) })
				}
			}
		}
	}
}

// place copies v to the first or the last bytes of a page.
func place[T any](page []byte, v []T, end bool) []T {
	all := unsafe.Slice((*T)(unsafe.Pointer(&page[0])), len(page)/int(unsafe.Sizeof(v[0])))
	if end {
		all = all[len(all)-len(v):]
	}
	return slices.Clip(all[:copy(all, v)])
}
