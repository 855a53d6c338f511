package simnet

import (
	"testing"

	"sn3/chain"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/gpu"
	"sn3/model/gpu/standin"
)

// onCard runs a miner on the stand-in for a card.
func (n *Net) onCard(t *testing.T) NodeOptions {
	e := gpu.New(standin.Library(t), 0)
	return NodeOptions{Trainer: func(model.Trainer, *replica.Clock) model.Trainer {
		x, err := e.NewTrainer(replica.ModelConfig(n.Run), replica.Optimizer(n.Run), model.Options{Precision: model.BF16})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := x.(*gpu.Trainer).Close(); err != nil {
				t.Error(err)
			}
		})
		return x
	}}
}

// Two miners that train on cards, here on the stand-in, are miners like the one on a CPU: all nodes agree on every root, all three
// are selected, and the model learns.
func TestNetworkOfCards(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: 3, Change: func(r *chain.Run) { r.Train.InnerSteps = 2 }})
	validators := []*Node{n.StartValidator(ValidatorName(1), NodeOptions{}), n.StartValidator(ValidatorName(2), NodeOptions{})}
	var miners []*Node
	for i := range 2 {
		o := n.onCard(t)
		o.Dir = t.TempDir()
		miners = append(miners, n.StartMiner(MinerName(i+1), o))
	}
	miners = append(miners, n.StartMiner(MinerName(3), NodeOptions{}))
	n.To(5)
	agree(t, 5, append(validators, miners...)...)
	for i, m := range miners {
		if won, windows := validators[0].wins(m.Hotkey); won != windows || won < 4 {
			t.Errorf("miner %d was selected in %d of %d windows", i+1, won, windows)
		}
	}
}
