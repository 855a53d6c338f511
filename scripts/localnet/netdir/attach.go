package netdir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// serverPatience bounds the start of chain and S3.
const serverPatience = 30 * time.Second

// Servers are the chain node and the S3 server of a network.
type Servers struct {
	Chain     string // HOST:PORT
	ChainPort int
	S3Port    int
	lock      *Lock
	kept      []*Kept
}

// StartServers starts S3, then the chain, and waits until both serve. Old ports are kept when free. A paused chain answers
// queries from its folder and makes no blocks.
func StartServers(ctx context.Context, d Dir, lock *Lock, old Runtime, nodes []Node, paused bool) (*Servers, error) {
	s := &Servers{lock: lock}
	s3, err := s.serve(ctx, d, "s3d", old.S3Port, []string{"run", "--dir", d.Path("s3"), "--root-access-key", "localnet-root",
		"--root-secret-file", d.Path("s3-root.secret"), "--accounts", d.Path("accounts.json")})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.S3Port = s3.Port
	args := []string{"start", "--home", d.Path("chain"), "--s3-port", strconv.Itoa(s.S3Port)}
	for _, n := range nodes {
		if n.Role == "validator" && n.Peer != "" {
			args = append(args, "--gossip-peer", n.Peer)
		}
	}
	if paused {
		args = append(args, "--paused")
	}
	ch, err := s.serve(ctx, d, "chaind", old.ChainPort, args)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.Chain, s.ChainPort = ch.Addr, ch.Port
	return s, nil
}

func (s *Servers) serve(ctx context.Context, d Dir, name string, port int, args []string) (ready, error) {
	bin, err := Bin(name)
	if err != nil {
		return ready{}, err
	}
	p, err := FreePort(port)
	if err != nil {
		return ready{}, err
	}
	file, log := d.Path(name+".ready"), d.Path(name+".log")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return ready{}, fmt.Errorf("start %s: %w", name, err)
	}
	args = append(args, "--listen", "127.0.0.1:"+strconv.Itoa(p), "--ready-file", file)
	spec := Spec{Name: name, Bin: bin, Args: args, Log: log, Hold: s.lock}
	c, err := Keep(spec)
	if err != nil {
		return ready{}, err
	}
	s.kept = append(s.kept, c)
	return await(ctx, c.Child, file, log)
}

// Kept are the two processes; each comes back on its old port.
func (s *Servers) Kept() []*Kept { return s.kept }

// Close stops the chain, then S3.
func (s *Servers) Close() error {
	for i := len(s.kept) - 1; i >= 0; i-- {
		s.kept[i].Stop(10 * time.Second)
	}
	return nil
}

// Attached is access to a network for the length of a command.
type Attached struct {
	Chain  string
	S3Port int
	close  func() error
}

// Close stops what Attach started; a network that ran already goes on.
func (a *Attached) Close() error { return a.close() }

// attachPatience bounds how long a command waits for another one, or for a network that is just starting.
const attachPatience = 60 * time.Second

// Attach uses the running network, or starts chain and S3 from the folder until Close. Without write such a chain is paused:
// it answers, but makes no blocks, so that looking at a network does not let its windows pass. Say is told what is waited for.
func Attach(ctx context.Context, dir string, write bool, say func(string)) (*Attached, error) {
	d := Dir(dir)
	set, err := d.Settings()
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, attachPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		lock, err := d.LockWhenFree(wait, say)
		if err == nil {
			return d.serve(ctx, lock, set, write)
		}
		if !errors.Is(err, ErrRunning) {
			return nil, err
		}
		rt, err := d.Runtime()
		if err != nil {
			return nil, err
		}
		holder := d.Holder()
		if rt.PID == holder && rt.Chain != "" {
			return &Attached{Chain: rt.Chain, S3Port: rt.S3Port, close: func() error { return nil }}, nil
		}
		what := fmt.Sprintf("the command of process %d, which uses %s", holder, dir)
		if rt.PID == holder {
			what = fmt.Sprintf("the network in %s, which is just starting", dir)
		}
		if !told {
			say("waiting for " + what)
			told = true
		}
		select {
		case <-wait.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("waited %s for %s; try again later", attachPatience, what)
		case <-tick.C:
		}
	}
}

// serve starts chain and S3 of a network that does not run.
func (d Dir) serve(ctx context.Context, lock *Lock, set Settings, write bool) (*Attached, error) {
	rt, err := d.Runtime()
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s, err := StartServers(ctx, d, lock, rt, set.Nodes, !write)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Attached{Chain: s.Chain, S3Port: s.S3Port, close: func() error { return errors.Join(s.Close(), lock.Close()) }}, nil
}
