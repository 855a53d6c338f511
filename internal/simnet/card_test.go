package simnet

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/gpu"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
)

// onCard runs a miner on the stand-in for a card, by its library. closed gets the error of closing it; nil: there must be none.
func (n *Net) onCard(t *testing.T, library string, closed func(error)) NodeOptions {
	e := gpu.New(gpu.Settings{Library: library})
	return NodeOptions{Trainer: func(model.Trainer, *replica.Clock) model.Trainer {
		x, err := e.NewTrainer(replica.ModelConfig(n.Run), replica.Optimizer(n.Run), model.Options{Precision: model.BF16})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			err := x.(*gpu.Trainer).Close()
			if closed != nil {
				closed(err)
			} else if err != nil {
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
		o := n.onCard(t, standin.Library(t), nil)
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

// A card that is lost, as after an Xid, ends its miner with the driver's error, in whichever part of a window: in a step, when what was
// learned is read to be sent, when moments are saved. What was saved after the window before is whole: on another card the miner
// goes on without warming up, and has everybody's root.
func TestCardIsLost(t *testing.T) {
	standin.Only(t, "a card that is lost")
	for _, fail := range []string{"cuMemcpyHtoDAsync_v2:1:214", "cuGraphLaunch:1:719", "cuMemcpyDtoHAsync_v2:1:700", "cuMemcpyDtoHAsync_v2:3:220", "cuMemcpyDtoHAsync_v2:5:999"} {
		t.Run(fail, func(t *testing.T) { loseCard(t, fail) })
	}
}

func loseCard(t *testing.T, fail string) {
	n := New(t, Options{Validators: []chain.Amount{300}, Miners: 2, Change: func(r *chain.Run) { r.Train.InnerSteps = 2 }})
	validator, other := n.StartValidator(ValidatorName(1), NodeOptions{}), n.StartMiner(MinerName(2), NodeOptions{})
	card := standin.Load(t)
	o := n.onCard(t, card.Path, func(err error) {
		if err == nil {
			t.Error("a lost card closes as if nothing had been")
		}
	})
	o.Dir = n.Dir()
	x := n.StartMiner(MinerName(1), o)
	n.To(2)
	card.Set(t, "lost", "1")
	card.Set(t, "fail", fail)
	for !n.ended(x) {
		n.Tick()
		if n.Chain.Height() > 200 {
			t.Fatal("a lost card ends nothing")
		}
	}
	call, code, _ := strings.Cut(fail, ":")
	err := n.Stop(x)
	if e, ok := errors.AsType[*cuda.Error](err); !ok || e.Call != call || !strings.HasSuffix(code, fmt.Sprint(":", e.Code)) || !strings.HasPrefix(err.Error(), "work on window ") {
		t.Errorf("it ended with %v", err)
	}
	t.Log(err) // in which part
	w, _ := validator.Replica.Applied()
	again := n.onCard(t, standin.Library(t), nil)
	again.Dir = o.Dir
	x = n.StartMiner(MinerName(1), again)
	n.To(w + 3)
	agree(t, w+3, validator, other, x)
	if len(x.Events(events.Submit)) < 2 {
		t.Error("it does not work on")
	}
	for _, e := range x.Events(events.Skipped) {
		if strings.Contains(e.Reason, "warming up") {
			t.Errorf("window %d: %s, although the window before was saved", e.Window, e.Reason)
		}
	}
}
