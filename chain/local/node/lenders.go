package node

import (
	"sync"

	"github.com/cometbft/cometbft/p2p"
)

// Limits of what a peer that offers snapshots can cost.
const (
	maxOffers  = 32 // snapshots of one peer in freshTicks: the engine tries the highest first, and a liar could offer higher ones for ever
	maxStrikes = 3  // wrong parts of a peer that is alone with its snapshot, before it is not asked any more
)

// lenders are the peers from which a node may fetch the state that it begins with.
type lenders struct {
	mu      sync.Mutex
	of      map[p2p.ID]map[string]bool // by the name of a snapshot that a peer has offered: it has it still
	offered map[p2p.ID]int             // snapshots, lately
	strikes map[p2p.ID]int
	want    string // name of the snapshot being fetched; "": none
	height  uint64
	next    int // part
	parts   int
	done    bool
}

func newLenders() *lenders {
	return &lenders{of: map[p2p.ID]map[string]bool{}, offered: map[p2p.ID]int{}, strikes: map[p2p.ID]int{}}
}

// offers enters a peer's offer; it is not heard if that is one too many, or the peer lied.
func (l *lenders) offers(id p2p.ID, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done || l.strikes[id] >= maxStrikes {
		return false
	}
	if l.of[id] == nil {
		l.of[id] = map[string]bool{}
	}
	if _, known := l.of[id][name]; !known {
		if l.offered[id] >= maxOffers {
			return false
		}
		l.offered[id]++
	}
	l.of[id][name] = true
	return true
}

// forget lets all peers offer as many snapshots again.
func (l *lenders) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.offered)
}

// lends says whether a part of the snapshot being fetched may come from a peer.
func (l *lenders) lends(id p2p.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, offered := l.of[id][l.want]
	return offered && l.want != ""
}

// strike notes that a peer cannot or does not send a right part of the snapshot being fetched. out: it is not to be asked for
// anything any more.
func (l *lenders) strike(id p2p.ID, wrong bool) (out bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, offered := l.of[id][l.want]; offered {
		l.of[id][l.want] = false
	}
	if wrong {
		l.strikes[id]++
	}
	out = l.strikes[id] >= maxStrikes || wrong && l.have(l.want) > 0 // who lies is not needed where there are others
	if out {
		l.strikes[id] = maxStrikes
		delete(l.of, id)
	}
	return out
}

// left is how many peers still have a snapshot.
func (l *lenders) left(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.have(name)
}

func (l *lenders) have(name string) (n int) {
	for _, of := range l.of { // any order: a count
		if of[name] {
			n++
		}
	}
	return n
}

// fetch says which snapshot is fetched from now on; "": none.
func (l *lenders) fetch(name string, height uint64, parts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want, l.height, l.next, l.parts = name, height, 0, parts
}

// came notes that the first parts are there.
func (l *lenders) came(next int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = next
}

// finish ends it.
func (l *lenders) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want, l.done = "", true
}

// waits says whether no snapshot is being fetched, and whether one has been.
func (l *lenders) waits() (waits, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.want == "", l.done
}

// gone forgets a peer. Where it was the last that had the snapshot being fetched, these are the parts that will not come.
func (l *lenders) gone(id p2p.ID) (height uint64, from, to int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := l.of[id][l.want]
	delete(l.of, id)
	if l.want == "" || !had || l.have(l.want) > 0 {
		return 0, 0, 0
	}
	return l.height, l.next, l.parts
}
