package node

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Limits of the API's connections. A flood must not take the files that the stores need, nor one address the places of others;
// who is one too many of an address is hung up on, who finds no place at all waits.
const (
	maxConns    = 512
	remoteConns = 448 // of other machines: programs on this one find a place
	connsEach   = 64  // of one address of another machine
)

// listener is a net.Listener with these limits.
type listener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	of     map[string]int // connections of other machines, by address
	remote int            // sum of these
}

func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another program uses this port; choose another --listen, or port 0 for any: %w", addr, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return limitedListener(l), nil
}

func limitedListener(l net.Listener) *listener {
	return &listener{Listener: l, slots: make(chan struct{}, maxConns), closed: make(chan struct{}), of: map[string]int{}}
}

// Accept waits for a free slot, then for a connection that is within the limits.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		if leave, ok := l.enter(c.RemoteAddr().String()); ok {
			return &conn{Conn: c, free: sync.OnceFunc(func() { leave(); <-l.slots })}, nil
		}
		_ = c.Close() // it is nobody's yet
	}
}

// enter counts a connection, unless it is one too many.
func (l *listener) enter(addr string) (leave func(), ok bool) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || loopback(host) {
		return func() {}, true
	}
	from := network64(net.ParseIP(host), host)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.remote >= remoteConns || l.of[from] >= connsEach {
		return nil, false
	}
	l.remote++
	l.of[from]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remote--
		if l.of[from]--; l.of[from] == 0 {
			delete(l.of, from)
		}
	}, true
}

// Close ends Accept.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// conn frees its slot when it closes.
type conn struct {
	net.Conn
	free func()
}

// Close closes the connection.
func (c *conn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
