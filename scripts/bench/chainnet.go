package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
	"sn3/chain/local/state"
)

// chainJob is a network of chain nodes in one process, and what is done with it.
type chainJob struct {
	Nodes              int
	BlockMS            int64
	Miners, Validators int // seats
	Txs                int // of a turn
	Windows            int
	Bare               bool  // the consensus engine alone
	PaceMS             int64 // between blocks in truth; 0: BlockMS
	Apart              bool  // a process for each node
	Index              int   // of the node of such a process
	Accounts           int   // beside the seats', of a large state
	Snapshots          int   // that are watched
}

// ahead is how many transactions of one account may wait.
const ahead = 16

// genesis has all seats, and an account with coins for each.
func (c chainJob) genesis() (*state.Genesis, []byte, []local.Signer, error) {
	var actors []localtest.Actor
	var keys []local.Signer
	for i := range c.Miners + c.Validators {
		a := localtest.Actor{Name: fmt.Sprint("miner", i), Seat: true, Balance: 1000 * chain.RaoPerCoin}
		if i >= c.Miners {
			a.Name, a.Stake = fmt.Sprint("validator", i), chain.Amount(1000+i)*chain.RaoPerCoin
		}
		k, err := localtest.Key(a.Name)
		if err != nil {
			return nil, nil, nil, err
		}
		actors, keys = append(actors, a), append(keys, local.Signer{Key: k})
	}
	g, secret, err := localtest.Genesis(c.BlockMS, actors...)
	if err != nil {
		return nil, nil, nil, err
	}
	g.Params.MaxSeats = len(actors)
	g.Params.MaxValidators = c.Validators
	return g, secret, keys, nil
}

// found makes the folders of the nodes, all of them validators.
func (c chainJob) found(dir string) (homes []string, keys []local.Signer, err error) {
	g, _, keys, err := c.genesis()
	if err != nil {
		return nil, nil, err
	}
	g.BeaconKey = nil // the first node makes its own
	var others []local.Candidate
	for i := range c.Nodes {
		homes = append(homes, filepath.Join(dir, fmt.Sprint("node", i)))
		if i == 0 {
			continue
		}
		line, err := node.Keys(homes[i], g.Network)
		if err != nil {
			return nil, nil, err
		}
		others = append(others, line)
	}
	if err := node.Found(homes[0], g, others); err != nil {
		return nil, nil, err
	}
	for _, home := range homes {
		if err := node.Init(home, g, node.DefaultNet()); err != nil {
			return nil, nil, err
		}
	}
	return homes, keys, nil
}

func chainOptions(home string, peers []string) node.Options {
	meet := node.DefaultNet()
	meet.Peers, meet.Private = peers, true // every node is told of those before it: there is nobody to discover
	return node.Options{Home: home, Listen: "127.0.0.1:0", Version: "bench", Log: slog.New(slog.DiscardHandler), Net: &meet}
}

// network is what transactions are handed to: chain nodes, or engines without a chain.
type network interface {
	// push hands in transactions, a list for each account, and returns when blocks have them all.
	push(ctx context.Context, txs [][][]byte) error
	// warm returns when every node has made or followed some blocks.
	warm(ctx context.Context) error
	// nonce is an account's next.
	nonce(ctx context.Context, who int) (uint64, error)
	close() error
}

// subnet is a running network of ours.
type subnet struct {
	nodes []*node.Node
	keys  []local.Signer
}

// start runs the network of a job in dir.
func (c chainJob) start(ctx context.Context, dir string) (n network, keys []local.Signer, err error) {
	homes, keys, err := c.found(dir)
	if err != nil {
		return nil, nil, err
	}
	if c.Bare {
		n, err = startBare(homes)
	} else {
		n, err = startSubnet(homes, keys)
	}
	if err == nil {
		err = n.warm(ctx)
	}
	return n, keys, err
}

// warmBlocks have every node of a network meet the others.
const warmBlocks = 4

func startSubnet(homes []string, keys []local.Signer, change ...func(*node.Options)) (*subnet, error) {
	s := &subnet{keys: keys}
	var peers []string
	for _, home := range homes {
		o := chainOptions(home, peers)
		for _, f := range change {
			f(&o)
		}
		n, err := node.Start(o)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		st := n.Status()
		s.nodes, peers = append(s.nodes, n), append(peers, st.ID+"@"+st.Listen)
	}
	return s, nil
}

func (s *subnet) close() (err error) {
	for _, n := range s.nodes {
		err = errors.Join(err, n.Close())
	}
	return err
}

