package main

import (
	"time"

	"sn3/scripts/localnet/netdir"
)

// kept are all processes by name: servers first, then nodes.
func (n *network) kept() (all []*netdir.Kept) {
	if n.servers != nil {
		all = append(all, n.servers.Kept()...)
	}
	for _, m := range n.nodes {
		if m.kept != nil {
			all = append(all, m.kept)
		}
	}
	return all
}

// heal starts dead processes again and returns what is to be said about it.
func (n *network) heal() (said []string) {
	for _, k := range n.kept() {
		if s := k.Heal(time.Now()); s != "" {
			said = append(said, s)
			n.rt.PIDs[k.Name] = k.PID()
		}
	}
	if len(said) > 0 {
		if err := n.dir.SaveRuntime(n.rt); err != nil {
			said = append(said, err.Error())
		}
	}
	return said
}

// dead describes what ended for good.
func (n *network) dead() (found []string) {
	for _, k := range n.kept() {
		if d := k.Dead(); d != "" {
			found = append(found, d)
		}
	}
	return found
}
