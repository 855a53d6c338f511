package main

import (
	"errors"
	"fmt"
	"strings"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/lt"
	"sn3/model/gpu/roofline"
)

// GPUProduct is one matrix product, C (m,n) = op(A)·op(B) over k in bfloat16 with C in float32, by who can make it.
type GPUProduct struct {
	Form string      `json:"form"`
	M    int         `json:"m"`
	N    int         `json:"n"`
	K    int         `json:"k"`
	By   []GPUKernel `json:"by"`
}

// readProducts reads "MxNxK,MxNxK".
func readProducts(s string) (out [][3]int, err error) {
	for p := range strings.SplitSeq(s, ",") {
		var x [3]int
		if n, err := fmt.Sscanf(p, "%dx%dx%d", &x[0], &x[1], &x[2]); err != nil || n != 3 || min(x[0], x[1], x[2]) < 1 || fmt.Sprintf("%dx%dx%d", x[0], x[1], x[2]) != p {
			return nil, fmt.Errorf("--products %s: want MxNxK, several by commas", p)
		}
		out = append(out, x)
	}
	return out, nil
}

// products times our own products, and NVIDIA's where cuBLASLt is there, in the forms that training has.
func (g *gpuBench) products() error {
	return g.on(func(x *lab) (err error) {
		h, err := g.cublasLt(x)
		if err != nil {
			return err
		}
		if h != nil {
			defer func() { err = errors.Join(err, h.Close()) }()
		}
		for _, s := range g.shapes {
			if err := g.product(x, h, s); err != nil {
				return fmt.Errorf("%d×%d×%d: %w", s[0], s[1], s[2], err)
			}
		}
		return nil
	})
}

// lookForLt says whether NVIDIA's products are there.
func (g *gpuBench) lookForLt() {
	l, err := lt.Open()
	if err != nil {
		g.say("no cuBLASLt: %v", err)
		return
	}
	g.say("cuBLASLt %s: %s", l.Version(), l.Path())
}

// ltWorkspace is what the engine gives cuBLASLt.
const ltWorkspace = 32 << 20

// cublasLt opens NVIDIA's products; nil where they cannot be had, which the report says.
func (g *gpuBench) cublasLt(x *lab) (*lt.Handle, error) {
	l, err := lt.Open()
	if err != nil {
		g.out.Library = err.Error()
		return nil, nil
	}
	w, err := x.room(ltWorkspace)
	if err != nil {
		return nil, err
	}
	h, err := l.New(x.Context, w, ltWorkspace)
	if err != nil {
		g.out.Library = err.Error()
		return nil, nil
	}
	g.out.Library = "cuBLASLt " + h.Version()
	return h, nil
}

// product times one shape; its memory is given back.
func (g *gpuBench) product(x *lab, h *lt.Handle, s [3]int) (err error) {
	m, n, k := s[0], s[1], s[2]
	var at [3]cuda.Ptr
	for i, bytes := range []int64{4 * int64(m) * int64(n), 2 * int64(m) * int64(k), 2 * int64(k) * int64(n)} {
		if at[i], err = x.Alloc(bytes); err == nil {
			defer func() { err = errors.Join(err, x.Free(at[i])) }()
			err = x.Memset(at[i], byte(0x3F*min(i, 1)), bytes) // ones and a half, of 0x3F3F: values do not change the time much, zeros might
		}
		if err != nil {
			return err
		}
	}
	for _, f := range []lt.Form{lt.NT, lt.NN, lt.TN} {
		form := f.String()
		p := GPUProduct{Form: form, M: m, N: n, K: k}
		lda, ldb := k, n
		if form == "tn" {
			lda = m
		}
		if form == "nt" {
			ldb = k
		}
		for _, side := range []int{128, 64} {
			name := "gemm_" + form + map[int]string{64: "_64"}[side]
			f, err := x.kernel(name, [3]int{(n + side - 1) / side, (m + side - 1) / side, 1}, at[0], at[1], at[2], m, n, k, lda, ldb, n, 0)
			if err != nil {
				return err
			}
			if err := g.productBy(x, &p, name, f); err != nil {
				return err
			}
		}
		if err := g.productByLt(x, h, &p, lt.Product{Form: f, M: m, N: n, K: k, LdA: lda, LdB: ldb, LdC: n}, at); err != nil {
			return err
		}
		g.out.Products = append(g.out.Products, p)
	}
	return nil
}

// productBy times f, a product by name.
func (g *gpuBench) productBy(x *lab, p *GPUProduct, name string, f func() error) error {
	took, err := x.time(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l := roofline.Launch{Kernel: name, Args: [16]int64{3: int64(p.M), 4: int64(p.N), 5: int64(p.K)}}
	w, _ := l.Work()
	line := GPUKernel{Kernel: name, Calls: 1, Seconds: took, FLOP: w.FLOP, Bytes: w.Bytes}.rated(g.sheet, g.predicted(l))
	p.By = append(p.By, line)
	g.say("  %d×%d×%d %-16s %9s %-8s %s", p.M, p.N, p.K, name, figure(line.Rate), line.Unit, share("of the data sheet", line.OfSheet))
	return nil
}

// productByLt times NVIDIA's, where it has one.
func (g *gpuBench) productByLt(x *lab, h *lt.Handle, p *GPUProduct, q lt.Product, at [3]cuda.Ptr) error {
	if h == nil {
		return nil
	}
	err := h.Prepare(q)
	if errors.Is(err, lt.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.productBy(x, p, "cublaslt_"+q.Form.String(), func() error { return h.Run(q, at[1], at[2], at[0]) })
}

// predicted is the time that the prediction has for a launch, 0 where the card is not known.
func (g *gpuBench) predicted(l roofline.Launch) float64 {
	if g.sheet.Name == "" {
		return 0
	}
	return l.Seconds(g.sheet)
}
