package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
)

const (
	size    = 4 // nodes; three decide
	blockMS = 100
)

// network is four nodes in folders of their own, whose connections go through proxies.
type network struct {
	dir    string
	chaind string
	nodes  []*member
	rng    *rand.Rand
	log    *slog.Logger
	short  bool

	proxies map[[2]int]*toxiproxy.Proxy // who dials, who listens
	truth   truth
	faults  int
	ends    map[string]int // what nodes did with a harm, how often
	worst   chain.Block    // blocks that a recovery took at most
}

// found makes the folders of a new network under dir, which begins with a version of the rules (0: the newest), and starts nothing.
func found(dir, chaind string, rules uint64, rng *rand.Rand, log *slog.Logger) (*network, error) {
	n := &network{dir: dir, chaind: chaind, rng: rng, log: log, proxies: map[[2]int]*toxiproxy.Proxy{}, truth: newTruth(), ends: map[string]int{}}
	ports := freePorts(2 * size)
	for i := range size {
		n.nodes = append(n.nodes, &member{id: i, home: filepath.Join(dir, "node"+strconv.Itoa(i+1)), api: ports[2*i], p2p: ports[2*i+1], chaind: chaind, log: log})
	}
	g, _, err := localtest.Genesis(blockMS, actors()...)
	if err != nil {
		return nil, err
	}
	if rules > 0 {
		g.Rules = rules
	}
	g.BeaconKey = nil                                               // the first node makes it
	g.Time = time.Now().UTC().Add(-time.Hour).Truncate(time.Second) // a node whose clock is before it would not start
	var others []local.Candidate
	ids := make([]string, size)
	for i := size - 1; i >= 0; i-- {
		if i == 0 {
			if err := node.Found(n.nodes[0].home, g, others); err != nil {
				return nil, err
			}
		}
		c, err := node.Keys(n.nodes[i].home, g.Network)
		if err != nil {
			return nil, err
		}
		ids[i] = c.Node
		others = append(others, c)
	}
	for i, m := range n.nodes {
		meet := node.Net{Listen: m.p2p, MaxInbound: size, Private: true} // no way around the proxies
		for j := range size {
			if i == j {
				continue
			}
			p, err := n.proxy(i, j)
			if err != nil {
				return nil, err
			}
			meet.Peers = append(meet.Peers, ids[j]+"@"+p)
		}
		if err := node.Init(m.home, g, meet); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// proxy makes the one through which node i dials node j.
func (n *network) proxy(i, j int) (string, error) {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(api, fmt.Sprintf("%d-%d", i+1, j+1), "127.0.0.1:0", n.nodes[j].p2p)
	if err := p.Start(); err != nil {
		return "", fmt.Errorf("start proxy: %w", err)
	}
	n.proxies[[2]int{i, j}] = p
	return p.Listen, nil
}

// split cuts every connection between the nodes of one side and the others. A silent cut leaves connections open and carries
// nothing; the other kind closes and refuses them.
func (n *network) split(side map[int]bool, silent bool) error {
	n.faults++
	n.log.Info("split", "side", fmt.Sprint(side), "silent", silent)
	for pair, p := range n.proxies {
		if side[pair[0]] == side[pair[1]] {
			continue
		}
		if !silent {
			p.Stop()
			continue
		}
		for _, way := range []string{"upstream", "downstream"} {
			if _, err := p.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"name":%q,"type":"timeout","stream":%q,"attributes":{"timeout":0}}`, way, way))); err != nil {
				return fmt.Errorf("cut silently: %w", err)
			}
		}
	}
	return nil
}

// heal makes all connections possible again; what was silent breaks.
func (n *network) heal() error {
	n.log.Info("heal")
	var wg sync.WaitGroup
	errs := make(chan error, len(n.proxies))
	for _, p := range n.proxies {
		wg.Go(func() {
			p.Stop() // also takes the connections that a silent cut holds
			p.Toxics.ResetToxics(context.Background())
			errs <- p.Start()
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return fmt.Errorf("heal: %w", err)
		}
	}
	return nil
}

// start starts nodes at once and waits until each serves.
func (n *network) start(ctx context.Context, list ...*member) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, m := range list {
		wg.Go(func() { errs[i] = m.start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// close ends all nodes and proxies.
func (n *network) close() (err error) {
	for _, m := range n.nodes {
		err = errors.Join(err, m.stop())
	}
	for _, p := range n.proxies {
		p.Stop()
	}
	return err
}

// addrs are the addresses of all nodes, as a client takes them.
func (n *network) addrs() string {
	var list []string
	for _, m := range n.nodes {
		list = append(list, m.api)
	}
	return strings.Join(list, ",")
}

// running are the nodes that run.
func (n *network) running() (list []*member) {
	for _, m := range n.nodes {
		if m.runs() {
			list = append(list, m)
		}
	}
	return list
}

// without are all nodes but some.
func (n *network) without(some ...*member) (list []*member) {
	for _, m := range n.nodes {
		out := false
		for _, s := range some {
			out = out || s == m
		}
		if !out {
			list = append(list, m)
		}
	}
	return list
}

// freePorts finds addresses below the range that the system takes for connections, so that a port stays free while its node
// is away.
func freePorts(count int) (out []string) {
	taken := map[int]bool{}
	for len(out) < count {
		port := 10000 + rand.IntN(10000)
		if taken[port] {
			continue
		}
		taken[port] = true
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", at); err == nil && l.Close() == nil {
			out = append(out, at)
		}
	}
	return out
}

// clean removes the folders.
func (n *network) clean() error { return os.RemoveAll(n.dir) }
