package local

import (
	"context"
	"encoding/json"

	"sn3/chain"
)

// HotkeyInfo is what the chain keeps of a hotkey whether it has a seat or not.
type HotkeyInfo struct {
	Hotkey      chain.Hotkey  `json:"hotkey"`
	Owner       chain.Coldkey `json:"owner"`
	First       chain.Block   `json:"first_registered"`
	Times       uint64        `json:"registrations"`
	Earned      chain.Amount  `json:"earned"` // in all its seats
	Stake       chain.Amount  `json:"stake"`
	Take        uint16        `json:"take"` // of dividends, of 65535
	Stakers     []Staker      `json:"stakers"`
	MoreStakers int           `json:"more_stakers,omitempty"` // beyond the MaxStakers listed
	Commitments []Commitment  `json:"commitments"`            // weight rows that nobody can read yet
}

// MaxStakers is how many of those who stake on a hotkey are listed, the largest first.
const MaxStakers = 100

// Staker is an account with stake on a hotkey.
type Staker struct {
	Coldkey chain.Coldkey `json:"coldkey"`
	Amount  chain.Amount  `json:"amount"`
}

// Commitment is a sealed weight row of block At, which the beacon of Round opens.
type Commitment struct {
	At    chain.Block `json:"at"`
	Round chain.Round `json:"round"`
}

// BlockInfo is a block and what became of its transactions, by hash; refused ones without effect are not listed.
type BlockInfo struct {
	HeadInfo
	Txs []BlockTx `json:"txs"`
}

// BlockTx is a transaction in a block.
type BlockTx struct {
	Hash chain.Hash `json:"hash"`
	Code Code       `json:"code"`
}

// Hotkey is what the chain keeps of a hotkey; chain.ErrNotFound if it never registered.
func (c *Client) Hotkey(ctx context.Context, h chain.Hotkey) (HotkeyInfo, error) {
	return query[HotkeyInfo](ctx, c, QueryHotkey, h.String())
}

// Block is one of the newest blocks.
func (c *Client) Block(ctx context.Context, b chain.Block) (BlockInfo, error) {
	return query[BlockInfo](ctx, c, QueryBlock, number(b))
}

// AllParams are the chain's parameters by name, as they are now.
func (c *Client) AllParams(ctx context.Context) (map[string]json.RawMessage, error) {
	return query[map[string]json.RawMessage](ctx, c, QueryParams, "")
}

// History is a page of what happened to a hotkey before a block (0: the newest); with the zero hotkey, to the whole network.
func (c *Client) History(ctx context.Context, h chain.Hotkey, before chain.Block) (HistoryPage, error) {
	return query[HistoryPage](ctx, c, QueryHistory, h.String()+"@"+number(before))
}

// Weights are the weight rows of all seats, by uid.
func (c *Client) Weights(ctx context.Context) ([][]chain.Weight, error) {
	return query[[][]chain.Weight](ctx, c, QueryWeights, "")
}

// Outcome says what became of a transaction: chain.ErrNotFound if no block of the newest thousands has it.
func (c *Client) Outcome(ctx context.Context, tx chain.Hash) (TxInfo, error) {
	return query[TxInfo](ctx, c, QueryTx, tx.String())
}
