package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/localtest"
	"sn3/chain/local/quorum"
)

const (
	payers     = 8
	publishers = 4
	amount     = 1000 // rao of a transfer, more than an account must hold
	pace       = 400 * time.Millisecond
)

func payer(i int) string     { return "payer" + strconv.Itoa(i) }
func publisher(i int) string { return "publisher" + strconv.Itoa(i) }

// actors are the accounts of the load, and two validators of the subnet with stake.
func actors() (list []localtest.Actor) {
	for i := range publishers {
		list = append(list, localtest.Actor{Name: publisher(i), Seat: true, Balance: 1000 * chain.RaoPerCoin, Stake: chain.Amount(i) * 100 * chain.RaoPerCoin})
	}
	for i := range payers {
		list = append(list, localtest.Actor{Name: payer(i), Balance: 1000 * chain.RaoPerCoin})
	}
	return list
}

// sink is the account that a payer pays, and nobody else does.
func sink(i int) chain.Coldkey { return chain.Coldkey{0xee, byte(i)} }

// worker sends one account's transactions, one after the other, and remembers what became of them.
type worker struct {
	number  int
	pays    bool
	client  *local.Client
	hotkey  chain.Hotkey
	rng     *rand.Rand
	acked   []chain.Receipt
	unknown int // neither acknowledged nor refused
	refused []error
	sent    int
	record  int // number in the last record that was acknowledged
}

// load is traffic on a network.
type load struct {
	workers []*worker
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

// traffic starts the load on all nodes of a network: transfers and records from many accounts, by the client that programs use.
func (n *network) traffic(ctx context.Context) (*load, error) {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop}
	for i := range payers + publishers {
		w := &worker{number: i, pays: i < payers, rng: rand.New(rand.NewPCG(n.rng.Uint64(), uint64(i)))}
		name := payer(i)
		if !w.pays {
			w.number = i - payers
			name = publisher(w.number)
		}
		key, err := localtest.Key(name)
		if err != nil {
			return nil, errors.Join(err, l.end())
		}
		back, err := quorum.Dial(n.addrs(), func(note quorum.Notice) { n.log.Debug("client", "account", name, "notice", note.String()) })
		if err != nil {
			return nil, errors.Join(err, l.end())
		}
		w.client, w.hotkey = local.NewClient(back, local.Signer{Key: key}), local.AccountOf(&key.PublicKey)
		l.workers = append(l.workers, w)
		l.ended.Go(func() { w.run(ctx) })
	}
	return l, nil
}

// run sends until ctx ends; what is on its way then is waited for.
func (w *worker) run(ctx context.Context) {
	for {
		t := time.NewTimer(time.Duration(w.rng.Int64N(int64(2 * pace))))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		w.sent++
		var r chain.Receipt
		var err error
		if once := context.WithoutCancel(ctx); w.pays {
			r, err = w.client.Send(once, local.Transfer{To: sink(w.number), Amount: amount})
		} else {
			r, err = w.client.Send(once, local.Publish{Record: chain.Record{Locator: []byte(strconv.Itoa(w.sent)), Digest: chain.Hash{1}}})
		}
		switch {
		case err == nil:
			w.acked, w.record = append(w.acked, r), w.sent
		case errors.Is(err, chain.ErrUnavailable):
			w.unknown++
		default:
			w.refused = append(w.refused, err)
		}
	}
}

// end stops sending and waits for what is on its way.
func (l *load) end() error {
	l.stop()
	l.ended.Wait()
	return nil
}

// acknowledged is how many transactions were.
func (l *load) acknowledged() (sum int) {
	for _, w := range l.workers {
		sum += len(w.acked)
	}
	return sum
}

// settle ends the load and looks for every acknowledged transaction on every running node.
func (n *network) settle(ctx context.Context, l *load) error {
	if err := l.end(); err != nil {
		return err
	}
	newest := chain.Block(0)
	for _, w := range l.workers {
		for _, err := range w.refused {
			n.violated("a transaction of %s was refused: %v", w.hotkey.Short(), err)
		}
		if len(w.acked) > 0 {
			newest = max(newest, w.acked[len(w.acked)-1].Block)
		}
	}
	_, high, err := heights(ctx, n.running())
	if err != nil {
		return err
	}
	if err := n.reach(ctx, max(high, newest)+1, n.running()...); err != nil {
		return err
	}
	for _, m := range n.running() {
		back, err := local.Dial(m.api)
		if err != nil {
			return err
		}
		for _, w := range l.workers {
			if err := n.account(ctx, m, back, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// account holds what one account was told against what one node has.
func (n *network) account(ctx context.Context, m *member, back local.Backend, w *worker) error {
	c := local.NewClient(back, nil)
	top, err := m.height(ctx)
	if err != nil {
		return err
	}
	for _, r := range w.acked {
		if r.Block+ledger.Keep < top+100 {
			continue // its outcome is no longer listed; the sums below have it
		}
		raw, err := back.Query(ctx, local.QueryTx, r.Tx.String())
		if err != nil || string(raw) != fmt.Sprintf(`{"block":%d,"code":0}`, r.Block) {
			n.violated("%s says of transaction %s, acknowledged in block %d: %s, %v", m.name(), r.Tx.Short(), r.Block, raw, err)
		}
	}
	a, err := c.Account(ctx, chain.Coldkey(w.hotkey))
	if err != nil {
		return err
	}
	least, most := uint64(len(w.acked)), uint64(len(w.acked)+w.unknown)
	if a.Nonce < least || a.Nonce > most {
		n.violated("%s: account %s has sent %d transactions, %d were acknowledged and %d left open", m.name(), w.hotkey.Short(), a.Nonce, least, w.unknown)
	}
	if w.pays {
		got, err := c.Balance(ctx, sink(w.number))
		if err != nil {
			return err
		}
		if uint64(got) != amount*a.Nonce {
			n.violated("%s: %d transfers of account %s brought %d rao", m.name(), a.Nonce, w.hotkey.Short(), got)
		}
		return nil
	}
	return n.published(ctx, m, c, w)
}

// published looks for an account's record: the last one that was acknowledged, or one that was left open after it.
func (n *network) published(ctx context.Context, m *member, c *local.Client, w *worker) error {
	s, err := c.Newest(ctx)
	if err != nil {
		return err
	}
	if w.record == 0 {
		return nil
	}
	p, ok := s.Record(w.hotkey)
	number, err := strconv.Atoi(string(p.Record.Locator))
	if !ok || err != nil || number < w.record {
		n.violated("%s: the record of %s is %q, %d was acknowledged", m.name(), w.hotkey.Short(), p.Record.Locator, w.record)
	}
	return nil
}
