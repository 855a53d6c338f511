package local

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"sn3/chain"
)

// Client implements chain.Reader, Writer, Registrar, Describer and Selector over a Backend. Safe for concurrent use; two
// processes must not share one key.
type Client struct {
	back Backend
	key  *ecdsa.PrivateKey

	mu  sync.Mutex // one transaction of this key at a time
	net string
}

// NewClient makes a client; with a nil key it can only read.
func NewClient(b Backend, key *ecdsa.PrivateKey) *Client { return &Client{back: b, key: key} }

func query[T any](ctx context.Context, c *Client, name, arg string) (out T, err error) {
	raw, err := c.back.Query(ctx, name, arg)
	if err != nil {
		return out, fmt.Errorf("ask the chain for %s: %w", name, err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("ask the chain for %s: read answer: %w", name, err)
	}
	return out, nil
}

// Status is the node's own view.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return query[Status](ctx, c, QueryStatus, "")
}

// Account is a balance and the next nonce.
func (c *Client) Account(ctx context.Context, k chain.Coldkey) (AccountInfo, error) {
	return query[AccountInfo](ctx, c, QueryAccount, k.String())
}

// Snapshot implements chain.Reader.
func (c *Client) Snapshot(ctx context.Context, b chain.Block) (*chain.Snapshot, error) {
	s, err := query[*chain.Snapshot](ctx, c, QuerySnapshot, strconv.FormatUint(uint64(b), 10))
	if err == nil && s == nil {
		err = errors.New("ask the chain for a snapshot: empty answer")
	}
	return s, err
}

// Beacon implements chain.Reader.
func (c *Client) Beacon(ctx context.Context, r chain.Round) ([]byte, error) {
	return query[[]byte](ctx, c, QueryBeacon, strconv.FormatUint(uint64(r), 10))
}

// Selection implements chain.Selector.
func (c *Client) Selection(ctx context.Context, w chain.Window) (chain.Selection, error) {
	return query[chain.Selection](ctx, c, QuerySelection, strconv.FormatUint(uint64(w), 10))
}

// Describe implements chain.Describer: the descriptor must have the hash that the node's status names.
func (c *Client) Describe(ctx context.Context) (*chain.Run, error) {
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := query[[]byte](ctx, c, QueryRun, "")
	if err != nil {
		return nil, err
	}
	run, err := chain.ParseRun(raw)
	if err != nil {
		return nil, err
	}
	if run.Hash() != st.RunHash {
		return nil, fmt.Errorf("run descriptor has hash %s, the chain names %s", run.Hash().Short(), st.RunHash.Short())
	}
	return run, nil
}

// Heads implements chain.Reader: it reconnects for as long as ctx lives and fills gaps.
func (c *Client) Heads(ctx context.Context) (<-chan chain.Head, error) {
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan chain.Head, 16)
	go func() {
		defer close(out)
		last := st.Height
		if last > 0 && !send(ctx, out, chain.Head{Block: last, Time: st.Time}) {
			return
		}
		for ctx.Err() == nil {
			heads, err := c.back.Heads(ctx, last)
			if err != nil {
				sleep(ctx, 200*time.Millisecond)
				continue
			}
			for _, h := range heads {
				if h.Block <= last {
					continue
				}
				if !send(ctx, out, h) {
					return
				}
				last = h.Block
			}
		}
	}()
	return out, nil
}

