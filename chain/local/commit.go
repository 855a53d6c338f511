package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"sn3/chain"
	"sn3/chain/timelock"
)

// WeightsVersion is the version key of this release's weights: validators older than the network demands are refused.
const WeightsVersion = 1

// RevealRounds are the first and the last round that a commitment made in block at may be sealed to: those whose beacon is in
// a block of its reveal epoch, which is period epochs after its own. Epoch i has the blocks from i·tempo on; Yuma runs in the
// first of them, after the reveals. The beacon of round r is in block r+1.
func RevealRounds(at, tempo chain.Block, period uint64) (first, last chain.Round) {
	begin := (at/tempo + chain.Block(period)) * tempo
	return chain.Round(begin - 1), chain.Round(begin + tempo - 2)
}

// commitTries is how often a row is sealed anew because its epoch ended on the way.
const commitTries = 5

// SetWeights implements chain.Writer: where the chain wants weights committed they are sealed, and the chain reveals them in
// the next epoch. What the chain could only find wrong then is refused here.
func (c *Client) SetWeights(ctx context.Context, row []chain.Weight) (chain.Receipt, error) {
	if c.by == nil {
		return chain.Receipt{}, ErrNoKey
	}
	p, err := persist(ctx, c, func() (Params, error) { return c.Params(ctx) })
	if err != nil {
		return chain.Receipt{}, err
	}
	if !p.CommitReveal {
		return c.Send(ctx, SetWeights{VersionKey: WeightsVersion, Weights: row})
	}
	s, err := persist(ctx, c, func() (*chain.Snapshot, error) { return c.Newest(ctx) })
	if err != nil {
		return chain.Receipt{}, err
	}
	for i, w := range row {
		if int(w.UID) >= len(s.Neurons) || i > 0 && row[i-1].UID >= w.UID {
			return chain.Receipt{}, CodeWeights.Err()
		}
	}
	for try := 1; ; try++ {
		r, err := c.commit(ctx, row, p.RevealPeriod)
		var refused *TxError
		if !errors.As(err, &refused) || refused.Code != CodeRound || try == commitTries {
			return r, err
		}
	}
}

// Dropped says why the chain dropped, at their reveal, weights that the client committed in block since or later; "" if it
// did not drop any.
func (c *Client) Dropped(ctx context.Context, since chain.Block) (string, error) {
	if c.by == nil {
		return "", ErrNoKey
	}
	p, err := c.History(ctx, c.by.Hotkey(), 0)
	if err != nil {
		return "", err
	}
	for _, e := range p.Events {
		if e.Kind == EventDropped && e.At >= since && e.Reason != Superseded {
			return fmt.Sprintf("committed in block %d: %s", e.At, e.Reason), nil
		}
	}
	return "", nil
}

// commit seals a row for the next block and sends it.
func (c *Client) commit(ctx context.Context, row []chain.Weight, period uint64) (chain.Receipt, error) {
	run, err := persist(ctx, c, func() (*chain.Run, error) { return c.Describe(ctx) })
	if err != nil {
		return chain.Receipt{}, err
	}
	st, err := persist(ctx, c, func() (Status, error) { return c.Status(ctx) })
	if err != nil {
		return chain.Receipt{}, err
	}
	round, _ := RevealRounds(st.Height+1, run.Tempo, period)
	key, err := persist(ctx, c, func() ([]byte, error) { return c.Key(ctx, round) })
	if err != nil {
		return chain.Receipt{}, err
	}
	op, err := Seal(c.by.Hotkey(), row, key, round, rand.Reader)
	if err != nil {
		return chain.Receipt{}, err
	}
	return c.Send(ctx, op)
}

// Seal makes the commitment of a weight row for a block about to be made: nobody can read it before the first block of its
// reveal epoch. key is the beacon's for the first of RevealRounds, entropy must be unpredictable.
func Seal(by chain.Hotkey, row []chain.Weight, key []byte, round chain.Round, entropy io.Reader) (CommitWeights, error) {
	p := timelock.WeightsPayload{Hotkey: by, VersionKey: WeightsVersion}
	for _, w := range row {
		p.UIDs, p.Values = append(p.UIDs, uint16(w.UID)), append(p.Values, w.Value)
	}
	sealed, err := timelock.Seal(key, uint64(round), p.Encode(), entropy)
	if err != nil {
		return CommitWeights{}, fmt.Errorf("seal weights: %w", err)
	}
	if len(sealed) > MaxCommit {
		return CommitWeights{}, fmt.Errorf("seal weights: %w", errors.New("too many"))
	}
	return CommitWeights{Round: round, Version: TimelockVersion, Commit: sealed}, nil
}
