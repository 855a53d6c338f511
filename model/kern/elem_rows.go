package kern

// The rows of one head lie apart in memory, because those of the other heads lie between them: these kernels take all of them
// in one call.

// RopeBack rotates back the rows of one head, of 2·half values, ld apart in v, and puts them into dst, rounded if that is
// bfloat16; v may be spent. Cosines and sines are half values a row, step apart.
func (k *Kernels) RopeBack(dst Matrix, v []float32, ld int, cos, sin []float32, step, half, rows int) {
	if half <= 0 || rows <= 0 {
		return
	}
	_, _, _ = v[(rows-1)*ld+2*half-1], cos[(rows-1)*step+half-1], sin[(rows-1)*step+half-1]
	if dst.H != nil {
		k.ropeBackBF16(dst, v, ld, cos, sin, half, rows, step)
		return
	}
	_ = dst.F[(rows-1)*dst.LD+2*half-1]
	switch k.level {
	case avx512:
		unropeAVX512(&dst.F[0], &dst.F[half], &v[0], &v[half], &cos[0], &sin[0], half, rows, dst.LD*4, ld*4, step*4)
	case avx2:
		unropeAVX2(&dst.F[0], &dst.F[half], &v[0], &v[half], &cos[0], &sin[0], half, rows, dst.LD*4, ld*4, step*4)
	default:
		for i := range rows {
			row := dst.F[i*dst.LD:][:2*half]
			copy(row, v[i*ld:])
			rope(row[:half], row[half:], cos[i*step:][:half], sin[i*step:], -1)
		}
	}
}

func (k *Kernels) ropeBackBF16(dst Matrix, v []float32, ld int, cos, sin []float32, half, rows, step int) {
	_ = dst.H[(rows-1)*dst.LD+2*half-1]
	switch {
	case k.rounds():
		unropeBF16VDP(&dst.H[0], &dst.H[half], &v[0], &v[half], &cos[0], &sin[0], half, rows, dst.LD*2, ld*4, step*4)
	case k.level == avx512:
		unropeBF16AVX512(&dst.H[0], &dst.H[half], &v[0], &v[half], &cos[0], &sin[0], half, rows, dst.LD*2, ld*4, step*4)
	case k.level == avx2:
		unropeBF16AVX2(&dst.H[0], &dst.H[half], &v[0], &v[half], &cos[0], &sin[0], half, rows, dst.LD*2, ld*4, step*4)
	default:
		for i := range rows {
			row := v[i*ld:][:2*half]
			rope(row[:half], row[half:], cos[i*step:][:half], sin[i*step:], -1)
			k.ToBF16(dst.H[i*dst.LD:][:2*half], row)
		}
	}
}

// ScaleRows is dst = v·f, rounded if dst is bfloat16: row i of n values times f[i]; rows of v are ld apart.
func (k *Kernels) ScaleRows(dst Matrix, v []float32, ld int, f []float32, n, rows int) {
	if n <= 0 || rows <= 0 {
		return
	}
	_, _ = v[(rows-1)*ld+n-1], f[rows-1]
	if dst.H != nil {
		_ = dst.H[(rows-1)*dst.LD+n-1]
		switch {
		case k.rounds():
			scaleRowsBF16VDP(&dst.H[0], &v[0], &f[0], n, rows, dst.LD*2, ld*4, 4)
			return
		case k.level == avx512:
			scaleRowsBF16AVX512(&dst.H[0], &v[0], &f[0], n, rows, dst.LD*2, ld*4, 4)
			return
		case k.level == avx2:
			scaleRowsBF16AVX2(&dst.H[0], &v[0], &f[0], n, rows, dst.LD*2, ld*4, 4)
			return
		}
		for i := range rows {
			for j, x := range v[i*ld:][:n] {
				dst.H[i*dst.LD+j] = RoundBF16(x * f[i])
			}
		}
		return
	}
	_ = dst.F[(rows-1)*dst.LD+n-1]
	switch k.level {
	case avx512:
		scaleRowsAVX512(&dst.F[0], &v[0], &f[0], n, rows, dst.LD*4, ld*4, 4)
	case avx2:
		scaleRowsAVX2(&dst.F[0], &v[0], &f[0], n, rows, dst.LD*4, ld*4, 4)
	default:
		for i := range rows {
			for j, x := range v[i*ld:][:n] {
				dst.F[i*dst.LD+j] = x * f[i]
			}
		}
	}
}

// DotRows is sum[i] = Σ a·b over the n values of row i; rows are lda and ldb apart.
func (k *Kernels) DotRows(sum, a []float32, lda int, b []float32, ldb, n, rows int) {
	if n <= 0 || rows <= 0 {
		return
	}
	_, _, _ = sum[rows-1], a[(rows-1)*lda+n-1], b[(rows-1)*ldb+n-1]
	switch k.level {
	case avx512:
		dotRowsAVX512(&a[0], &b[0], &sum[0], n, rows, lda*4, ldb*4, 4)
	case avx2:
		dotRowsAVX2(&a[0], &b[0], &sum[0], n, rows, lda*4, ldb*4, 4)
	default:
		for i := range rows {
			sum[i] = dot(a[i*lda:][:n], b[i*ldb:])
		}
	}
}

// DotRowsBF16 is DotRows of a rounded and b; the rounded rows go to d, ldd apart.
func (k *Kernels) DotRowsBF16(sum []float32, d []BF16, ldd int, a []float32, lda int, b []BF16, ldb, n, rows int) {
	if n <= 0 || rows <= 0 {
		return
	}
	_, _, _, _ = sum[rows-1], d[(rows-1)*ldd+n-1], a[(rows-1)*lda+n-1], b[(rows-1)*ldb+n-1]
	switch {
	case k.rounds():
		dotRowsBF16VDP(&d[0], &b[0], &a[0], &sum[0], n, rows, ldd*2, ldb*2, lda*4, 4)
	case k.level == avx512:
		dotRowsBF16AVX512(&d[0], &b[0], &a[0], &sum[0], n, rows, ldd*2, ldb*2, lda*4, 4)
	case k.level == avx2:
		dotRowsBF16AVX2(&d[0], &b[0], &a[0], &sum[0], n, rows, ldd*2, ldb*2, lda*4, 4)
	default:
		for i := range rows {
			sum[i] = 0
			for j, x := range a[i*lda:][:n] {
				h := RoundBF16(x)
				d[i*ldd+j] = h
				sum[i] += h.Float32() * b[i*ldb+j].Float32()
			}
		}
	}
}
