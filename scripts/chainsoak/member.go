package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// member is one node: its folder and, while it runs, its process.
type member struct {
	id     int
	home   string
	api    string // HOST:PORT
	p2p    string
	chaind string
	log    *slog.Logger

	reads *local.Client
	limit string   // what the shell does before it starts the node
	env   []string // more of it
	flags []string // of chaind start, beside what every node gets

	cmd    *exec.Cmd
	wanted bool          // it was started, and neither killed nor stopped
	life   io.Closer     // the node ends when this does
	ended  chan struct{} // closed when the process is gone
	said   string        // the end of its log, then
}

func (m *member) name() string { return fmt.Sprintf("node%d", m.id+1) }

func (m *member) runs() bool {
	if m.cmd == nil {
		return false
	}
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// errEnded: the process ended by itself.
var errEnded = errors.New("ended")

// start runs the node and waits until it serves; errEnded with its last words if it does not come to that.
func (m *member) start(ctx context.Context) error {
	if err := m.launch(); err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-m.ended:
			m.wanted = false
			return fmt.Errorf("%s %w: %s", m.name(), errEnded, m.said)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if _, err := os.Stat(m.ready()); err == nil {
			return nil
		}
	}
}

func (m *member) ready() string { return m.home + ".ready" }

// launch starts the process. It lives as long as this one at most.
func (m *member) launch() error {
	if err := os.RemoveAll(m.ready()); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.OpenFile(m.home+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	defer out.Close()
	from, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	args := []string{m.chaind, "start", "--home", m.home, "--listen", m.api, "--ready-file", m.ready(), "--parent-fd", "3"}
	args = append(args, m.flags...)
	if m.limit != "" {
		args = append([]string{"sh", "-c", m.limit + `; exec "$0" "$@"`}, args...)
	}
	m.cmd = exec.Command(args[0], args[1:]...)
	m.cmd.Env = append(os.Environ(), m.env...)
	m.cmd.ExtraFiles = []*os.File{r}
	m.cmd.Stdout, m.cmd.Stderr = out, out
	if err := m.cmd.Start(); err != nil {
		m.cmd = nil
		return errors.Join(fmt.Errorf("start %s: %w", m.name(), err), w.Close())
	}
	m.life, m.ended, m.wanted = w, make(chan struct{}), true
	go m.wait(m.cmd, m.ended, from)
	return nil
}

func (m *member) wait(cmd *exec.Cmd, ended chan struct{}, from int64) {
	err := cmd.Wait()
	m.said = fmt.Sprintf("%v; %s", err, lastWords(m.home+".log", from))
	close(ended)
}

// lastWords is the end of what a process wrote into its log, from the line on that is for its operator. The engine may have
// logged more before, on lines of its own.
func lastWords(path string, from int64) string {
	raw, err := os.ReadFile(path)
	if err != nil || int64(len(raw)) < from {
		return fmt.Sprint(err)
	}
	text := "\n" + strings.TrimSpace(string(raw[from:]))
	if i := strings.LastIndex(text, "\nchaind: "); i >= 0 {
		return text[i+1:]
	}
	return text[max(0, len(text)-2000):]
}

// kill ends the process with SIGKILL.
func (m *member) kill() error {
	if !m.runs() {
		return fmt.Errorf("kill %s: it does not run: %s", m.name(), m.said)
	}
	m.log.Info("kill", "node", m.name())
	m.wanted = false
	if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-m.ended
	return m.life.Close()
}

// stop ends it as an operator would; nothing if it does not run.
func (m *member) stop() error {
	if m.wanted = false; !m.runs() {
		return nil
	}
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-m.ended:
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("%s does not stop within 30 s of SIGTERM", m.name()), m.kill())
	}
	if !strings.HasPrefix(m.said, "<nil>") {
		return fmt.Errorf("%s ended with %s", m.name(), m.said)
	}
	return m.life.Close()
}

// ends waits until the process ends by itself, and gives its last words.
func (m *member) ends(ctx context.Context) (string, error) {
	select {
	case <-m.ended:
		m.wanted = false
		return m.said, m.life.Close()
	case <-ctx.Done():
		return "", fmt.Errorf("%s goes on, and should have ended: %w", m.name(), ctx.Err())
	}
}

// client is one for reading; connections are kept from call to call.
func (m *member) client() (*local.Client, error) {
	if m.reads == nil {
		b, err := local.Dial(m.api)
		if err != nil {
			return nil, err
		}
		m.reads = local.NewClient(b, nil)
	}
	return m.reads, nil
}

// height is the newest block that the node has, and the hash of its state.
func (m *member) height(ctx context.Context) (chain.Block, error) {
	c, err := m.client()
	if err != nil {
		return 0, err
	}
	st, err := c.Status(ctx)
	return st.Height, err
}

// file is one of the node's.
func (m *member) file(name string) string { return filepath.Join(m.home, filepath.FromSlash(name)) }
