package kern

import "math"

// The portable twins of the assembly.

// expLow is the least x whose exp is a normal number; below it the kernels say 0.
const expLow = -87.33654

func exp(x float32) float32 {
	if x < expLow {
		return 0
	}
	return float32(math.Exp(float64(x)))
}

func log(x float32) float32  { return float32(math.Log(float64(x))) }
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// dot sums in four parts, which a processor adds side by side.
func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}

func largest(s []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range s {
		if v > top {
			top = v
		}
	}
	return top
}

func expSum(s []float32, scale, bias float32) (sum float32) {
	for i, v := range s {
		s[i] = exp(v*scale + bias)
		sum += s[i]
	}
	return sum
}

func rmsBackward(dx, dw, dy, x, w []float32, r, by float32) {
	var s float32
	for i := range dx {
		s += dy[i] * w[i] * x[i]
	}
	c := s * by
	for i := range dx {
		dx[i] += r * (dy[i]*w[i] + x[i]*c)
		dw[i] += dy[i] * x[i] * r
	}
}

func rope(a, b, cos, sin []float32, sign float32) {
	for i := range a {
		x, y, s := a[i], b[i], sin[i]*sign
		a[i] = x*cos[i] - y*s
		b[i] = x*s + y*cos[i]
	}
}

func swiglu(a, gate, up []float32) {
	for i := range a {
		a[i] = gate[i] / (1 + exp(-gate[i])) * up[i]
	}
}

func swigluBackward(gate, up, da []float32) {
	for i := range gate {
		sg := 1 / (1 + exp(-gate[i]))
		g, u, d := gate[i], up[i], da[i]
		up[i] = d * g * sg
		gate[i] = d * u * sg * (1 + g*(1-sg))
	}
}

func adamw(p, g, m, v []float32, c *[10]float32) {
	for i := range p {
		x := g[i] * c[9]
		m[i] = c[1]*m[i] + c[7]*x
		v[i] = c[2]*v[i] + c[8]*x*x
		p[i] -= c[0] * (m[i]*c[5]/(sqrt(v[i]*c[6])+c[3]) + c[4]*p[i])
	}
}
