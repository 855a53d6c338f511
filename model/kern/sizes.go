package kern

// Sizes says how much memory a Mul takes for the products it is used for: what is packed for all workers, what each packs for
// itself, blocks of C by worker, and rows of C where it is not one region.
type Sizes struct{ all, own, c, lent int }

// Add counts a product of m×k and k×n on some threads, with operands in bfloat16 or float32. Where it depends on how A lies, it
// counts what takes more.
func (s *Sizes) Add(k *Kernels, bf16 bool, threads, m, n, kk int) {
	if k.level == portable {
		return
	}
	x := k.shape(bf16)
	steps, nn := x.cut(kk)
	if x.wide(m, n, steps, false, threads) {
		s.count(x, ceil(m, x.mr)*x.mr, min(ceil(n, x.nr)*x.nr, blockCols), steps, threads)
		return
	}
	s.count(x, min(ceil(n, x.nr)*x.nr, nn), x.rowPanels(ceil(m, x.mr), 0, false)*x.mr, steps, threads)
}

// count counts lines packed for all, and lines by worker.
func (s *Sizes) count(x shape, all, own, steps, threads int) {
	s.all = max(s.all, all*steps)
	s.own = max(s.own, threads*(own*min(steps, x.kc)+x.mr*x.nr))
}

// AddPlaced counts a product whose rows are handed over where they are.
func (s *Sizes) AddPlaced(k *Kernels, bf16 bool, threads, m, n, kk int) {
	if k.level == portable {
		return
	}
	x := k.shape(bf16)
	steps, nn := x.cut(kk)
	if steps < ceil(kk, x.per) || nn < n {
		s.addParts(k, bf16, threads, m, n, kk)
		return
	}
	s.count(x, min(ceil(n, x.nr)*x.nr, nn), x.rowPanels(ceil(m, x.mr), 0, false)*x.mr, steps, threads)
}

// addParts counts a product of several regions, whose rows are computed a part at a time: the last may be so few that workers take
// columns.
func (s *Sizes) addParts(k *Kernels, bf16 bool, threads, m, n, kk int) {
	s.Add(k, bf16, threads, min(m, eachRows), n, kk)
	s.Add(k, bf16, threads, (m-1)%eachRows+1, n, kk)
}

// AddRows counts a product whose rows are handed over and have no place of their own.
func (s *Sizes) AddRows(k *Kernels, bf16 bool, threads, m, n, kk int) {
	x := k.shape(bf16)
	steps, nn := x.cut(kk)
	if k.level == portable || steps < ceil(kk, x.per) || nn < n {
		s.addParts(k, bf16, threads, m, n, kk)
		s.lent = max(s.lent, min(m, eachRows)*n)
		return
	}
	mp, width := ceil(m, x.mr), ceil(n, x.nr)*x.nr
	s.count(x, width, x.rowPanels(mp, width/x.nr, true)*x.mr, steps, threads)
	s.c = max(s.c, min(threads, mp)*x.rowPanels(mp, width/x.nr, true)*x.mr*width)
}

// Values is the number of float32 values.
func (s *Sizes) Values() int64 { return int64(s.all + s.own + s.c + s.lent) }

// cut is the extent of a region of a product with k values a line: steps and columns of C.
func (s shape) cut(k int) (steps, cols int) {
	steps = min(s.steps(k), 16*s.kc)
	return steps, max(region/steps/s.nr, 1) * s.nr
}
