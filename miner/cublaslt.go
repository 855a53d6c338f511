package main

import (
	"errors"
	"fmt"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/lt"
)

// fastProducts looks for cuBLASLt, as the engine does.
func fastProducts() (f libraryFindings) {
	l, err := lt.Open()
	if err != nil {
		f.Text = err.Error()
		return f
	}
	f.Name, f.Version = l.Path(), l.Version()
	f.Text = f.Name + " " + f.Version
	return f
}

// ltWorkspace is what its products may use, as in the engine.
const ltWorkspace = 32 << 20

// measureFast measures cuBLASLt's products, where it is there. What is wrong with it is a finding: the engine does without.
func (f *cardFindings) measureFast(c *cuda.Context) (err error) {
	l, err := lt.Open()
	if err != nil {
		return nil // said among the libraries
	}
	room, err := c.Alloc(ltWorkspace)
	if cuda.ErrorCode(err) == cuda.OutOfMemory {
		f.NoFast = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Free(room)) }()
	h, err := l.New(c, room, ltWorkspace)
	if err != nil {
		f.NoFast = err.Error()
		return nil
	}
	list, err := growing(c, "cuBLASLt "+h.Version(), func(side int, a, b, out cuda.Ptr) error {
		return h.Run(lt.Product{Form: lt.NT, M: side, N: side, K: side, LdA: side, LdB: side, LdC: side, Half: true}, a, b, out)
	})
	if err = errors.Join(err, h.Close()); lt.StatusOf(err) != 0 || errors.Is(err, lt.ErrNone) {
		f.NoFast = err.Error()
		return nil
	}
	f.Products = append(f.Products, list...)
	return err
}

// growing measures the product of square matrices in bf16 with sums in float32, larger and larger ones, until one takes long enough.
func growing(c *cuda.Context, by string, multiply func(side int, a, b, out cuda.Ptr) error) (out []speed, err error) {
	for side := leastSide; ; side *= 2 {
		took, err := productTime(c, side, multiply)
		if cuda.ErrorCode(err) == cuda.OutOfMemory && out != nil {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		rate := 2 * float64(side) * float64(side) * float64(side) / took.Seconds() / 1e12
		out = []speed{{fmt.Sprintf("by %s at %d³", by, side), int64(side), rate, measureTimes}}
		if took >= longEnough || side == mostSide {
			return out, nil
		}
	}
}
