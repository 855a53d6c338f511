package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sn3/chain"
)

// nonceTries is how often a transaction is signed anew because another one took its nonce.
const nonceTries = 5

// Publish implements chain.Writer.
func (c *Client) Publish(ctx context.Context, r chain.Record) (chain.Receipt, error) {
	if err := r.Validate(); err != nil {
		return chain.Receipt{}, err
	}
	if c.by == nil {
		return chain.Receipt{}, ErrNoKey
	}
	s, err := persist(ctx, c, func() (*chain.Snapshot, error) { return c.Newest(ctx) })
	if err != nil {
		return chain.Receipt{}, err
	}
	if p, ok := s.Record(c.by.Hotkey()); ok && p.Record.Equal(r) {
		return chain.Receipt{Block: p.At}, nil
	}
	return c.Send(ctx, Publish{Record: r})
}

// Register implements chain.Registrar: a hotkey that has a seat gets its uid back and pays nothing.
func (c *Client) Register(ctx context.Context) (chain.UID, error) {
	return c.RegisterFor(ctx, chain.Coldkey{}, 0)
}

// RegisterFor is Register with another account as the hotkey's owner, which receives the emission, and a price that must not be
// exceeded; 0: any.
func (c *Client) RegisterFor(ctx context.Context, owner chain.Coldkey, limit chain.Amount) (chain.UID, error) {
	if c.by == nil {
		return 0, ErrNoKey
	}
	self := c.by.Hotkey()
	for paid := false; ; paid = true {
		s, err := persist(ctx, c, func() (*chain.Snapshot, error) { return c.Newest(ctx) })
		if err != nil {
			return 0, err
		}
		if n, ok := s.ByHotkey(self); ok {
			return n.UID, nil
		}
		if paid {
			return 0, fmt.Errorf("registration was included but there is no seat: %w", chain.ErrNotRegistered)
		}
		if _, err := c.Send(ctx, Register{Coldkey: owner, Limit: limit}); err != nil {
			return 0, err
		}
	}
}

// Transfer implements chain.Registrar.
func (c *Client) Transfer(ctx context.Context, to chain.Coldkey, amount chain.Amount) error {
	_, err := c.Send(ctx, Transfer{To: to, Amount: amount})
	return err
}

// Send signs an operation, submits it and waits until it is in a final block. A wrong nonce is read anew and tried again:
// another transaction of this key may have been on its way. A node that does not answer is waited for, half a minute at
// most in one piece; then the error is chain.ErrUnavailable and the operation may or may not happen later.
func (c *Client) Send(ctx context.Context, op Op) (chain.Receipt, error) {
	if c.by == nil {
		return chain.Receipt{}, ErrNoKey
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return chain.Receipt{}, ctx.Err()
	}
	for try := 1; ; try++ {
		st, acc, err := c.self(ctx)
		if err != nil {
			return chain.Receipt{}, err
		}
		if _, err := persist(ctx, c, func() (struct{}, error) { return struct{}{}, c.steady(ctx) }); err != nil {
			return chain.Receipt{}, err
		}
		tx, err := SignTx(st.Network, acc.Nonce, op, c.by)
		if err != nil {
			return chain.Receipt{}, err
		}
		in, err := c.include(ctx, tx, st.Height)
		if err != nil {
			return chain.Receipt{}, err
		}
		if in.Code == CodeOK {
			c.next = acc.Nonce + 1
		}
		if in.Code != CodeNonce || try == nonceTries {
			return chain.Receipt{Block: in.Block, Tx: tx.Hash()}, in.Code.Err()
		}
		if _, err := persist(ctx, c, func() ([]chain.Head, error) { return c.back.Heads(ctx, st.Height) }); err != nil {
			return chain.Receipt{}, err
		}
	}
}

// self is the chain's status and this client's account, of a node that has what this client was told is final. One that has
// not would give a nonce again: the same operation would be the same transaction, and be taken for done.
func (c *Client) self(ctx context.Context) (Status, AccountInfo, error) {
	for begin := time.Now(); ; {
		st, err := persist(ctx, c, func() (Status, error) { return c.Status(ctx) })
		if err != nil {
			return st, AccountInfo{}, err
		}
		acc, err := persist(ctx, c, func() (AccountInfo, error) { return c.Account(ctx, chain.Coldkey(c.by.Hotkey())) })
		if err != nil || acc.Nonce >= c.next {
			return st, acc, err
		}
		if time.Since(begin) > c.patience {
			return st, acc, fmt.Errorf("%w: the node at block %d has not got this account's last transaction; is it behind, or of another chain?", chain.ErrUnavailable, st.Height)
		}
		if _, err := persist(ctx, c, func() ([]chain.Head, error) { return c.back.Heads(ctx, st.Height) }); err != nil {
			return st, acc, err
		}
	}
}

// include submits a transaction made at height since and waits for its outcome, head by head. The same bytes are submitted
// again at every head, because a restarted node forgets its mempool; one nonce cannot execute twice.
func (c *Client) include(ctx context.Context, tx *Tx, since chain.Block) (TxInfo, error) {
	raw, hash := tx.Encode(), tx.Hash()
	for {
		code, err := persist(ctx, c, func() (Code, error) { return c.submit(ctx, raw) })
		if err != nil || code != CodeOK {
			return TxInfo{Code: code}, err
		}
		info, err := persist(ctx, c, func() (TxInfo, error) { return query[TxInfo](ctx, c, QueryTx, hash.String()) })
		if err == nil && info.Block > 0 {
			return info, nil
		}
		if err != nil && !errors.Is(err, chain.ErrNotFound) {
			return TxInfo{}, err
		}
		heads, err := persist(ctx, c, func() ([]chain.Head, error) { return c.back.Heads(ctx, since) })
		if err != nil {
			return TxInfo{}, err
		}
		if n := len(heads); n > 0 {
			since = heads[n-1].Block
		}
	}
}

// steady says whether the nodes behind the client agree, where there are several.
func (c *Client) steady(ctx context.Context) error {
	s, several := c.back.(Steady)
	if !several {
		return nil
	}
	if err := s.Steady(ctx); err != nil {
		return fmt.Errorf("nothing is signed: %w", err)
	}
	return nil
}

func (c *Client) submit(ctx context.Context, raw []byte) (Code, error) {
	code, err := c.back.Submit(ctx, raw)
	if err == nil && code == CodeUnavailable {
		err = code.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("submit transaction: %w", err)
	}
	return code, nil
}

// persist calls f until the node answers: errors that are chain.ErrUnavailable are tried again, at growing intervals, until
// ctx ends or the client's patience is over. Nodes that disagree are waited for until ctx ends: another try elsewhere would
// sign on what one of them made up.
func persist[T any](ctx context.Context, c *Client, f func() (T, error)) (T, error) {
	begin := time.Now()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		v, err := f()
		if errors.Is(err, chain.ErrDisputed) {
			begin = time.Now()
		}
		if !errors.Is(err, chain.ErrUnavailable) || time.Since(begin) > c.patience {
			return v, err
		}
		sleep(ctx, wait)
		if ctx.Err() != nil {
			return v, fmt.Errorf("%w; the last attempt: %w", ctx.Err(), err)
		}
	}
}
