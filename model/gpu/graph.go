package gpu

import (
	"errors"

	"sn3/model/gpu/cuda"
)

// graphKey names work that is always the same: kernels with the same arguments.
type graphKey struct {
	what string
	B, T int
	acc  bool
}

// mostGraphs is how many are kept: batches have few shapes, and what comes in many is launched kernel by kernel.
const mostGraphs = 16

// replay enqueues what f launches. The first time it is launched, which also lets the driver load what it loads lazily; then it is
// captured, and is one graph from then on.
func (q *queue) replay(key graphKey, f func()) {
	if q.err != nil {
		return
	}
	if q.trace != nil { // launches are timed one by one
		f()
		return
	}
	g, seen := q.graphs[key]
	switch {
	case !seen:
		if len(q.graphs) < mostGraphs {
			q.graphs[key] = nil
		}
		f()
		return
	case g == nil:
		g, q.err = q.c.Capture(func() error { f(); return q.err })
		if q.err != nil {
			return
		}
		q.graphs[key] = g
	}
	q.err = q.c.Replay(g)
}

// dropGraphs frees the graphs: what they refer to has moved, or nobody needs them.
func (k *card) dropGraphs(c *cuda.Context) (err error) {
	for key, g := range k.graphs {
		if g != nil {
			err = errors.Join(err, c.FreeGraph(g))
		}
		delete(k.graphs, key)
	}
	return err
}
