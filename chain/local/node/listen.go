package node

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// maxConns is how many connections the API holds at once: a flood must not take the files that the stores need. More wait
// until one closes.
const maxConns = 512

// listener is a net.Listener that accepts no more than maxConns.
type listener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another program uses this port; choose another --listen, or port 0 for any: %w", addr, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return &listener{Listener: l, slots: make(chan struct{}, maxConns), closed: make(chan struct{})}, nil
}

// Accept waits for a free slot, then for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
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
