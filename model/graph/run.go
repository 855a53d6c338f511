package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"sn3/model"
)

func newBuilder(dtype tensor.Dtype, c model.Config, flat []float32, B, T int) *builder {
	return &builder{c: c, g: gorgonia.NewGraph(), dtype: dtype, B: B, T: T, flat: flat}
}

// evaluate runs the graph that build makes and reads the node that it returns; a panic of gorgonia while building is an error too.
func (b *builder) evaluate(build func() node) (v []float64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("gorgonia: %v", r)
		}
	}()
	out := build()
	if b.err != nil {
		return nil, fmt.Errorf("build graph: %w", b.err)
	}
	var value gorgonia.Value
	gorgonia.Read(out, &value)
	vm := gorgonia.NewTapeMachine(b.g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		return nil, fmt.Errorf("run graph: %w", err)
	}
	return values(value)
}

// logProbs is log p of every target of the batch, 0 where none counts, in the precision of dtype; the batch has been checked.
// With grad it adds the gradient of −Σ log p / counted, row-major in tensor order.
func logProbs(dtype tensor.Dtype, c model.Config, flat []float32, batch model.Batch, counted int, grad []float32) ([]float64, error) {
	b := newBuilder(dtype, c, flat, batch.B, batch.T)
	logp, err := b.evaluate(func() node {
		lp := b.ok(gorgonia.LogSoftMax(b.logits(batch.X), 1))
		picked := b.ok(gorgonia.Sum(b.prod(b.oneHot("y", batch.Y), lp), 1))
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
		return picked
	})
	if err != nil || grad == nil {
		return logp, err
	}
	return logp, b.gradients(grad)
}

// logits writes the logits of B sequences x of T tokens, [B][T][V], to dst.
func logits(c model.Config, flat, dst []float32, x []int32, B, T int) error {
	b := newBuilder(gorgonia.Float32, c, flat, B, T)
	all, err := b.evaluate(func() node { return b.logits(x) })
	if err != nil {
		return err
	}
	for i, l := range all {
		dst[i] = float32(l)
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
