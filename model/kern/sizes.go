package kern

// Sizes says how much memory a Mul takes for the products it is used for: for packed A and B, for blocks of C by worker, and for
// rows of C where it is not one region.
type Sizes struct{ a, b, c, wide int }

// Add counts a product of m×k and k×n on some threads, with operands in bfloat16 or float32.
func (s *Sizes) Add(k *Kernels, bf16 bool, threads, m, n, kk int) {
	if k.level == portable {
		return
	}
	x := k.shape(bf16)
	steps, nn := x.cut(kk)
	mp := ceil(m, x.mr)
	most := x.rowPanels(mp, 0, false)
	if mp < 2*threads {
		most = mp
	}
	s.a = max(s.a, threads*(most*x.mr*min(steps, x.kc)+x.mr*x.nr))
	s.b = max(s.b, ceil(min(n, nn), x.nr)*x.nr*steps)
}

// AddRows counts a product whose rows are handed over and have no place of their own.
func (s *Sizes) AddRows(k *Kernels, bf16 bool, threads, m, n, kk int) {
	s.Add(k, bf16, threads, m, n, kk)
	x := k.shape(bf16)
	if steps, nn := x.cut(kk); k.level == portable || steps < ceil(kk, x.per) || nn < n {
		s.wide = max(s.wide, min(m, eachRows)*n)
		return
	}
	mp, width := ceil(m, x.mr), ceil(n, x.nr)*x.nr
	s.c = max(s.c, min(threads, mp)*x.rowPanels(mp, width/x.nr, true)*x.mr*width)
}

// Values is the number of float32 values.
func (s *Sizes) Values() int64 { return int64(s.a + s.b + s.c + s.wide) }

// cut is the extent of a region of a product with k values a line: steps and columns of C.
func (s shape) cut(k int) (steps, cols int) {
	steps = min(ceil(ceil(k, s.per), s.unit)*s.unit, 16*s.kc)
	return steps, max(region/steps/s.nr, 1) * s.nr
}
