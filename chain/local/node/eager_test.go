package node

import (
	"context"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
)

// stubborn is an application that keeps a transaction until it is let go.
type stubborn struct {
	abci.BaseApplication
	has, free chan struct{}
}

func (s stubborn) CheckTx(context.Context, *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	s.has <- struct{}{}
	<-s.free
	return &abci.ResponseCheckTx{Code: 7}, nil
}

// While a transaction is checked the next one's signer is found out; what fails there fails in the check.
func TestSignersAreFoundBeforeTheLock(t *testing.T) {
	app := stubborn{has: make(chan struct{}), free: make(chan struct{})}
	asked := make(chan string, 2)
	c, err := eager{app, func(tx []byte) { asked <- string(tx); panic("no transaction") }}.NewABCIClient()
	if err != nil {
		t.Fatal(err)
	}
	c.SetResponseCallback(func(*abci.Request, *abci.Response) {})
	done := make(chan uint32, 2)
	check := func(tx string) {
		r, err := c.CheckTxAsync(t.Context(), &abci.RequestCheckTx{Tx: []byte(tx)})
		if err != nil {
			t.Error(err)
			done <- 0
			return
		}
		done <- r.Response.GetCheckTx().Code
	}
	go check("first")
	<-app.has // it holds the lock
	if got := <-asked; got != "first" {
		t.Fatalf("asked for %q", got)
	}
	go check("second")
	if got := <-asked; got != "second" { // would hang behind the lock
		t.Fatalf("asked for %q", got)
	}
	app.free <- struct{}{}
	<-app.has
	app.free <- struct{}{}
	for range 2 {
		if code := <-done; code != 7 {
			t.Errorf("code %d", code)
		}
	}
}
