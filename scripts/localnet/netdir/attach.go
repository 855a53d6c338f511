package netdir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// serverPatience bounds the start of chain and S3.
const serverPatience = 30 * time.Second

// Servers are the chain node and the S3 server of a network.
type Servers struct {
	Chain     string // HOST:PORT
	ChainPort int
	S3Port    int
	children  []*Child
	specs     []Spec
}

// StartServers starts S3, then the chain, and waits until both serve. Old ports are kept when free.
func StartServers(ctx context.Context, d Dir, old Runtime, nodes []Node) (*Servers, error) {
	ctx, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	s := &Servers{}
	s3, err := s.serve(ctx, d, "s3d", old.S3Port, []string{"run", "--dir", d.Path("s3"), "--root-access-key", "localnet-root",
		"--root-secret-file", d.Path("s3-root.secret"), "--accounts", d.Path("accounts.json")})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.S3Port = s3.Port
	args := []string{"run", "--home", d.Path("chain"), "--s3-port", strconv.Itoa(s.S3Port)}
	for _, n := range nodes {
		if n.Role == "validator" && n.Peer != "" {
			args = append(args, "--peer", n.Peer)
		}
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
	spec := Spec{Name: name, Bin: bin, Args: args, Log: log}
	c, err := Start(spec)
	if err != nil {
		return ready{}, err
	}
	s.children, s.specs = append(s.children, c), append(s.specs, spec)
	return await(ctx, c, file, log)
}

// Heal starts a dead server again on its old port and returns what is to be said about it.
func (s *Servers) Heal() (said []string) {
	for i, c := range s.children {
		select {
		case <-c.Ended():
		default:
			continue
		}
		said = append(said, fmt.Sprintf("%s ended (%v): %s; starting it again", c.Name, c.Err(), LastLine(s.specs[i].Log)))
		if again, err := Start(s.specs[i]); err == nil {
			s.children[i] = again
		}
	}
	return said
}

// Children are the two processes.
func (s *Servers) Children() []*Child { return s.children }

// Close stops the chain, then S3.
func (s *Servers) Close() error {
	for i := len(s.children) - 1; i >= 0; i-- {
		s.children[i].Stop(10 * time.Second)
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

// Attach uses the running network, or starts chain and S3 from the folder until Close.
func Attach(ctx context.Context, dir string) (*Attached, error) {
	d := Dir(dir)
	set, err := d.Settings()
	if err != nil {
		return nil, err
	}
	rt, err := d.Runtime()
	if err != nil {
		return nil, err
	}
	unlock, err := d.Lock()
	if errors.Is(err, ErrRunning) {
		if rt.Chain == "" {
			return nil, fmt.Errorf("the network in %s is just starting; try again in some seconds", dir)
		}
		return &Attached{Chain: rt.Chain, S3Port: rt.S3Port, close: func() error { return nil }}, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := StartServers(ctx, d, rt, set.Nodes)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return &Attached{Chain: s.Chain, S3Port: s.S3Port, close: func() error { return errors.Join(s.Close(), unlock()) }}, nil
}

// ErrRunning: another process runs this network.
var ErrRunning = errors.New("the network is running")

// Lock makes this process the one that runs the network; the lock goes with the process.
func (d Dir) Lock() (unlock func() error, err error) {
	f, err := os.OpenFile(d.Path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock network folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(ErrRunning, f.Close())
	}
	return f.Close, nil
}
