package node

import (
	"errors"
	"fmt"
	"runtime"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	"sn3/chain"
)

// ErrRules: the next block is executed by rules that this program does not know.
var ErrRules = errors.New("node: rules of a later release")

func (a *app) unknownRules(rules uint64, at chain.Block) error {
	return fmt.Errorf("%w: from block %d on the network has version %d of its rules, this program knows 1 to %d; install the release that has them "+
		"and start the node again: it goes on from this block", ErrRules, at, rules, a.newest)
}

// knows refuses to go on where the next block has rules that this program does not know.
func (a *app) knows() error {
	if _, next, _, _ := a.ledger.Rules(); next > a.newest {
		now, _ := a.ledger.Height()
		return a.unknownRules(next, now+1)
	}
	return nil
}

// ErrDamage: the node's own state is not to be trusted.
var ErrDamage = errors.New("node: damaged state")

// damaged is what to do when a block leaves other sums of money than its entries have.
func damaged(height int64, err error) error {
	return fmt.Errorf("%w: after block %d %w. Nothing of the block was saved: start the node again, which checks what is on disk; if it ends at this block "+
		"once more while others go on, its folder or this program is not the network's: install the network's release and join in a new folder; "+
		"if all nodes end here, it is a fault of this release's rules: keep the folders and report it", ErrDamage, height, err)
}

// halt keeps a block that this program cannot execute from being executed, and the engine from taking that for a failure:
// the node is ending already, and the block stays where it is until a later release starts here.
func (a *app) halt(err error) error {
	a.failed(err)
	if a.behind == nil { // the engine is starting and replays, and Start returns the reason
		return err
	}
	<-a.quit
	if a.behind() {
		runtime.Goexit() // the routine that fetches blocks ends the process on any error
	}
	return err
}

// because is the reason that the application gave for its end, or else err.
func (n *Node) because(err error) error {
	select {
	case why := <-n.err:
		return why
	default:
		return err
	}
}

// announce tells the operator of an upgrade: when it is announced, replaced or called off, at a start, and shortly before.
func (a *app) announce() {
	_, _, version, at := a.ledger.Rules()
	now, _ := a.ledger.Height()
	told := upgradeNote{version, at}
	near := version > 0 && (at-now == 1000 || at-now == 100)
	if told == a.told && !near {
		return
	}
	switch {
	case version == 0 && a.told.at > now:
		a.log.Info("the upgrade of the rules is called off")
	case version > a.newest:
		a.log.Warn("the rules change: this program does not know the new ones and will stop before that block; install the release that has them",
			"rules", version, "block", at, "blocks from now", at-now)
	case version > 0:
		a.log.Info("the rules change; this program knows the new ones", "rules", version, "block", at, "blocks from now", at-now)
	}
	a.told = told
}

type upgradeNote struct {
	rules uint64
	at    chain.Block
}

// turn is what the engine is told when the next block has other rules: its headers name them.
func (a *app) turn() *cmtproto.ConsensusParams {
	e := a.pending
	if e == nil || e.NextRules == e.Rules {
		return nil
	}
	return &cmtproto.ConsensusParams{Version: &cmtproto.VersionParams{App: e.NextRules}}
}

// version is the version of the rules by which the next block is executed.
func (a *app) version() uint64 {
	_, next, _, _ := a.ledger.Rules()
	return next
}
