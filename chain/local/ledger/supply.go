package ledger

import (
	"errors"
	"fmt"
	"strconv"

	"sn3/chain"
	"sn3/chain/local"
)

// auditSize is how many entries of the state are recomputed in every block at most; a larger state is audited in some of its
// blocks only.
const auditSize = 20_000

// errSums: coins came from nowhere, or are gone.
var errSums = errors.New("what was issued is not what is held, burned and pending")

// supply is where the coins are after the newest executed block, audited if it is that block's turn. An error says that the
// machine is not to be trusted any more.
func (l *Ledger) supply() (local.Supply, error) {
	x := l.st.Supply()
	if !x.Holds() {
		return x, fmt.Errorf("%w: %+v", errSums, x)
	}
	if x.Block%l.auditEvery() != 0 {
		return x, nil
	}
	err := l.st.Audit()
	x.Audited = err == nil
	return x, err
}

// auditEvery is the number of blocks of which one is audited.
func (l *Ledger) auditEvery() chain.Block { return chain.Block(1 + l.st.Size()/auditSize) }

// supplyAt answers the supply of a block; of the newest one if arg is empty. The newest one is audited, unless one before it was
// not long ago: whoever asks must not make a node read a large state again and again.
func (l *Ledger) supplyAt(arg string) (local.Supply, error) {
	now := l.status.Height
	at := uint64(now)
	if arg != "" {
		var err error
		if at, err = strconv.ParseUint(arg, 10, 64); err != nil {
			return local.Supply{}, fmt.Errorf("%w: supply of %q", ErrQuery, arg)
		}
	}
	b := chain.Block(at)
	x, kept := l.supplies[b]
	switch {
	case b > now:
		return x, fmt.Errorf("supply of block %d at height %d: %w", b, now, chain.ErrNotYet)
	case !kept:
		return x, fmt.Errorf("supply of block %d at height %d: %w", b, now, chain.ErrPruned)
	case b == l.st.Height() && !x.Audited && b >= l.asked+l.auditEvery():
		l.asked = b
		if err := l.st.Audit(); err != nil {
			return x, fmt.Errorf("supply of block %d: %w", b, err)
		}
		x.Audited = true
		l.supplies[b] = x
	}
	return x, nil
}

// stakes answers what an account has staked.
func (l *Ledger) stakes(arg string) (any, error) {
	var k chain.Coldkey
	if err := k.UnmarshalText([]byte(arg)); err != nil {
		return nil, fmt.Errorf("%w: account: %v", ErrQuery, err)
	}
	return l.st.Stakes(k), nil
}
