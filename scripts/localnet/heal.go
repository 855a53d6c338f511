package main

import (
	"fmt"
	"time"

	"sn3/scripts/localnet/netdir"
)

// heal starts dead nodes again and returns what is to be said about it.
func (n *network) heal() (said []string) {
	if n.serversLeft > 0 && time.Since(n.serversSince) > 2*time.Second {
		if said = n.servers.Heal(); len(said) > 0 {
			n.serversLeft, n.serversSince = n.serversLeft-len(said), time.Now()
			for _, c := range n.servers.Children() {
				n.rt.PIDs[c.Name] = c.PID()
			}
		}
	}
	for _, m := range n.nodes {
		select {
		case <-m.child.Ended():
		default:
			continue
		}
		last := netdir.LastLine(m.spec.Log)
		if m.left == 0 || time.Since(m.since) < 2*time.Second {
			continue
		}
		m.left--
		m.since = time.Now()
		said = append(said, fmt.Sprintf("%s ended (%v): %s; starting it again (%d left)", m.Name, m.child.Err(), last, m.left))
		if c, err := netdir.Start(m.spec); err == nil {
			m.child = c
			n.rt.PIDs[m.Name] = c.PID()
		}
	}
	if len(said) > 0 {
		if err := n.dir.SaveRuntime(n.rt); err != nil {
			said = append(said, err.Error())
		}
	}
	return said
}

// dead lists what ended for good.
func (n *network) dead() (names []string) {
	for _, c := range n.servers.Children() {
		select {
		case <-c.Ended():
			if n.serversLeft <= 0 {
				names = append(names, c.Name)
			}
		default:
		}
	}
	for _, m := range n.nodes {
		select {
		case <-m.child.Ended():
			if m.left == 0 {
				names = append(names, m.Name)
			}
		default:
		}
	}
	return names
}