func (s *subnet) warm(ctx context.Context) error {
	for _, n := range s.nodes {
		for h, _ := n.Height(); h < warmBlocks; h, _ = n.Height() {
			if _, err := n.Heads(ctx, h); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *subnet) nonce(ctx context.Context, who int) (uint64, error) {
	return accountNonce(ctx, s.nodes[0], s.keys[who])
}

func accountNonce(ctx context.Context, n *node.Node, key local.Signer) (uint64, error) {
	raw, err := n.Query(ctx, local.QueryAccount, key.Hotkey().String())
	if err != nil {
		return 0, err
	}
	var a local.AccountInfo
	err = json.Unmarshal(raw, &a)
	return a.Nonce, err
}

func (s *subnet) push(ctx context.Context, txs [][][]byte) error {
	base := make([]uint64, len(txs))
	for who := range txs {
		var err error
		if base[who], err = s.nonce(ctx, who); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	hands := max(2*runtime.GOMAXPROCS(0), len(s.nodes))
	for hand := range hands {
		g.Go(func() error { return s.pushSome(ctx, hand, hands, txs, base) })
	}
	return g.Wait()
}

// pushSome cares for every hands-th account, through one node: with each block it hands in what that does not have yet.
func (s *subnet) pushSome(ctx context.Context, hand, hands int, txs [][][]byte, base []uint64) error {
	n := s.nodes[hand%len(s.nodes)]
	for {
		height, _ := n.Height()
		done := true
		for who := hand; who < len(txs); who += hands {
			now, err := accountNonce(ctx, n, s.keys[who])
			if err != nil {
				return err
			}
			rest := txs[who][now-base[who]:]
			done = done && len(rest) == 0
			for _, raw := range rest[:min(ahead, len(rest))] {
				code, err := n.Submit(ctx, raw)
				if errors.Is(err, chain.ErrUnavailable) || code == local.CodeUnavailable || code == local.CodeNonce { // full, or a block was faster
					break
				}
				if err := cmp.Or(err, code.Err()); err != nil {
					return err
				}
			}
		}
		if done {
			return nil
		}
		if _, err := n.Heads(ctx, height); err != nil {
			return err
		}
	}
}

// engines are nodes without a chain.
type engines struct {
	list []*node.Bare
	sent int // so far, by all
	by   int // processes that send as many as this one at the same time
}

func startBare(homes []string) (*engines, error) {
	e := &engines{by: 1}
	var peers []string
	for _, home := range homes {
		b, err := node.StartBare(chainOptions(home, peers))
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		e.list, peers = append(e.list, b), append(peers, b.Peer())
	}
	return e, nil
}

func (e *engines) close() (err error) {
	for _, b := range e.list {
		err = errors.Join(err, b.Close())
	}
	return err
}

func (e *engines) warm(ctx context.Context) error {
	for _, b := range e.list {
		for range warmBlocks {
			_, moved := b.Done()
			select {
			case <-moved:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// nonce is one that nobody had before: the engine knows transactions by their bytes.
func (e *engines) nonce(context.Context, int) (uint64, error) { return uint64(e.sent), nil }

// patientBlocks is for how many blocks without a transaction one may be waited for that is not in any.
const patientBlocks = 3

func (e *engines) push(ctx context.Context, txs [][][]byte) error {
	for _, list := range txs {
		e.sent += e.by * len(list)
	}
	if err := e.handIn(ctx, txs); err != nil {
		return err
	}
	for last, still := -1, 0; ; {
		n, moved := e.list[0].Done()
		if n >= e.sent {
			return nil
		}
		if n != last {
			last, still = n, 0
		}
		if still++; still > patientBlocks { // a mempool has dropped what it had let in before it was full
			if err := e.handIn(ctx, txs); err != nil {
				return err
			}
			still = 0
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// handIn gives all transactions to the mempools, which know those that they had before.
func (e *engines) handIn(ctx context.Context, txs [][][]byte) error {
	g, ctx := errgroup.WithContext(ctx)
	hands := max(2*runtime.GOMAXPROCS(0), len(e.list))
	for hand := range hands {
		g.Go(func() error {
			for who := hand; who < len(txs); who += hands {
				for _, raw := range txs[who] {
					if err := e.submit(ctx, hand%len(e.list), raw); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// submit waits for a block when the mempool is full.
func (e *engines) submit(ctx context.Context, at int, raw []byte) error {
	for {
		_, moved := e.list[at].Done()
		_, err := e.list[at].Submit(ctx, raw)
		if !errors.Is(err, chain.ErrUnavailable) {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// transfers signs so many payments among the accounts.
func transfers(ctx context.Context, n network, keys []local.Signer, count int) ([][][]byte, error) {
	accounts := payers(keys, count)
	return payments(ctx, n, keys, count, func(i int) local.Transfer {
		return local.Transfer{To: chain.Coldkey(keys[(i%accounts+1)%len(keys)].Hotkey()), Amount: chain.Amount(1 + i)}
	})
}

func payers(keys []local.Signer, count int) int { return min(len(keys), max(1, count/ahead+1)) }

// payments signs so many payments by turns of the accounts.
func payments(ctx context.Context, n network, keys []local.Signer, count int, payment func(i int) local.Transfer) ([][][]byte, error) {
	accounts := payers(keys, count)
	txs := make([][][]byte, accounts)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for who := range accounts {
		g.Go(func() error {
			nonce, err := n.nonce(ctx, who)
			if err != nil {
				return err
			}
			for i := who; i < count; i += accounts {
				tx, err := local.SignTx(localtest.Network, nonce, payment(i), keys[who])
				if err != nil {
					return err
				}
				txs[who], nonce = append(txs[who], tx.Encode()), nonce+1
			}
			return nil
		})
	}
	return txs, g.Wait()
}
