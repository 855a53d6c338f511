package kern

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// between is one page of memory between two that nobody may touch.
func between(t *testing.T) []byte { return pagesBetween(t, 1) }

func pagesBetween(t *testing.T, count int) []byte {
	t.Helper()
	page := os.Getpagesize()
	mem, err := syscall.Mmap(-1, 0, (count+2)*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	for _, at := range []int{0, (count + 1) * page} {
		if err := syscall.Mprotect(mem[at:at+page], syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return mem[page : (count+1)*page : (count+1)*page]
}

// No kernel reads or writes beyond its rows: at the first and at the last byte of mapped memory, the next one would end the process.
func TestElemAtTheEdge(t *testing.T) {
	var pages [][]byte
	for range 5 {
		pages = append(pages, between(t))
	}
	floats := func(i, n int, end bool) []float32 {
		all := unsafe.Slice((*float32)(unsafe.Pointer(&pages[i][0])), len(pages[i])/4)
		if end {
			return all[len(all)-n:]
		}
		return all[:n:n]
	}
	halves := func(i, n int, end bool) []BF16 {
		all := unsafe.Slice((*BF16)(unsafe.Pointer(&pages[i][0])), len(pages[i])/2)
		if end {
			return all[len(all)-n:]
		}
		return all[:n:n]
	}
	r := rand.New(rand.NewPCG(7, 7))
	for _, k := range levels(t) {
		for _, end := range []bool{false, true} {
			for n := 1; n <= 100; n++ {
				for i := range elemCases {
					c := &elemCases[i]
					_, from, _ := c.fill(r, n, func() int { return 0 })
					var v [][]float32
					for j, x := range from {
						v = append(v, floats(j, n, end))
						copy(v[j], x)
					}
					c.run(k, v)
				}
				k.ToBF16(halves(0, n, end), floats(1, n, end))
				k.FromBF16(floats(1, n, end), halves(0, n, end))
				k.DotBF16(floats(1, n, end), halves(0, n, end))
				stepCase(k, [][]float32{floats(0, n, end), floats(1, n, end), floats(2, n, end), floats(3, n, end)}, halves(4, n, end))
				k.RopeHeads(floats(0, 6*n, end), floats(1, n, end), floats(2, n, end), n, 3, 1)
			}
		}
	}
}

// Nor do the kernels on rows that lie apart, and on those of bfloat16.
func TestRowsAtTheEdge(t *testing.T) {
	var pages [][]byte
	for range 6 {
		pages = append(pages, between(t))
	}
	for _, k := range levels(t) {
		for _, c := range rowsCases {
			for n := 1; n <= 80; n++ {
				for _, end := range []bool{false, true} {
					d := &desk{r: rand.New(rand.NewPCG(uint64(n), 6)), odd: func() int { return n % 5 }, pages: pages, end: end}
					if err := c.check(k, d, n, 1+n%3); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}
