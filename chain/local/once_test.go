package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
)

// to is who is paid in these tests, and one how much.
var to = chain.Coldkey{9}

const one = 700

// paid checks how many payments there were.
func paid(t *testing.T, d *localtest.DevChain, want int) {
	t.Helper()
	if err := d.Run(100); err != nil {
		t.Fatal(err)
	}
	if got, err := local.NewClient(d, nil).Balance(t.Context(), to); err != nil || got != chain.Amount(want*one) {
		t.Errorf("%d rao of %d payments, %v", got, want, err)
	}
}

// joined answers as a node does that has just joined by a snapshot: it has the state and knows no transactions of before.
func joined(d *localtest.DevChain, b *backend) {
	b.submit = func(_ context.Context, tx []byte) (local.Code, error) { return d.CheckTx(tx), nil }
	b.query = func(ctx context.Context, name, arg string) (json.RawMessage, error) {
		switch {
		case name == local.QueryTx && strings.Contains(arg, "@"):
			return nil, chain.ErrPruned
		case name == local.QueryTx:
			return nil, chain.ErrNotFound
		}
		return d.Query(ctx, name, arg)
	}
}

// A payment is in a block, the node that took it dies, and the next one knows only that its nonce is used: it is not paid again,
// and who asked for it learns what to look for.
func TestPaidOnce(t *testing.T) {
	for name, dies := range map[string]func(d *localtest.DevChain, b *backend, code local.Code) (local.Code, error){
		"before it answers": func(d *localtest.DevChain, b *backend, _ local.Code) (local.Code, error) {
			joined(d, b)
			return 0, gone()
		},
		"after it answered": func(d *localtest.DevChain, b *backend, code local.Code) (local.Code, error) {
			joined(d, b)
			return code, nil
		},
		"and the next one answers for it": func(d *localtest.DevChain, b *backend, _ local.Code) (local.Code, error) {
			joined(d, b)
			return local.CodeNonce, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, b, c := dev(t)
			next, ctx := b.Backend, within(t)
			b.heads = func(context.Context, chain.Block) ([]chain.Head, error) { _, err := d.Tick(); return nil, err }
			b.submit = func(ctx context.Context, tx []byte) (local.Code, error) {
				code, err := next.Submit(ctx, tx)
				if err != nil {
					return code, err
				}
				return dies(d, b, code)
			}
			r, err := c.Send(ctx, local.Transfer{To: to, Amount: one})
			var p *local.PendingError
			if !errors.As(err, &p) || !errors.Is(err, chain.ErrUnavailable) || r != (chain.Receipt{}) || !strings.Contains(err.Error(), "sn3 chain tx "+p.Tx.String()) {
				t.Fatalf("%+v, %v", r, err)
			}
			if raw, err := d.Query(ctx, local.QueryTx, p.Tx.String()); err != nil {
				t.Errorf("the transaction that it names: %s, %v", raw, err)
			}
			paid(t, d, 1)
		})
	}
}

// A node that is ahead of the one that knows the account refuses a nonce that is not used there yet: it is waited for.
func TestNonceNotUsedYet(t *testing.T) {
	d, b, c := dev(t)
	next, n := b.Backend, 0
	b.heads = func(context.Context, chain.Block) ([]chain.Head, error) { _, err := d.Tick(); return nil, err }
	b.submit = func(ctx context.Context, tx []byte) (local.Code, error) {
		if n++; n < 9 {
			return local.CodeNonce, nil
		}
		return next.Submit(ctx, tx)
	}
	if err := c.Transfer(within(t), to, one); err != nil || n != 9 {
		t.Errorf("%v after %d submissions", err, n)
	}
	paid(t, d, 1)
}

