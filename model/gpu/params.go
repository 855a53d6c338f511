package gpu

import (
	"context"
	"errors"
	"fmt"

	"sn3/model"
)

// Reset implements model.Trainer.
func (t *Trainer) Reset(_ context.Context, w model.Weights) error {
	if err := t.net.fits("reset", w); err != nil {
		return err
	}
	w, err := t.apart(w)
	if err != nil {
		return err
	}
	return t.replace(func(_ *queue, dst []float32, r model.ChunkRange) error { return w.Read(dst, r) })
}

// Rebase implements model.Trainer.
func (t *Trainer) Rebase(_ context.Context, from, to model.Weights) error {
	if err := t.net.fits("rebase", from, to); err != nil {
		return err
	}
	if t.torn {
		return model.ErrNoWeights
	}
	a, err := t.apart(from)
	if err != nil {
		return err
	}
	b, err := t.apart(to)
	if err != nil {
		return err
	}
	was, is := make([]float32, t.net.stretch*model.ChunkSize), make([]float32, t.net.stretch*model.ChunkSize)
	err = t.replace(func(q *queue, dst []float32, r model.ChunkRange) error {
		t.read(q, dst, r)
		was, is := was[:len(dst)], is[:len(dst)]
		if q.err != nil {
			return q.err
		}
		if err := a.Read(was, r); err != nil {
			return err
		}
		if err := b.Read(is, r); err != nil {
			return err
		}
		for i := range dst {
			dst[i] += is[i] - was[i]
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("rebase: %w", err)
	}
	return nil
}

// apart is w, or a copy of it where it is read through the trainer's own card, whose thread is busy while it takes parameters.
func (t *Trainer) apart(w model.Weights) (model.Weights, error) {
	if r, ok := w.(local); !ok || r.t != t {
		return w, nil
	}
	f := model.NewFlat(t.net.layout)
	return f, f.CopyFrom(w)
}

// replace makes what fill gives the parameters, when all of it is there. Until then it waits in the gradient's memory, which nobody needs
// between steps, with short gradients in the copies' too; offloaded, on the host.
func (t *Trainer) replace(fill func(q *queue, dst []float32, r model.ChunkRange) error) error {
	n, changing := t.net, false
	t.cache.drop()
	err := n.do(func(q *queue) {
		here := func(dst []float32, r model.ChunkRange) error { return fill(q, dst, r) }
		if t.host != nil {
			changing = t.host.replace(q, t, here)
			return
		}
		waits, size := n.g, 4*int64(n.vec.size)
		if n.short { // copies and gradients lie one behind the other
			waits = n.half
			q.try(func() error { return q.c.Part(waits, size, "parameters that wait") })
			q.clear(waits, size)
		}
		n.write(q, waits, n.layout.All(), here)
		if changing = q.err == nil; changing {
			q.copy(n.w, waits, size)
		}
		if n.short {
			changing = !n.restore(q) || changing
		} else {
			n.round(q)
		}
	})
	if err == nil && t.torn { // a step may have changed some of the moments only
		t.Forget()
		t.torn = false
	} else if err != nil && changing {
		t.torn = true
	}
	return err
}

// restore makes copies and gradients of the memory where parameters have waited, after an error too, and says whether it could.
func (n *net) restore(q *queue) bool {
	failed := q.err
	q.err = nil
	q.try(q.c.Sync) // before others' bounds apply
	q.try(func() error { return q.c.Part(n.half, 2*int64(n.vec.size), "copies") })
	q.try(func() error { return q.c.Part(n.g, 2*int64(n.vec.size), "gradients") })
	q.clear(n.g, 2*int64(n.vec.size))
	n.round(q)
	done := q.err == nil
	q.err = errors.Join(failed, q.err)
	return done
}

// read brings chunks of the parameters to dst.
func (t *Trainer) read(q *queue, dst []float32, r model.ChunkRange) {
	if t.host == nil {
		t.net.read(q, dst, r, t.net.w)
		return
	}
	t.net.gather(dst, t.host.w, r)
}

// Trained implements model.Trainer.
func (t *Trainer) Trained() model.Weights { return local{t} }

// local is a live view of the parameters.
type local struct{ t *Trainer }

func (r local) Layout() *model.Layout { return r.t.net.layout }

func (r local) Read(dst []float32, c model.ChunkRange) error {
	if err := r.t.net.layout.CheckRange(c, len(dst)); err != nil {
		return err
	}
	if r.t.torn {
		return model.ErrNoWeights
	}
	if r.t.host != nil {
		r.t.net.gather(dst, r.t.host.w, c)
		return nil
	}
	fetch := func(dst []float32, c model.ChunkRange) error {
		return r.t.net.do(func(q *queue) { r.t.net.read(q, dst, c, r.t.net.w) })
	}
	if c.To-c.From >= groupChunks {
		return fetch(dst, c)
	}
	return r.t.cache.read(dst, r.t.net.layout, c, fetch)
}
