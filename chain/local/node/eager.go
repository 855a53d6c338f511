package node

import (
	"context"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
)

// eager makes the engine's connections to an application. Each has a lock, and peers' transactions come to the mempool's from
// many sides at once: who signed them is found out before it, so that they are checked on all cores.
type eager struct {
	app     abci.Application
	recover func(tx []byte)
}

// NewABCIClient makes a connection.
func (e eager) NewABCIClient() (abcicli.Client, error) {
	return eagerClient{abcicli.NewLocalClient(nil, e.app), e.recover}, nil
}

type eagerClient struct {
	abcicli.Client
	recover func(tx []byte)
}

// CheckTxAsync is how the mempool asks for a transaction. A panic, which would end the process, comes again where guard catches it.
func (e eagerClient) CheckTxAsync(ctx context.Context, r *abci.RequestCheckTx) (*abcicli.ReqRes, error) {
	func() {
		defer func() { _ = recover() }()
		e.recover(r.Tx)
	}()
	return e.Client.CheckTxAsync(ctx, r)
}