// Two processes one after the other make equal payments. The second one's node does not have the first one yet: it would make
// the same transaction, and take the first payment for its own.
func TestTwoProcessesPayTwice(t *testing.T) {
	d, b, c := dev(t)
	ctx, next := within(t), b.Backend
	old := map[string]json.RawMessage{}
	for _, name := range []string{local.QueryStatus, local.QueryAccount} {
		key, err := localtest.Key("me")
		if err != nil {
			t.Fatal(err)
		}
		arg := ""
		if name == local.QueryAccount {
			arg = local.AccountOf(&key.PublicKey).String()
		}
		if old[name], err = next.Query(ctx, name, arg); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Transfer(ctx, to, one); err != nil {
		t.Fatal(err)
	}
	behind := 2
	b.query = func(ctx context.Context, name, arg string) (json.RawMessage, error) {
		if raw, ok := old[name]; ok && behind > 0 {
			return raw, nil
		}
		return next.Query(ctx, name, arg)
	}
	b.heads = func(ctx context.Context, after chain.Block) ([]chain.Head, error) {
		behind--
		return next.Heads(ctx, after)
	}
	key, err := localtest.Key("me")
	if err != nil {
		t.Fatal(err)
	}
	second := local.NewClient(b, local.Signer{Key: key})
	if err := second.Transfer(ctx, to, one); err != nil || behind != 0 {
		t.Errorf("%v; the node was behind %d times more", err, behind)
	}
	paid(t, d, 2)
	behind = 1 << 30
	second = local.NewClient(b, local.Signer{Key: key})
	second.SetPatience(time.Millisecond)
	if err := second.Transfer(ctx, to, one); !errors.Is(err, chain.ErrUnavailable) || errors.As(err, new(*local.PendingError)) {
		t.Errorf("a node that stays behind: %v", err)
	}
}

// A chain that stands still, or goes on without the transaction, does not keep a person waiting for ever; nodes that disagree do
// not count.
func TestNoBlockHasIt(t *testing.T) {
	for name, makes := range map[string]bool{"stands still": false, "goes by without": true} {
		synctest.Test(t, func(t *testing.T) {
			d, b, c := dev(t)
			b.submit = func(context.Context, []byte) (local.Code, error) { return local.CodeOK, nil }
			b.heads = func(ctx context.Context, after chain.Block) ([]chain.Head, error) {
				<-time.After(local.HeadsWait)
				if !makes {
					return nil, nil
				}
				h, err := d.Tick()
				return []chain.Head{h}, err
			}
			begin := time.Now()
			_, err := c.Send(t.Context(), local.Transfer{To: to, Amount: one})
			if !errors.Is(err, chain.ErrUnavailable) || !errors.As(err, new(*local.PendingError)) || !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), "blocks went by without") {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(begin); took > 90*time.Second {
				t.Errorf("%s: after %s", name, took)
			}
			tries := 0
			b.submit = func(ctx context.Context, tx []byte) (local.Code, error) {
				if tries++; tries < 1000 {
					return 0, errors.Join(chain.ErrDisputed, chain.ErrUnavailable)
				}
				return d.Submit(ctx, tx)
			}
			makes = true
			if _, err := c.Send(t.Context(), local.Transfer{To: to, Amount: one}); err != nil {
				t.Errorf("after a long dispute: %v", err)
			}
		})
	}
}

// Who was stopped before anything went out has nothing to look for.
func TestNothingWentOut(t *testing.T) {
	_, b, c := dev(t)
	ctx, cancel := context.WithCancel(within(t))
	b.submit = func(context.Context, []byte) (local.Code, error) {
		cancel()
		return 0, errors.Join(chain.ErrDisputed, chain.ErrUnavailable)
	}
	if _, err := c.Send(ctx, local.Transfer{To: to, Amount: one}); !errors.Is(err, chain.ErrDisputed) || !errors.Is(err, context.Canceled) || errors.As(err, new(*local.PendingError)) {
		t.Errorf("%v", err)
	}
}

// A transaction that was in a block and refused there has used its nonce as well: the next one waits until the node has it.
func TestRefusedInABlock(t *testing.T) {
	_, b, c := dev(t)
	next := b.Backend
	b.submit = func(context.Context, []byte) (local.Code, error) { return local.CodeOK, nil }
	b.heads = func(context.Context, chain.Block) ([]chain.Head, error) { return nil, nil }
	asked := 0
	b.query = func(ctx context.Context, name, arg string) (json.RawMessage, error) {
		if name == local.QueryTx {
			if asked++; asked == 2 { // the first time is before it goes out
				return json.Marshal(local.TxInfo{Block: 2, Code: local.CodeFunds})
			}
		}
		return next.Query(ctx, name, arg)
	}
	if r, err := c.Send(within(t), local.Transfer{To: to, Amount: one}); !errors.Is(err, chain.ErrFunds) || r.Block != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	c.SetPatience(time.Millisecond)
	if _, err := c.Send(within(t), local.Transfer{To: to, Amount: one}); !errors.Is(err, chain.ErrUnavailable) || errors.As(err, new(*local.PendingError)) {
		t.Errorf("at a node without it: %v", err)
	}
}
