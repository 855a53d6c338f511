package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/cometbft/cometbft/light/provider"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/rpc/core"
	comettypes "github.com/cometbft/cometbft/types"

	"sn3/chain"
	"sn3/chain/local"
)

// lightBlock answers QueryLight: a header with the signatures under it and the validators who should have signed.
func (n *Node) lightBlock(arg string) (local.LightBlock, error) {
	if n.engine == nil {
		return local.LightBlock{}, fmt.Errorf("%w: this node is paused", chain.ErrUnavailable)
	}
	n.lights.Lock() // finding the validators of a block may cost a lot
	defer n.lights.Unlock()
	blocks := n.engine.BlockStore
	out := local.LightBlock{Base: chain.Block(blocks.Base()), Height: chain.Block(blocks.Height())}
	at := out.Base
	if arg != "" {
		h, err := strconv.ParseUint(arg, 10, 62)
		if err != nil {
			return out, fmt.Errorf("light block of %q: want a number", arg)
		}
		at = chain.Block(h)
	}
	if at == 0 || at > out.Height {
		return out, fmt.Errorf("light block %d at height %d: %w", at, out.Height, chain.ErrNotYet)
	}
	raw, err := loadLight(n.engine, int64(at))
	if err != nil {
		return out, fmt.Errorf("light block %d: %w", at, err)
	}
	out.Block = raw
	return out, nil
}

func loadLight(e *core.Environment, h int64) ([]byte, error) {
	meta, commit := e.BlockStore.LoadBlockMeta(h), e.BlockStore.LoadBlockCommit(h)
	if commit == nil {
		commit = e.BlockStore.LoadSeenCommit(h) // of the newest block
	}
	if meta == nil || commit == nil {
		return nil, chain.ErrPruned
	}
	set, err := e.StateStore.LoadValidators(h)
	if err != nil {
		return nil, fmt.Errorf("%w: its validators: %v", chain.ErrPruned, err)
	}
	b := comettypes.LightBlock{SignedHeader: &comettypes.SignedHeader{Header: &meta.Header, Commit: commit}, ValidatorSet: set}
	pb, err := b.ToProto()
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return pb.Marshal()
}

// decodeLight reads what another node calls a light block, and checks all that can be checked without trusting anybody. The
// engine panics on some of what can be wrong.
func decodeLight(raw []byte, chainID string) (b *comettypes.LightBlock, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode light block: %v", r)
		}
	}()
	var pb cmtproto.LightBlock
	if err := pb.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("decode light block: %w", err)
	}
	if b, err = comettypes.LightBlockFromProto(&pb); err != nil {
		return nil, fmt.Errorf("decode light block: %w", err)
	}
	if err := b.ValidateBasic(chainID); err != nil {
		return nil, fmt.Errorf("decode light block: %w", err)
	}
	return b, nil
}

// lamp is another node as a source of light blocks.
type lamp struct {
	addr    string
	from    local.Backend
	chainID string
}

// fetch asks for a block, "" for the oldest one that the node keeps.
func (l *lamp) fetch(ctx context.Context, arg string) (local.LightBlock, *comettypes.LightBlock, error) {
	raw, err := l.from.Query(ctx, local.QueryLight, arg)
	if err != nil {
		return local.LightBlock{}, nil, err
	}
	var a local.LightBlock
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, nil, fmt.Errorf("read answer: %w", err)
	}
	b, err := decodeLight(a.Block, l.chainID)
	return a, b, err
}

// ChainID implements provider.Provider.
func (l *lamp) ChainID() string { return l.chainID }

// String is the node's address.
func (l *lamp) String() string { return l.addr }

// LightBlock implements provider.Provider, whose errors are compared, not unwrapped.
func (l *lamp) LightBlock(ctx context.Context, height int64) (*comettypes.LightBlock, error) {
	arg := ""
	if height > 0 {
		arg = strconv.FormatInt(height, 10)
	} else {
		st, err := local.NewClient(l.from, nil).Status(ctx)
		if err != nil {
			return nil, provider.ErrNoResponse
		}
		height, arg = int64(st.Height), strconv.FormatUint(uint64(st.Height), 10)
	}
	_, b, err := l.fetch(ctx, arg)
	switch {
	case err == nil && b.Height == height:
		return b, nil
	case err == nil:
		return nil, provider.ErrBadLightBlock{Reason: fmt.Errorf("block %d instead of %d", b.Height, height)}
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, chain.ErrPruned):
		return nil, provider.ErrLightBlockNotFound
	case errors.Is(err, chain.ErrNotYet):
		return nil, provider.ErrHeightTooHigh
	case errors.Is(err, chain.ErrUnavailable):
		return nil, provider.ErrNoResponse
	}
	return nil, provider.ErrBadLightBlock{Reason: err}
}

// ReportEvidence implements provider.Provider. The API takes none: a validator that signs two blocks is found by its peers.
func (l *lamp) ReportEvidence(context.Context, comettypes.Evidence) error { return nil }
