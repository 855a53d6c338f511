package graph

import (
	"io"

	"sn3/model"
)

// Save implements model.Persister, in the format of model/cpu: a miner may change its engine.
func (t *Trainer) Save(w io.Writer) error { return model.SaveMoments(w, t.l, t.step, t.m, t.v) }

// Forget implements model.Persister.
func (t *Trainer) Forget() {
	clear(t.m)
	clear(t.v)
	t.step = 0
}

// Load implements model.Persister; on an error nothing is changed.
func (t *Trainer) Load(r io.Reader) error {
	step, err := model.LoadMoments(r, t.l, t.m, t.v)
	if err == nil {
		t.step = step
	}
	return err
}
