package node

import (
	"context"
	"fmt"

	"sn3/chain"
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
	status, err := n.Client.Status(ctx)
	if err != nil {
		return chain.Neuron{}, fmt.Errorf("ask the chain for this hotkey's seat: %w", err)
	}
	s, err := n.Client.Snapshot(ctx, status.Height)
	if err != nil {
		return chain.Neuron{}, fmt.Errorf("ask the chain for this hotkey's seat: %w", err)
	}
	seat, ok := s.ByHotkey(n.Hotkey)
	if !ok {
		return chain.Neuron{}, proc.Refused(fmt.Errorf("hotkey %s: %w; register it first: sn3 register --keystore FILE --chain HOST:PORT", n.Hotkey.Short(), chain.ErrNotRegistered))
	}
	return seat, nil
}
