package netdir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Child is a running process of the network. It ends when this process ends, however that happens: it holds the read end of
// a pipe whose write end is ours.
type Child struct {
	Name  string
	cmd   *exec.Cmd
	life  *os.File
	ended chan struct{}
	err   error
}

// Spec says how a process is started.
type Spec struct {
	Name string
	Bin  string
	Args []string
	Log  string // file that stdout and stderr are appended to
	Nice bool   // below chain and S3
	Env  []string
	Hold *Lock // the network's lock, kept until this process ends
}

// Start starts a process.
func Start(s Spec) (*Child, error) {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer r.Close()
	c := &Child{Name: s.Name, life: w, ended: make(chan struct{})}
	c.cmd = exec.Command(s.Bin, append(s.Args, "--parent-fd", "3")...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.ExtraFiles = []*os.File{r} // becomes fd 3
	if s.Hold != nil {
		c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, s.Hold.f)
	}
	c.cmd.Env = append(os.Environ(), s.Env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches only the launcher, which stops children in order
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.Name, err), w.Close())
	}
	if s.Nice {
		_ = syscall.Setpriority(syscall.PRIO_PGRP, c.cmd.Process.Pid, 10) // of all its threads; a wish, not a need
	}
	go func() {
		c.err = c.cmd.Wait()
		_ = c.life.Close() // nobody reads it any more
		close(c.ended)
	}()
	return c, nil
}

// PID is the process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (c *Child) Ended() <-chan struct{} { return c.ended }

// Err is how it ended; call it after Ended.
func (c *Child) Err() error { return c.err }

// Stop asks the process to end, waits, and kills it if it does not.
func (c *Child) Stop(patience time.Duration) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // an ended process needs none
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-c.ended:
	case <-t.C:
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// ready is what a server writes when it serves.
type ready struct {
	Addr string `json:"addr"`
	Port int    `json:"port"`
}

// await waits for a server's ready file, or its end.
func await(ctx context.Context, c *Child, file, log string) (ready, error) {
	wait, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(file)
		var r ready
		if err == nil && json.Unmarshal(b, &r) == nil {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-wait.Done():
			return r, fmt.Errorf("%s was not ready within %s: %s; see %s", c.Name, serverPatience, LastLine(log), log)
		case <-c.ended:
			return r, fmt.Errorf("%s ended at once (%v): %s", c.Name, c.err, LastLine(log))
		case <-tick.C:
		}
	}
}

// maxLine is the most of a log's last line that is shown.
const maxLine = 600

// LastLine is the end of a log, for messages.
func LastLine(path string) string {
	none := "see " + filepath.Base(path)
	f, err := os.Open(path)
	if err != nil {
		return none
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return none
	}
	b := make([]byte, min(st.Size(), maxLine))
	n, err := f.ReadAt(b, st.Size()-int64(len(b)))
	if err != nil && !errors.Is(err, io.EOF) {
		return none
	}
	text := strings.TrimRight(string(b[:n]), "\n")
	if text = text[strings.LastIndexByte(text, '\n')+1:]; text == "" {
		return none
	}
	return text
}

// FreePort returns want if it is free on loopback, else another free port.
func FreePort(want int) (int, error) {
	for _, p := range []int{want, 0} {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			continue
		}
		got := l.Addr().(*net.TCPAddr).Port // a TCP listener has a TCP address
		return got, l.Close()
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// Bin is the path of a program that lies beside this one.
func Bin(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	p := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(p); err != nil {
		return "", fmt.Errorf("find %s beside %s: %w; run make build", name, filepath.Base(self), err)
	}
	return p, nil
}