func send(ctx context.Context, out chan<- chain.Head, h chain.Head) bool {
	select {
	case out <- h:
		return true
	case <-ctx.Done():
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Publish implements chain.Writer.
func (c *Client) Publish(ctx context.Context, r chain.Record) (chain.Receipt, error) {
	if err := r.Validate(); err != nil {
		return chain.Receipt{}, err
	}
	if c.key != nil {
		if st, err := c.Status(ctx); err == nil {
			if s, err := c.Snapshot(ctx, st.Height); err == nil {
				if p, ok := s.Record(AccountOf(&c.key.PublicKey)); ok && p.Record.Equal(r) {
					return chain.Receipt{Block: p.At}, nil
				}
			}
		}
	}
	return c.Send(ctx, Publish{Record: r})
}

// SetWeights implements chain.Writer.
func (c *Client) SetWeights(ctx context.Context, w []chain.Weight) (chain.Receipt, error) {
	return c.Send(ctx, SetWeights{Weights: w})
}

// Register implements chain.Registrar: a hotkey that has a seat gets its uid back.
func (c *Client) Register(ctx context.Context) (chain.UID, error) {
	r, err := c.Send(ctx, Register{})
	if err != nil {
		return 0, err
	}
	for {
		st, err := c.Status(ctx)
		if err != nil {
			return 0, err
		}
		s, err := c.Snapshot(ctx, max(st.Height, r.Block))
		if errors.Is(err, chain.ErrPruned) || errors.Is(err, chain.ErrNotYet) { // another block came in between
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			sleep(ctx, 20*time.Millisecond)
			continue
		}
		if err != nil {
			return 0, err
		}
		n, ok := s.ByHotkey(AccountOf(&c.key.PublicKey))
		if !ok {
			return 0, fmt.Errorf("registration was included but there is no seat: %w", chain.ErrNotRegistered)
		}
		return n.UID, nil
	}
}

// Transfer implements chain.Registrar.
func (c *Client) Transfer(ctx context.Context, to chain.Coldkey, amount chain.Amount) error {
	_, err := c.Send(ctx, Transfer{To: to, Amount: amount})
	return err
}

// ErrNoKey: the client was made for reading.
var ErrNoKey = errors.New("local: this operation needs a key")

// Send signs an operation, submits it and waits until it is in a final block. A wrong nonce is read anew and tried again:
// another transaction of this key may have been on its way.
func (c *Client) Send(ctx context.Context, op Op) (chain.Receipt, error) {
	if c.key == nil {
		return chain.Receipt{}, ErrNoKey
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.net == "" {
		st, err := c.Status(ctx)
		if err != nil {
			return chain.Receipt{}, err
		}
		c.net = st.Network
	}
	const tries = 5
	for try := 0; ; try++ {
		acc, err := c.Account(ctx, chain.Coldkey(AccountOf(&c.key.PublicKey)))
		if err != nil {
			return chain.Receipt{}, err
		}
		tx, err := SignTx(c.net, acc.Nonce, op, c.key)
		if err != nil {
			return chain.Receipt{}, err
		}
		r, code, err := c.include(ctx, tx)
		if err != nil {
			return r, err
		}
		if code != CodeNonce || try == tries {
			return r, code.Err()
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// include submits a transaction and polls for its inclusion. One that a restarting node lost is submitted again.
func (c *Client) include(ctx context.Context, tx *Tx) (chain.Receipt, Code, error) {
	raw, hash := tx.Encode(), tx.Hash()
	code, err := c.back.Submit(ctx, raw)
	if err != nil {
		return chain.Receipt{}, 0, fmt.Errorf("submit transaction: %w", err)
	}
	if code != CodeOK {
		return chain.Receipt{}, code, nil
	}
	const again = 50 // polls
	for n := 1; ; n++ {
		sleep(ctx, 60*time.Millisecond)
		if ctx.Err() != nil {
			return chain.Receipt{}, 0, ctx.Err()
		}
		info, err := query[TxInfo](ctx, c, QueryTx, hash.String())
		if err != nil && !errors.Is(err, chain.ErrNotFound) && !errors.Is(err, chain.ErrUnavailable) {
			return chain.Receipt{}, 0, err
		}
		if err == nil && info.Block > 0 {
			return chain.Receipt{Block: info.Block, Tx: hash}, info.Code, nil
		}
		if n%again == 0 {
			if code, err := c.back.Submit(ctx, raw); err == nil && code == CodeNonce {
				return chain.Receipt{}, CodeNonce, nil // included earlier and forgotten, or overtaken
			}
		}
	}
}
