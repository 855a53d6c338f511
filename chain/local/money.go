package local

import (
	"context"

	"sn3/chain"
)

// AddStake moves coins from the client's account into a hotkey's stake; at most amount: a rest that is worth less than a share
// stays.
func (c *Client) AddStake(ctx context.Context, h chain.Hotkey, amount chain.Amount) (chain.Receipt, error) {
	return c.Send(ctx, AddStake{Hotkey: h, Amount: amount})
}

// WholeStake as the amount of RemoveStake is all that the account has staked there.
const WholeStake = ^chain.Amount(0)

// RemoveStake takes coins out of a hotkey's stake; they are in the client's account after the network's delay: see Stakes.
func (c *Client) RemoveStake(ctx context.Context, h chain.Hotkey, amount chain.Amount) (chain.Receipt, error) {
	return c.Send(ctx, RemoveStake{Hotkey: h, Amount: amount})
}

// SetTake sets what the client's account, as the owner of a hotkey, takes of its dividends; of 65535.
func (c *Client) SetTake(ctx context.Context, h chain.Hotkey, take uint16) (chain.Receipt, error) {
	return c.Send(ctx, SetTake{Hotkey: h, Take: take})
}

// Stakes are what an account has staked, and its withdrawals on their way.
func (c *Client) Stakes(ctx context.Context, k chain.Coldkey) (Stakes, error) {
	return query[Stakes](ctx, c, QueryStakes, k.String())
}

// Price is what a registration costs now.
func (c *Client) Price(ctx context.Context) (chain.Amount, error) {
	return query[chain.Amount](ctx, c, QueryPrice, "")
}

// Supply says where all coins are after block b; chain.ErrPruned if the node no longer knows.
func (c *Client) Supply(ctx context.Context, b chain.Block) (Supply, error) {
	return query[Supply](ctx, c, QuerySupply, number(b))
}

// SupplyNow is Supply of the newest block.
func (c *Client) SupplyNow(ctx context.Context) (Supply, error) {
	return query[Supply](ctx, c, QuerySupply, "")
}
