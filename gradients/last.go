package gradients

import (
	"fmt"

	"sn3/chain"
)

// Last reads the confirmed payload back from disk, with its window; nil if nothing was ever confirmed. A restarted miner goes
// on from it.
func (f *Feedback) Last() (*Payload, chain.Window, error) {
	if f.seq == 0 {
		return nil, 0, nil
	}
	p, err := f.readSlot(f.seq)
	if err != nil {
		return nil, 0, fmt.Errorf("read the last payload: %w", err)
	}
	return p.payload, p.window, nil
}
