package main

import (
	"errors"
	"fmt"

	"sn3/chain"
	"sn3/internal/plan"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
)

// serverMemory is what the chain and the S3 server take together, in bytes, measured with the local preset.
const serverMemory = 360 << 20

// nodePlan is what one miner or validator of a local network needs.
func nodePlan(r *chain.Run, name string, validator, wait bool) plan.Plan {
	return plan.Make(plan.Request{Name: name, Run: r, Validator: validator, Engine: cpu.New(""), Options: model.Options{Threads: 1}, Wait: wait})
}

// fits refuses a network of which not even one node fits this machine.
func fits(r *chain.Run, c config, m plan.Machine) error {
	for _, validator := range []bool{false, true} {
		p := nodePlan(r, c.model, validator, c.gap == "wait")
		var small *plan.TooSmall
		if err := p.Check(m); errors.As(err, &small) {
			small.Advice = "choose a smaller MODEL, or a smaller train.batch or model.seq in its file (sn3 plan MODEL shows every part)"
			if small.Memory == 0 {
				small.Advice = "choose a DIR on another disk"
			}
			return proc.Refused(small)
		}
	}
	return nil
}

// crowded warns if all the processes together need more memory than is free. It says nothing where that cannot be known.
func crowded(r *chain.Run, miners, validators int, m plan.Machine) string {
	need := int64(serverMemory) + int64(miners)*plan.Sum(nodePlan(r, "", false, false).Memory) + int64(validators)*plan.Sum(nodePlan(r, "", true, false).Memory)
	if m.Memory < 0 || need <= m.Memory {
		return ""
	}
	return fmt.Sprintf("%d processes need about %.1f GiB of memory, %.1f GiB are free: with fewer MINERS or VALIDATORS it will run", miners+validators+2,
		float64(need)/(1<<30), float64(m.Memory)/(1<<30))
}
