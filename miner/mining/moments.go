package mining

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sn3/chain"
	"sn3/internal/replica"
	"sn3/model"
)

func (m *Miner) saveMoments(w chain.Window) error {
	m.moments = w
	p, ok := m.cfg.Trainer.(model.Persister)
	if !ok {
		return nil
	}
	var b bytes.Buffer
	b.Write(binary.BigEndian.AppendUint64(nil, uint64(w)))
	if err := p.Save(&b); err != nil {
		return fmt.Errorf("save inner optimizer: %w", err)
	}
	return replica.WriteFile(filepath.Join(m.cfg.Dir, innerFile), b.Bytes())
}

// loadMoments restores the inner optimizer. A file that does not load is set aside: the miner then warms up again.
func (m *Miner) loadMoments() error {
	p, ok := m.cfg.Trainer.(model.Persister)
	if !ok {
		return nil
	}
	if err := m.keepFresh(p); err != nil {
		return err
	}
	path := filepath.Join(m.cfg.Dir, innerFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read inner optimizer: %w", err)
	}
	if len(b) < 8 {
		err = errors.New("file too short")
	} else {
		err = p.Load(bytes.NewReader(b[8:]))
	}
	if err != nil {
		m.cfg.Log.Warn("saved inner optimizer does not load; warming up again", "reason", err)
		return os.Rename(path, path+".damaged")
	}
	m.moments = chain.Window(binary.BigEndian.Uint64(b))
	return nil
}

// keepFresh remembers the trainer's state before any step; zeros compress to nothing.
func (m *Miner) keepFresh(p model.Persister) error {
	var b bytes.Buffer
	z, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		err = p.Save(z)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return fmt.Errorf("save inner optimizer: %w", err)
	}
	m.fresh = b.Bytes()
	return nil
}

// startOver gives the trainer the moments of a beginner, as after a divergence: the next window warms up, then it submits
// again.
func (m *Miner) startOver() error {
	m.moments = chain.NoWindow
	p, ok := m.cfg.Trainer.(model.Persister)
	if !ok {
		return nil
	}
	if err := p.Load(flate.NewReader(bytes.NewReader(m.fresh))); err != nil {
		return fmt.Errorf("reset inner optimizer: %w", err)
	}
	if err := os.Remove(filepath.Join(m.cfg.Dir, innerFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reset inner optimizer: %w", err)
	}
	return nil
}
