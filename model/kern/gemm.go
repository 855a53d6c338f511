package kern

import (
	"sync"
	"sync/atomic"
)

// Blocking of the packed product (notes/engine.md §3.2): micro-kernel mr×nr, kc steps of K at a time.
const (
	mr, nr = 14, 32
	kc     = 256
)

// Par runs f(0..n-1) on up to threads goroutines. With one thread it starts none.
func Par(threads, n int, f func(i int)) {
	threads = min(threads, n)
	if threads <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	work := func() {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			f(int(i))
		}
	}
	wg.Add(threads - 1)
	for range threads - 1 {
		go func() { defer wg.Done(); work() }()
	}
	work()
	wg.Wait()
}

// panels is packed memory, reused between products.
type panels struct{ a, b []float32 }

var pool = sync.Pool{New: func() any { return new(panels) }}

func (p *panels) grow(na, nb int) {
	if cap(p.a) < na {
		p.a = make([]float32, na)
	}
	if cap(p.b) < nb {
		p.b = make([]float32, nb)
	}
	p.a, p.b = p.a[:na], p.b[:nb]
}

// job is one product; its fields are those of Gemm.
type job struct {
	tA, tB        bool
	m, n, k       int
	a, b, c       []float32
	lda, ldb, ldc int
	acc           bool
	mp, np        int // panels of mr rows, nr columns
	*panels
}

// gemm512 packs A and B into panels and runs the micro-kernel over blocks of C. Every element of C sums its k steps in the
// same order, so the result does not depend on threads.
func gemm512(threads int, tA, tB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	p := pool.Get().(*panels)
	defer pool.Put(p)
	j := job{tA: tA, tB: tB, m: m, n: n, k: k, a: a, b: b, c: c, lda: lda, ldb: ldb, ldc: ldc, acc: acc,
		mp: (m + mr - 1) / mr, np: (n + nr - 1) / nr, panels: p}
	p.grow(j.mp*mr*k, j.np*nr*k)
	const ib, jb = 12, 16 // panels in a block of C that stays in the cache
	ni, nj := (j.mp+ib-1)/ib, (j.np+jb-1)/jb
	if threads <= 1 {
		for i := range j.mp + j.np {
			j.pack(i)
		}
		for t := range ni * nj {
			j.block(t%ni*ib, min((t%ni+1)*ib, j.mp), t/ni*jb, min((t/ni+1)*jb, j.np))
		}
		return
	}
	Par(threads, j.mp+j.np, j.pack)
	Par(threads, ni*nj, func(t int) {
		j.block(t%ni*ib, min((t%ni+1)*ib, j.mp), t/ni*jb, min((t/ni+1)*jb, j.np))
	})
}

// pack fills panel i: first the panels of B, then those of A, each in slices of kc steps.
func (j *job) pack(i int) {
	for k0 := 0; k0 < j.k; k0 += kc {
		n := min(kc, j.k-k0)
		if i < j.np {
			packPanel(!j.tB, nr, j.b, j.ldb, k0, n, i*nr, min(nr, j.n-i*nr), j.panels.b[k0*j.np*nr+i*nr*n:])
		} else {
			r := i - j.np
			packPanel(j.tA, mr, j.a, j.lda, k0, n, r*mr, min(mr, j.m-r*mr), j.panels.a[k0*j.mp*mr+r*mr*n:])
		}
	}
}

// packPanel copies w of width lines, n steps each, so that the lines of one step lie side by side; missing lines are zero.
// along says that a step's lines are adjacent in memory already.
func packPanel(along bool, width int, src []float32, ld, k0, n, at, w int, dst []float32) {
	if along {
		for k := range n {
			d := dst[k*width : (k+1)*width]
			copy(d, src[(k0+k)*ld+at:][:w])
			clear(d[w:])
		}
		return
	}
	for i := range width {
		if i >= w {
			for x := i; x < n*width; x += width {
				dst[x] = 0
			}
			continue
		}
		x := i
		for _, v := range src[(at+i)*ld+k0:][:n] {
			dst[x] = v
			x += width
		}
	}
}

// block computes the panels [i0,i1)×[j0,j1) of C.
func (j *job) block(i0, i1, j0, j1 int) {
	var edge [mr * nr]float32
	for k0 := 0; k0 < j.k; k0 += kc {
		n := min(kc, j.k-k0)
		acc := 0
		if j.acc || k0 > 0 {
			acc = 1
		}
		for q := j0; q < j1; q++ {
			cols := min(nr, j.n-q*nr)
			pb := &j.panels.b[k0*j.np*nr+q*nr*n]
			for i := i0; i < i1; i++ {
				rows := min(mr, j.m-i*mr)
				pa := &j.panels.a[k0*j.mp*mr+i*mr*n]
				c := j.c[i*mr*j.ldc+q*nr:]
				if rows == mr && cols == nr {
					kern14x32(n, pa, pb, &c[0], j.ldc*4, acc)
					continue
				}
				kern14x32(n, pa, pb, &edge[0], nr*4, 0)
				j.store(c, &edge, rows, cols, acc == 1)
			}
		}
	}
}

// store adds or copies the part of an edge block that exists.
func (j *job) store(c []float32, edge *[mr * nr]float32, rows, cols int, acc bool) {
	for r := range rows {
		row := c[r*j.ldc : r*j.ldc+cols]
		if !acc {
			copy(row, edge[r*nr:])
			continue
		}
		for x := range row {
			row[x] += edge[r*nr+x]
		}
	}
}
