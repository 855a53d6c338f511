package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"sn3/model"
)

// newBuilder is a builder for the tokens x of B sequences. One of a single token gets a second one that nothing sees: gorgonia takes
// matrices of one row for vectors.
func newBuilder(dtype tensor.Dtype, c model.Config, flat []float32, x []int32, B, T int) (*builder, []int32) {
	b := &builder{c: c, g: gorgonia.NewGraph(), dtype: dtype, B: B, T: max(2, T), flat: flat}
	return b, padded(x, T, b.T, 0)
}

// padded are rows of T values, each continued with fill to width.
func padded(v []int32, T, width int, fill int32) []int32 {
	if T == width {
		return v
	}
	var out []int32
	for from := 0; from < len(v); from += T {
		out = append(out, v[from:from+T]...)
		for range width - T {
			out = append(out, fill)
		}
	}
	return out
}

// evaluate runs a graph; a panic inside gorgonia while it is built is an error too.
func (b *builder) evaluate(build func() (out *gorgonia.Value)) (v []float64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("gorgonia: %v", r)
		}
	}()
	out := build()
	if b.err != nil {
		return nil, fmt.Errorf("build graph: %w", b.err)
	}
	vm := gorgonia.NewTapeMachine(b.g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		return nil, fmt.Errorf("run graph: %w", err)
	}
	return values(*out)
}

// logProbs is log p of every target of the batch, 0 where none counts, in the precision of dtype; the batch has been checked.
// With grad it adds the gradient of −Σ log p / counted, row-major in tensor order.
func logProbs(dtype tensor.Dtype, c model.Config, flat []float32, batch model.Batch, counted int, grad []float32) ([]float64, error) {
	b, x := newBuilder(dtype, c, flat, batch.X, batch.B, batch.T)
	var each gorgonia.Value
	all, err := b.evaluate(func() *gorgonia.Value {
		lp := b.ok(gorgonia.LogSoftMax(b.logits(x), 1))
		picked := b.ok(gorgonia.Sum(b.prod(b.oneHot("y", padded(batch.Y, batch.T, b.T, model.Ignored)), lp), 1))
		gorgonia.Read(picked, &each)
		if grad != nil && b.err == nil {
			total := b.ok(gorgonia.Neg(b.ok(gorgonia.Div(b.ok(gorgonia.Sum(picked)), b.number(float64(max(1, counted)))))))
			var nodes []*gorgonia.Node
			for _, p := range b.params {
				nodes = append(nodes, p.n)
			}
			if b.err == nil {
				_, b.err = gorgonia.Grad(total, nodes...)
			}
		}
		return &each
	})
	if err != nil {
		return nil, err
	}
	out := make([]float64, 0, len(batch.X))
	for s := range batch.B {
		out = append(out, all[s*b.T:][:batch.T]...)
	}
	if grad == nil {
		return out, nil
	}
	return out, b.gradients(grad)
}

// logits writes the logits of B sequences x of T tokens, [B][T][V], to dst.
func logits(c model.Config, flat, dst []float32, x []int32, B, T int) error {
	b, x := newBuilder(gorgonia.Float32, c, flat, x, B, T)
	var value gorgonia.Value
	all, err := b.evaluate(func() *gorgonia.Value {
		gorgonia.Read(b.logits(x), &value)
		return &value
	})
	if err != nil {
		return err
	}
	for i := range dst {
		row := i / c.Vocab
		dst[i] = float32(all[(row/T*b.T+row%T)*c.Vocab+i%c.Vocab])
	}
	return nil
}

// gradients adds what the graph found to grad.
func (b *builder) gradients(grad []float32) error {
	for _, p := range b.params {
		g, err := p.n.Grad()
		if err != nil {
			return fmt.Errorf("gradient of %s: %w", p.t.Name, err)
		}
		d, err := values(g)
		if err != nil {
			return fmt.Errorf("gradient of %s: %w", p.t.Name, err)
		}
		if p.transposed {
			d = transposed(d, p.t.Shape[1], p.t.Shape[0])
		}
		for i, x := range grad[p.t.Off : p.t.Off+p.t.Len()] {
			grad[p.t.Off+i] = x + float32(d[i])
		}
	}
	return nil
}
