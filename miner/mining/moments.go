package mining

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sn3/chain"
	"sn3/internal/replica"
	"sn3/model"
)

// The inner optimizer's state between runs: magic, window u64 BE, warm-up steps left u8, SHA-256 of these, then the trainer's own
// format, which carries its checksum. The window is also the position in the data: what a window trains on is fixed at its seed, and a window that
// was not finished is trained from its first batch again.
const (
	innerFile  = "inner.sn3"
	innerMagic = "sn3inner3"
)

// SaveEvery is after how many windows the inner optimizer of a model of so many parameters is saved when nobody says: so often
// that it writes at most a GiB a window on average, and at least every eighth.
func SaveEvery(params int) int {
	const perWindow, most = 1 << 30, 8
	return min(most, 1+8*params/perWindow)
}

func innerHead(w chain.Window, cold int) []byte {
	b := append(binary.BigEndian.AppendUint64([]byte(innerMagic), uint64(w)), byte(cold))
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// saveMoments notes that the trainer's moments are those after w, and saves them when it is time.
func (m *Miner) saveMoments(w chain.Window) error {
	m.moments = w
	if w-m.saved < chain.Window(m.cfg.SaveEvery) { // chain.NoWindow is the one before 0
		return nil
	}
	return m.writeMoments()
}

func (m *Miner) writeMoments() error {
	p, ok := m.cfg.Trainer.(model.Persister)
	if !ok {
		return nil
	}
	err := replica.WriteStream(filepath.Join(m.cfg.Dir, innerFile), func(w io.Writer) error {
		if _, err := w.Write(innerHead(m.moments, m.cold)); err != nil {
			return err
		}
		return p.Save(w)
	})
	if err != nil {
		return fmt.Errorf("save inner optimizer in %s (is the disk full?): %w", m.cfg.Dir, err)
	}
	m.saved = m.moments
	return nil
}

// finish saves moments that a crash would have lost when the miner is asked to stop: with them it goes on as if it had not. They
// may have seen some steps of the window after theirs. With SaveEvery 1 there is nothing to save, and a window that is trained
// again after a stop gives the same bytes.
func (m *Miner) finish(ctx context.Context, err error) error {
	if ctx.Err() == nil || m.cfg.SaveEvery == 1 || m.moments == m.saved || m.moments == chain.NoWindow {
		return err
	}
	return errors.Join(err, m.writeMoments())
}

// loadMoments restores the inner optimizer. A file that does not load is set aside: the miner then warms up again.
func (m *Miner) loadMoments() error {
	p, ok := m.cfg.Trainer.(model.Persister)
	if !ok {
		return nil
	}
	path := filepath.Join(m.cfg.Dir, innerFile)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read inner optimizer: %w", err)
	}
	defer f.Close()
	w, cold, err := parseInner(f, p)
	if err != nil {
		m.cfg.Log.Warn("saved inner optimizer does not load; warming up again", "reason", err, "kept_as", path+".damaged")
		if err := os.Rename(path, path+".damaged"); err != nil {
			return fmt.Errorf("set inner optimizer aside: %w", err)
		}
		return nil
	}
	m.moments, m.saved, m.cold = w, w, cold
	return nil
}

// parseInner loads a saved state into p and returns its window and the warm-up steps left; on an error p is a beginner.
func parseInner(r io.Reader, p model.Persister) (w chain.Window, cold int, err error) {
	head := make([]byte, len(innerMagic)+8+1+sha256.Size)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, 0, fmt.Errorf("read its head: %w", err)
	}
	w, cold = chain.Window(binary.BigEndian.Uint64(head[len(innerMagic):])), int(head[len(innerMagic)+8])
	if !bytes.Equal(head, innerHead(w, cold)) || cold > model.ColdSteps {
		return 0, 0, errors.New("its head is damaged, or of another version")
	}
	if err := p.Load(r); err != nil {
		p.Forget()
		return 0, 0, err
	}
	return w, cold, nil
}

// startOver gives the trainer the moments of a beginner, as after a divergence: the next window warms up, then it submits
// again.
func (m *Miner) startOver() error {
	m.moments, m.saved = chain.NoWindow, chain.NoWindow
	p, ok := m.cfg.Trainer.(model.Persister)
	if !ok {
		return nil
	}
	p.Forget()
	if err := os.Remove(filepath.Join(m.cfg.Dir, innerFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reset inner optimizer: %w", err)
	}
	return nil
}

// recall takes up from disk what was submitted last: the proxy of the window after it, and the sign that it needs no second
// submission.
func (m *Miner) recall() error {
	p, w, err := m.cfg.Feedback.Last()
	if err != nil {
		return err
	}
	m.last, m.lastOf = p, w
	return nil
}
