package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sn3/chain"
	"sn3/chain/bls"
)

// ErrNoKey: the client was made for reading.
var ErrNoKey = errors.New("local: this operation needs a key")

// Client implements chain.Reader, Writer, Registrar, Describer and Selector over a Backend. Safe for concurrent use; two
// processes must not share one key. Reads fail at once when the node is away, writes wait for it (see Send).
type Client struct {
	back Backend
	by   chain.Signer // nil: for reading

	turn     chan struct{} // one transaction of this key at a time
	next     uint64        // whoever has the turn: nonces below it are in final blocks
	patience time.Duration // how long a write waits for a node that does not answer
}

// NewClient makes a client that signs with by; without it (nil) it can only read.
func NewClient(b Backend, by chain.Signer) *Client {
	return &Client{back: b, by: by, turn: make(chan struct{}, 1), patience: 30 * time.Second}
}

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

func number[N ~uint64](n N) string { return strconv.FormatUint(uint64(n), 10) }

// Status is the node's own view.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return query[Status](ctx, c, QueryStatus, "")
}

// Params are the chain's constants.
func (c *Client) Params(ctx context.Context) (Params, error) {
	return query[Params](ctx, c, QueryParams, "")
}

// Peers are the peer-to-peer addresses that the node hands out.
func (c *Client) Peers(ctx context.Context) ([]string, error) {
	return query[[]string](ctx, c, QueryPeers, "")
}

// Validators are the nodes that make blocks, by key.
func (c *Client) Validators(ctx context.Context) ([]ValidatorInfo, error) {
	return query[[]ValidatorInfo](ctx, c, QueryValidators, "")
}

// Node is what the node says of itself and its peers.
func (c *Client) Node(ctx context.Context) (NodeStatus, error) {
	return query[NodeStatus](ctx, c, QueryNode, "")
}

// Account is a balance and the next nonce; an account that nobody ever paid has neither.
func (c *Client) Account(ctx context.Context, k chain.Coldkey) (AccountInfo, error) {
	return query[AccountInfo](ctx, c, QueryAccount, k.String())
}

// Balance is what an account holds.
func (c *Client) Balance(ctx context.Context, k chain.Coldkey) (chain.Amount, error) {
	a, err := c.Account(ctx, k)
	return a.Balance, err
}

// BalanceAt is what an account held as of block b, as long as the chain keeps it.
func (c *Client) BalanceAt(ctx context.Context, k chain.Coldkey, b chain.Block) (chain.Amount, error) {
	return query[chain.Amount](ctx, c, QueryBalance, k.String()+"@"+number(b))
}

// Snapshot implements chain.Reader.
func (c *Client) Snapshot(ctx context.Context, b chain.Block) (*chain.Snapshot, error) {
	s, err := query[*chain.Snapshot](ctx, c, QuerySnapshot, number(b))
	if err == nil && s == nil {
		err = errors.New("ask the chain for a snapshot: empty answer")
	}
	return s, err
}

// Newest is the snapshot of the newest final block.
func (c *Client) Newest(ctx context.Context) (*chain.Snapshot, error) {
	for {
		st, err := c.Status(ctx)
		if err != nil {
			return nil, err
		}
		s, err := c.Snapshot(ctx, st.Height)
		if !errors.Is(err, chain.ErrPruned) { // else so many blocks came in between that only a newer one is kept
			return s, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// Beacon implements chain.Reader.
func (c *Client) Beacon(ctx context.Context, r chain.Round) ([]byte, error) {
	return query[[]byte](ctx, c, QueryBeacon, number(r))
}

// Key is the beacon's public key that round r is sealed to: one for all rounds until validators make another. That of a round
// to come may change before the round.
func (c *Client) Key(ctx context.Context, r chain.Round) ([]byte, error) {
	return query[[]byte](ctx, c, QueryKey, number(r))
}

// Signature is the beacon's signature of r, which opens what is sealed to it, verified by the key.
func (c *Client) Signature(ctx context.Context, r chain.Round) ([]byte, error) {
	sig, err := query[[]byte](ctx, c, QuerySignature, number(r))
	if err != nil {
		return nil, err
	}
	key, err := c.Key(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := bls.Verify(key, uint64(r), sig); err != nil {
		return nil, fmt.Errorf("%w: the node's signature of round %d is none: %v", chain.ErrUnavailable, r, err)
	}
	return sig, nil
}

// Selection implements chain.Selector.
func (c *Client) Selection(ctx context.Context, w chain.Window) (chain.Selection, error) {
	return query[chain.Selection](ctx, c, QuerySelection, number(w))
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

// Head is a final block with the hash of its state, as long as the node lists it.
func (c *Client) Head(ctx context.Context, b chain.Block) (HeadInfo, error) {
	return query[HeadInfo](ctx, c, QueryHead, number(b))
}

// Heads implements chain.Reader: it reconnects for as long as ctx lives. A block that the node no longer lists, because the
// client was away for thousands of blocks, is delivered with the time of the next known one.
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
				for ; last < h.Block; last++ {
					if !send(ctx, out, chain.Head{Block: last + 1, Time: h.Time}) {
						return
					}
				}
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
