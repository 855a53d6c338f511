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

// Send signs an operation, submits it and waits until it is in a final block. It happens once: a transaction is signed anew only
// when the chain has none of it and its nonce is used, by another process with this key. A node that does not answer is waited
// for, half a minute at most in one piece, and a block twice as long; then the error is chain.ErrUnavailable, and a
// *PendingError once a node may have the transaction.
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
		st, tx, err := c.sign(ctx, op)
		if err != nil {
			return chain.Receipt{}, err
		}
		in, err := c.include(ctx, tx, st.Height)
		if err != nil {
			return chain.Receipt{}, err
		}
		if in.Block > 0 {
			c.next = tx.Nonce + 1
		}
		if in.Code != CodeNonce || try == nonceTries {
			return chain.Receipt{Block: in.Block, Tx: tx.Hash()}, in.Code.Err()
		}
		if _, err := persist(ctx, c, func() ([]chain.Head, error) { return c.back.Heads(ctx, st.Height) }); err != nil {
			return chain.Receipt{}, err
		}
	}
}

// sign makes the transaction with the account's next nonce, while the nodes agree. A first one that the chain has already is an
// equal one of an earlier process, of which the node that was asked for the nonce does not know yet.
func (c *Client) sign(ctx context.Context, op Op) (Status, *Tx, error) {
	for begin := time.Now(); ; {
		st, acc, err := c.self(ctx)
		if err != nil {
			return st, nil, err
		}
		if _, err := persist(ctx, c, func() (struct{}, error) { return struct{}{}, c.steady(ctx) }); err != nil {
			return st, nil, err
		}
		tx, err := SignTx(st.Network, acc.Nonce, op, c.by)
		if err != nil || c.next > 0 {
			return st, tx, err
		}
		_, err = persist(ctx, c, func() (TxInfo, error) { return query[TxInfo](ctx, c, QueryTx, tx.Hash().String()) })
		switch {
		case errors.Is(err, chain.ErrNotFound):
			return st, tx, nil
		case err != nil:
			return st, nil, err
		}
		if err := c.behind(ctx, st, begin); err != nil {
			return st, nil, err
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
		if err := c.behind(ctx, st, begin); err != nil {
			return st, acc, err
		}
	}
}

// behind waits for the next head of a node that does not have this account's last transaction.
func (c *Client) behind(ctx context.Context, st Status, since time.Time) error {
	if time.Since(since) > c.patience {
		return fmt.Errorf("%w: the node at block %d has not got this account's last transaction; is it behind, or of another chain?", chain.ErrUnavailable, st.Height)
	}
	_, err := persist(ctx, c, func() ([]chain.Head, error) { return c.back.Heads(ctx, st.Height) })
	return err
}

// PendingError: a transaction was given away, and nobody could tell what became of it.
type PendingError struct {
	Tx  chain.Hash
	Err error // why
}

// Error says why, and what to do.
func (e *PendingError) Error() string { return fmt.Sprintf("%v; %s", e.Err, e.Hint()) }

// Hint says what to do.
func (e *PendingError) Hint() string {
	return fmt.Sprintf("the transaction may be in a block, or get into one: sn3 chain tx %s tells, look before you send it again", e.Tx)
}

// Unwrap is the reason.
func (e *PendingError) Unwrap() error { return e.Err }

// include submits a transaction made at height since and waits for its outcome.
func (c *Client) include(ctx context.Context, tx *Tx, since chain.Block) (TxInfo, error) {
	given := false // to a node, which may have it even if it said something else
	info, err := c.follow(ctx, tx, since, &given)
	if err != nil && given {
		err = &PendingError{tx.Hash(), err}
	}
	return info, err
}

// follow waits head by head. The same bytes are submitted again at each, because a restarted node forgets its mempool; one
// nonce cannot execute twice.
func (c *Client) follow(ctx context.Context, tx *Tx, since chain.Block, given *bool) (TxInfo, error) {
	raw, hash, at := tx.Encode(), tx.Hash(), since
	for begin := time.Now(); ; {
		asked := time.Now()
		code, err := persist(ctx, c, func() (Code, error) {
			code, err := c.submit(ctx, raw)
			*given = *given || !errors.Is(err, chain.ErrDisputed)
			return code, err
		})
		begin = begin.Add(time.Since(asked)) // nodes may disagree for hours
		switch {
		case err != nil:
			return TxInfo{}, err
		case code == CodeNonce:
			if info, used, err := c.outcome(ctx, tx, since); err != nil || used {
				return info, err
			}
		case code != CodeOK:
			return TxInfo{Code: code}, nil
		}
		info, err := persist(ctx, c, func() (TxInfo, error) { return query[TxInfo](ctx, c, QueryTx, hash.String()) })
		if err == nil && info.Block > 0 {
			return info, nil
		}
		if err != nil && !errors.Is(err, chain.ErrNotFound) {
			return TxInfo{}, err
		}
		if took := time.Since(begin); took > 2*c.patience {
			return TxInfo{}, left(at-since, took)
		}
		heads, err := persist(ctx, c, func() ([]chain.Head, error) { return c.back.Heads(ctx, at) })
		if err != nil {
			return TxInfo{}, err
		}
		if n := len(heads); n > 0 {
			at = heads[n-1].Block
		}
	}
}

// left is why a transaction that a node took is in no block.
func left(blocks chain.Block, took time.Duration) error {
	if blocks == 0 {
		return fmt.Errorf("%w: the chain stands still, no block came for %s: too few of its validators are there, or this node is cut off (chaind status tells which)", chain.ErrUnavailable, took.Round(time.Second))
	}
	return fmt.Errorf("%w: %d blocks went by without the transaction: the chain is full, or the node keeps it to itself; name other nodes in --chain", chain.ErrUnavailable, blocks)
}

// outcome finds out what became of a transaction whose nonce a node refuses: it may have been in a block all along. used is
// false while the account has not come to the nonce; the code is CodeNonce when another transaction had it, which a node can
// only tell that knows all blocks since the signature: not one that has just joined by a snapshot.
func (c *Client) outcome(ctx context.Context, tx *Tx, since chain.Block) (info TxInfo, used bool, err error) {
	acc, err := persist(ctx, c, func() (AccountInfo, error) { return c.Account(ctx, chain.Coldkey(c.by.Hotkey())) })
	if err != nil || acc.Nonce <= tx.Nonce {
		return TxInfo{}, false, err
	}
	info, err = persist(ctx, c, func() (TxInfo, error) { return query[TxInfo](ctx, c, QueryTx, tx.Hash().String()+"@"+number(since)) })
	switch {
	case errors.Is(err, chain.ErrNotFound):
		return TxInfo{Code: CodeNonce}, true, nil
	case errors.Is(err, chain.ErrPruned):
		err = fmt.Errorf("%w: its nonce is used, and no node that was asked knows all blocks since it was signed", chain.ErrUnavailable)
	}
	return info, true, err
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
