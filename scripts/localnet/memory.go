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

// nodeCache is what a node may keep of the dataset: its S3 server is on the same disk.
const nodeCache = 256 << 20

// textSize is at least the size of a dataset that make up packs itself.
const textSize = 16 << 20

// nodePlan is what one miner or validator of a local network needs, with a dataset of so many bytes.
func nodePlan(r *chain.Run, name string, validator, wait bool, dataset int64) plan.Plan {
	return plan.Make(plan.Request{Name: name, Run: r, Validator: validator, Engine: cpu.New(""), Options: model.Options{Threads: 1}, Wait: wait,
		Cache: min(dataset, nodeCache)})
}

// serverDisk is what the S3 server will hold, in bytes: the dataset, and what nodes keep in their buckets for the windows that
// the run says. A miner's bucket has its payloads, a validator's also those of the others, and checkpoints.
func serverDisk(r *chain.Run, miners, validators int, dataset int64) int64 {
	payload := plan.Sum(nodePlan(r, "", false, false, 0).Up)
	checkpoints := int64(r.Keep/r.Checkpoint+2) * 4 * nodePlan(r, "", true, false, 0).Params
	return dataset + int64(r.Keep)*payload*int64(miners)*int64(1+validators) + checkpoints*int64(validators)
}

// fits refuses a network of which not even the dataset and one node fit this machine.
func fits(r *chain.Run, c config, m plan.Machine) error {
	size := c.dataset()
	if c.data != nil && m.Disk >= 0 {
		if m.Disk < size {
			return proc.Refused(fmt.Errorf("the dataset in %s is copied, which takes %d MiB, %d MiB are free: choose a DIR on another disk", c.data.dir, size>>20, m.Disk>>20))
		}
		m.Disk -= size
	}
	for _, validator := range []bool{false, true} {
		p := nodePlan(r, c.model, validator, c.gap == "wait", size)
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

// dataset is about how large the dataset will be, in bytes.
func (c config) dataset() int64 {
	if c.data != nil {
		return c.data.size()
	}
	return textSize
}

// crowded warns if all the processes together need more memory or disk than is free. It says nothing where that cannot be known.
func crowded(r *chain.Run, miners, validators int, dataset int64, m plan.Machine) string {
	miner, validator := nodePlan(r, "", false, false, dataset), nodePlan(r, "", true, false, dataset)
	all := func(server, one, other int64) int64 { return server + int64(miners)*one + int64(validators)*other }
	disk := all(serverDisk(r, miners, validators, dataset), plan.Sum(miner.Disk), plan.Sum(validator.Disk)) - m.Used
	if m.Disk >= 0 && disk > m.Disk {
		return fmt.Sprintf("%d nodes and the S3 server will need about %.1f GiB of disk, %.1f GiB are free: with fewer MINERS, a smaller MODEL or a DIR on another disk it will run on",
			miners+validators, float64(disk)/(1<<30), float64(m.Disk)/(1<<30))
	}
	need := all(serverMemory, plan.Sum(miner.Memory), plan.Sum(validator.Memory))
	if m.Memory < 0 || need <= m.Memory {
		return ""
	}
	return fmt.Sprintf("%d processes need about %.1f GiB of memory, %.1f GiB are free: with fewer MINERS or VALIDATORS it will run", miners+validators+2,
		float64(need)/(1<<30), float64(m.Memory)/(1<<30))
}
