package kern

//go:noescape
func expA(d *float32, n int, scale, bias float32) (sum float32)

//go:noescape
func swigluA(a, gt, u *float32, n int)

//go:noescape
func swigluBwdA(gt, u, da *float32, n int)

//go:noescape
func maxA(d *float32, n int) (m float32)

//go:noescape
func scaleA(d *float32, n int, s float32)

//go:noescape
func dsA(d, q *float32, n int, delta, scale float32)

//go:noescape
func addA(d, s *float32, n int)

//go:noescape
func dotA(a, b *float32, n int) (s float32)

//go:noescape
func scaleMulA(d, x, w *float32, n int, s float32)

//go:noescape
func dot3A(a, b, c *float32, n int) (s float32)

//go:noescape
func rmsBwdA(dx, dw, dy, x, w *float32, n int, r, c float32)

//go:noescape
func ropeA(q, c, s *float32, n, heads int, sign float32)

//go:noescape
func adamwA(p, gr, m, v *float32, n int, k *float32)
