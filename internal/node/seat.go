package node

import (
	"context"
	"errors"
	"fmt"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
)

// Registered waits for nothing: a hotkey without a seat is told how to get one.
func (n *Node) Registered(ctx context.Context) error {
	_, err := n.seat(ctx)
	return err
}

// Permitted is Registered plus a validator permit.
func (n *Node) Permitted(ctx context.Context) error {
	seat, err := n.seat(ctx)
	if err != nil {
		return err
	}
	if !seat.Permit {
		return proc.Refused(fmt.Errorf("hotkey %s has a seat (uid %d) but no validator permit; permits come with stake", n.Hotkey.Short(), seat.UID))
	}
	return nil
}

func (n *Node) seat(ctx context.Context) (chain.Neuron, error) {
	s, err := Head(ctx, n.Client)
	if err != nil {
		return chain.Neuron{}, fmt.Errorf("ask the chain for this hotkey's seat: %w", err)
	}
	seat, ok := s.ByHotkey(n.Hotkey)
	if !ok {
		return chain.Neuron{}, proc.Refused(fmt.Errorf("hotkey %s: %w; register it first: sn3 register --keystore FILE --chain HOST:PORT", n.Hotkey.Short(), chain.ErrNotRegistered))
	}
	return seat, nil
}

// headTries bounds how often Head asks again: each time a block came between two questions.
const headTries = 10

// chainHead is what Head asks.
type chainHead interface {
	Status(ctx context.Context) (local.Status, error)
	Snapshot(ctx context.Context, b chain.Block) (*chain.Snapshot, error)
}

// Head is the metagraph as of the newest block. The chain keeps the newest block and phase blocks only, so the block of a
// status may be gone a moment later.
func Head(ctx context.Context, c chainHead) (*chain.Snapshot, error) {
	for i := 1; ; i++ {
		status, err := c.Status(ctx)
		if err != nil {
			return nil, err
		}
		s, err := c.Snapshot(ctx, status.Height)
		if err == nil || i == headTries || !errors.Is(err, chain.ErrPruned) && !errors.Is(err, chain.ErrNotYet) {
			return s, err
		}
	}
}
