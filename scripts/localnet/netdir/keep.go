package netdir

import (
	"fmt"
	"time"
)

// Restarts is how often a process that died is started again; the pause between two starts keeps one that dies at once from
// using them up within a moment.
const (
	Restarts     = 3
	restartPause = 2 * time.Second
)

// Kept is a process that is started again when it dies.
type Kept struct {
	*Child
	spec  Spec
	left  int       // restarts left
	since time.Time // of the last restart
}

// Keep starts a process.
func Keep(s Spec) (*Kept, error) {
	c, err := Start(s)
	if err != nil {
		return nil, err
	}
	return &Kept{Child: c, spec: s, left: Restarts}, nil
}

// Heal starts the process again if it died and restarts are left, and returns what is to be said about it, or "".
func (k *Kept) Heal(now time.Time) string {
	if !k.died() || k.left == 0 || now.Sub(k.since) < restartPause {
		return ""
	}
	k.left--
	k.since = now
	said := fmt.Sprintf("%s; starting it again (%d left)", k.obituary(), k.left)
	c, err := Start(k.spec)
	if err != nil {
		return said + ": " + err.Error()
	}
	k.Child = c
	return said
}

// Dead describes how the process ended if it will not be started again, else it is "".
func (k *Kept) Dead() string {
	if !k.died() || k.left > 0 {
		return ""
	}
	return k.obituary()
}

func (k *Kept) died() bool {
	select {
	case <-k.Ended():
		return true
	default:
		return false
	}
}

func (k *Kept) obituary() string {
	return fmt.Sprintf("%s ended (%v): %s", k.Name, k.Err(), LastLine(k.spec.Log))
}
