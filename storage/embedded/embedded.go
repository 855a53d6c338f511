// Package embedded is an S3 server inside this process, for networks on one machine: versitygw over a folder.
//
// Each bucket has one account that may write it; everybody, without an account too, may read and list it, which is how
// miners' buckets work on a real network. Accounts live in memory: whoever starts the server adds them, again after each
// start. The backend does not sync to disk: a killed process loses nothing it acknowledged, a power cut may.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"

	"sn3/storage"
)

// Options say where the server keeps its data and listens.
type Options struct {
	Dir    string             // made if missing; an existing one goes on being used
	Listen string             // 127.0.0.1:PORT; port 0 = any free one; "" = 127.0.0.1:0
	Root   storage.Credential // may do everything
}

// Server is a running S3 server.
type Server struct {
	addr     string
	dir      string
	backend  *posix.Posix
	accounts *accounts
	stop     context.CancelFunc
	done     chan struct{} // closed when the gateway has ended
	err      error         // why; read after done

	mu sync.Mutex // one AddBucket at a time
}

var (
	// ErrPortBusy is a port that another program listens on.
	ErrPortBusy = errors.New("port is taken")
	// ErrFolderBusy is a folder that another server serves: its start would sweep away the other's unfinished uploads.
	ErrFolderBusy = errors.New("folder is in use by another S3 server")
)

// drain is how long Close waits for running requests. The library itself waits ten seconds, also for connections on which
// nothing was ever asked; uploads that are cut off leave no trace and are tried again.
const drain = time.Second

// What is in Options.Dir. The library refuses a metadata folder whose path merely begins like the data folder's.
const (
	dataDir  = "objects"
	metaDir  = "attributes"
	lockFile = "lock"
)

// Start serves the folder until Close. ctx bounds the start only. Only one server may run in a process (the library keeps
// global state), and it changes the process's working directory (the library works with relative paths): make other paths
// absolute before.
func Start(ctx context.Context, o Options) (s *Server, err error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("resolve S3 folder: %w", err)
	}
	before, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("read working directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Chdir(before))
		}
	}()
	host, port, err := loopback(o.Listen)
	if err != nil {
		return nil, err
	}
	free, err := prepare(dir)
	if err != nil {
		return nil, err
	}
	s, err = listen(ctx, dir, host, port, o.Root)
	if err != nil {
		return nil, errors.Join(err, free())
	}
	go func() { // the folder is ours as long as any request runs, which may be longer than Close waits
		<-s.done
		_ = free() // ends with the process at the latest
	}()
	return s, nil
}

// prepare makes the folder, locks it, and removes what a killed server left; free unlocks it.
func prepare(dir string) (free func() error, err error) {
	const next = "choose a folder that this user may write, on a disk with room"
	for _, sub := range []string{dataDir, metaDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make S3 folder: %w; %s", err, next)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock S3 folder: %w; %s", err, next)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fmt.Errorf("%w: %s; stop it, or choose another folder", ErrFolderBusy, dir)
	case err != nil:
		err = fmt.Errorf("lock S3 folder: %w", err)
	}
	for _, sub := range []string{dataDir, metaDir} {
		if err != nil {
			break
		}
		if err = sweep(filepath.Join(dir, sub)); err != nil {
			err = fmt.Errorf("remove leftovers of unfinished uploads: %w", err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// listen starts the server on a port, or on any free one when port is 0.
func listen(ctx context.Context, dir, host string, port int, root storage.Credential) (*Server, error) {
	const attempts = 10 // a free port can be taken by someone else between probing and listening
	for i := 0; ; i++ {
		at := port
		if at == 0 {
			var err error
			if at, err = freePort(host); err != nil {
				return nil, err
			}
		}
		s, err := start(ctx, dir, net.JoinHostPort(host, strconv.Itoa(at)), root)
		if errors.Is(err, syscall.EADDRINUSE) {
			if port == 0 && i < attempts {
				continue
			}
			return nil, fmt.Errorf("listen on %s:%d: %w; stop what uses it, or give another port (0 = any)", host, at, ErrPortBusy)
		}
		return s, err
	}
}

func start(ctx context.Context, dir, addr string, root storage.Credential) (*Server, error) {
	data := filepath.Join(dir, dataDir)
	side, err := meta.NewSideCar(filepath.Join(dir, metaDir))
	if err != nil {
		return nil, fmt.Errorf("open S3 metadata: %w", err)
	}
	be, err := posix.New(data, side, posix.PosixOpts{
		NewDirPerm:         0o700,
		ForceNoObjLockFile: true, // one process
		IOBufferSize:       128 << 10,
		Concurrency:        64,
	})
	if err != nil {
		return nil, fmt.Errorf("open S3 folder: %w", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{addr: addr, dir: data, backend: be, accounts: newAccounts(root), stop: stop, done: make(chan struct{})}
	listening := make(chan struct{})
	cfg := &embedgw.Config{
		RootUserAccess: root.AccessKey, RootUserSecret: root.Reveal(),
		Ports:          []string{addr},
		MaxConnections: 4096, MaxRequests: 1024, MultipartMaxParts: 10000,
		Quiet: true, KeepAlive: true, DisableACLs: true,
		IAMService: s.accounts,
		S3Options:  []s3api.Option{s3api.WithOnListen(func() { close(listening) })},
	}
	go func() {
		defer close(s.done)
		s.err = embedgw.RunVersityGW(run, be, cfg)
	}()
	select {
	case <-listening:
		return s, nil
	case <-s.done:
		stop()
		return nil, fmt.Errorf("start S3 server on %s: %w", addr, s.err)
	case <-ctx.Done():
		stop()
		<-s.done
		return nil, fmt.Errorf("start S3 server on %s: %w", addr, ctx.Err())
	}
}

// Addr is the address being served, IP:PORT.
func (s *Server) Addr() string { return s.addr }

// Port is the port of Addr.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.addr) // Addr was built by JoinHostPort
	n, _ := strconv.Atoi(port)
	return n
}

// Done is closed when the server has ended, by Close or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close stops serving, waits shortly for running requests, and returns why the server ended if it was not because of
// Close. It may be called more than once.
func (s *Server) Close() error {
	s.stop()
	t := time.NewTimer(drain)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.done:
	}
	if s.err != nil {
		return fmt.Errorf("run S3 server: %w", s.err)
	}
	return nil
}

// loopback splits listen and refuses everything that others could reach, or that no locator names.
func loopback(listen string) (host string, port int, err error) {
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	host, p, err := net.SplitHostPort(listen)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil || port < 0 || port > 65535 || host != "127.0.0.1" { // where locators of a local network lead
		return "", 0, fmt.Errorf("listen address %q: want 127.0.0.1:PORT; this server is for one machine only", listen)
	}
	return host, port, nil
}

func freePort(host string) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	if !ok {
		return 0, fmt.Errorf("find a free port: unexpected address %s", l.Addr())
	}
	return addr.Port, nil
}
