package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// quietShare is how much of a core other processes may take before a figure is not to be trusted.
const quietShare = 0.08

// awaitQuiet returns when this machine has been quiet for a moment, when it has waited long enough, or when ctx ends.
func awaitQuiet(ctx context.Context, longest time.Duration) {
	const look = 200 * time.Millisecond
	for end := time.Now().Add(longest); time.Now().Before(end) && ctx.Err() == nil; {
		before := busy()
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
		if busy()-before <= quietShare*look.Seconds()+1/ticks { // the clock of busy is that coarse
			return
		}
	}
}

// ticks is the unit of /proc/stat: USER_HZ, 100 on every Linux that Go runs on.
const ticks = 100.0

// busy is the seconds of processor time that everything on this machine has used; 0 where the system does not say.
func busy() float64 {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	var user, nice, system, idle, wait, irq, soft, steal float64
	if _, err := fmt.Sscanf(string(raw), "cpu %g %g %g %g %g %g %g %g", &user, &nice, &system, &idle, &wait, &irq, &soft, &steal); err != nil {
		return 0
	}
	return (user + nice + system + irq + soft + steal) / ticks
}

// used is the seconds of processor time that a process has used.
func used(pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:])) // the name may hold blanks
	var user, system float64
	if len(f) < 13 {
		return 0
	}
	if _, err := fmt.Sscan(f[11]+" "+f[12], &user, &system); err != nil {
		return 0
	}
	return (user + system) / ticks
}
