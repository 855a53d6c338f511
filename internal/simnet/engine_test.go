package simnet

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/graph"
)

// on is a node that runs e instead of the usual engine, as --engine selects it.
func (n *Net) on(e model.Engine) NodeOptions {
	return NodeOptions{
		Trainer: func(model.Trainer, *replica.Clock) model.Trainer {
			tr, err := e.NewTrainer(replica.ModelConfig(n.Run), replica.Optimizer(n.Run), model.Options{})
			if err != nil {
				n.T.Fatal(err)
			}
			return tr
		},
		Judge: func(model.Judge, *replica.Clock) model.Judge {
			j, err := e.NewJudge(replica.ModelConfig(n.Run), model.Options{})
			if err != nil {
				n.T.Fatal(err)
			}
			return j
		},
	}
}

// A miner and a validator on gorgonia are nodes like the others: all agree on every root, the miner is selected, both validators
// see the same loss. Stopped and started with the other engine, the miner goes on with the moments that the first one saved.
func TestNetworkOfTwoEngines(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: 2, Change: func(r *chain.Run) { r.Train.InnerSteps = 3 }})
	slow := n.on(graph.New())
	validators := []*Node{n.StartValidator(ValidatorName(1), slow), n.StartValidator(ValidatorName(2), NodeOptions{})}
	slow.Dir = t.TempDir()
	miner, other := n.StartMiner(MinerName(1), slow), n.StartMiner(MinerName(2), NodeOptions{})
	n.To(4)
	agree(t, 4, validators[0], validators[1], miner, other)
	if won, windows := validators[0].wins(miner.Hotkey); won != windows || won < 4 {
		t.Errorf("selected in %d of %d windows", won, windows)
	}
	evals := [2][]events.Event{validators[0].Events(events.Eval), validators[1].Events(events.Eval)}
	for i := range min(len(evals[0]), len(evals[1])) {
		if a, b := evals[0][i].Loss, evals[1][i].Loss; a == 0 || a-b > 1e-5 || b-a > 1e-5 {
			t.Errorf("window %d: gorgonia evaluates to %v, cpu to %v", evals[0][i].Window, a, b)
		}
	}
	if len(evals[0]) < 4 {
		t.Errorf("%d evaluations", len(evals[0]))
	}
	if err := n.Stop(miner); err != nil {
		t.Fatal(err)
	}
	o := n.on(cpu.New(""))
	o.Dir = slow.Dir
	miner = n.StartMiner(MinerName(1), o)
	n.To(7)
	agree(t, 7, validators[0], validators[1], miner, other)
	if s := miner.skips(); len(s) > 1 || len(s) == 1 && s[5] == "" { // it had already trained on window 5
		t.Errorf("after the change of engines windows were skipped: %v", s)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "inner.sn3.damaged")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the moments of gorgonia did not load (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "inner.sn3")); err != nil {
		t.Error(err)
	}
	if won, windows := validators[0].wins(miner.Hotkey); won < windows-1 {
		t.Errorf("in the end selected in %d of %d windows", won, windows)
	}
}
