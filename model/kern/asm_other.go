//go:build !amd64

package kern

// The assembly is never called here: Select refuses it. These bodies only let the package compile.

func expA(d *float32, n int, scale, bias float32) (sum float32) { return 0 }
func swigluA(a, gt, u *float32, n int)                          {}
func swigluBwdA(gt, u, da *float32, n int)                      {}
func maxA(d *float32, n int) (m float32)                        { return 0 }
func scaleA(d *float32, n int, s float32)                       {}
func dsA(d, q *float32, n int, delta, scale float32)            {}
func addA(d, s *float32, n int)                                 {}
func dotA(a, b *float32, n int) (s float32)                     { return 0 }
func scaleMulA(d, x, w *float32, n int, s float32)              {}
func dot3A(a, b, c *float32, n int) (s float32)                 { return 0 }
func rmsBwdA(dx, dw, dy, x, w *float32, n int, r, c float32)    {}
func ropeA(q, c, s *float32, n, heads int, sign float32)        {}
func adamwA(p, gr, m, v *float32, n int, k *float32)            {}
