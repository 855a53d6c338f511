package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"
	"pgregory.net/rapid"

	"sn3/chain"
)

func TestMain(m *testing.M) {
	if os.Getenv("PROC_TEST_WAIT") != "" {
		os.Exit(Main("waiter", waiter()))
	}
	os.Exit(m.Run())
}

// waiter runs until something ends it.
func waiter() error {
	if _, err := Logger(os.Getenv("PROC_TEST_WAIT"), false); err != nil {
		return err
	}
	fd := 0
	if os.Getenv("PROC_TEST_PARENT") != "" {
		fd = 3
	}
	ctx, cancel := Context(fd)
	defer cancel(nil)
	fmt.Println("ready")
	<-ctx.Done()
	err := Ended(ctx, ctx.Err())
	if os.Getenv("PROC_TEST_FAIL") != "" {
		err = Ended(ctx, errors.Join(ctx.Err(), errors.New("could not write the summary")))
	}
	return err
}

// start runs waiter in a process of its own, until it is ready.
func start(t *testing.T, env ...string) (*exec.Cmd, *os.File, *strings.Builder) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), append([]string{"PROC_TEST_WAIT=text"}, env...)...)
	c.ExtraFiles = []*os.File{r}
	var said strings.Builder
	c.Stderr = &said
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return c, w, &said
}

// Ctrl-C is 130; being asked to stop, by a signal, a closed terminal or the end of the parent, is 0; an error joined to
// either is told.
func TestSignals(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		env    []string
		want   int
		says   string
	}{
		{"Ctrl-C", syscall.SIGINT, nil, ExitInterrupted, ""},
		{"kill", syscall.SIGTERM, nil, 0, ""},
		{"closed terminal", syscall.SIGHUP, nil, 0, ""},
		{"parent ends", 0, []string{"PROC_TEST_PARENT=1"}, 0, ""},
		{"Ctrl-C and a failure", syscall.SIGINT, []string{"PROC_TEST_FAIL=1"}, ExitInterrupted, "could not write the summary"},
		{"kill and a failure", syscall.SIGTERM, []string{"PROC_TEST_FAIL=1"}, ExitFailure, "could not write the summary"},
		{"failure in JSON", syscall.SIGTERM, []string{"PROC_TEST_FAIL=1", "PROC_TEST_WAIT=json"}, ExitFailure, `"msg":"waiter ends"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.signal != 0 && signal.Ignored(c.signal) { // as under nohup; children inherit it
				t.Skipf("whoever started this test ignores %v", c.signal)
			}
			p, life, said := start(t, c.env...)
			if c.signal == 0 {
				if err := life.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				defer life.Close()
				if err := p.Process.Signal(c.signal); err != nil {
					t.Fatal(err)
				}
			}
			var exit *exec.ExitError
			if err := p.Wait(); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := p.ProcessState.ExitCode(); got != c.want || !strings.Contains(said.String(), c.says) || c.says == "" && said.String() != "" {
				t.Errorf("exit status %d, stderr %q; want %d, %q", got, said.String(), c.want, c.says)
			}
		})
	}
}

func TestExitCode(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errStopped, 0},
		{fmt.Errorf("while waiting: %w", errStopped), 0},
		{errors.Join(errStopped, nil), 0},
		{errors.Join(errStopped, other), ExitFailure},
		{ErrInterrupted, ExitInterrupted},
		{errors.Join(ErrInterrupted, other), ExitInterrupted},
		{other, ExitFailure},
		{context.Canceled, ExitFailure},
		{Usage(other), ExitUsage},
		{fmt.Errorf("open: %w", Refused(other)), ExitRefused},
		{fmt.Errorf("register: %w", chain.ErrFunds), ExitRefused},
		{chain.ErrNotRegistered, ExitRefused},
		{fmt.Errorf("mine: %w", Unstable(other)), ExitUnstable},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

// A context that goes on changes no error; one that ended replaces what only says so.
func TestEnded(t *testing.T) {
	other := errors.New("other")
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := Ended(ctx, context.Canceled); err != context.Canceled {
		t.Error(err)
	}
	cancel(ErrInterrupted)
	for _, c := range []struct {
		err   error
		wants []error
	}{
		{nil, []error{nil}},
		{fmt.Errorf("read: %w", ctx.Err()), []error{ErrInterrupted}},
		{ErrInterrupted, []error{ErrInterrupted}},
		{errors.Join(ctx.Err(), other), []error{ErrInterrupted, other}},
		{other, []error{other}},
	} {
		got := Ended(ctx, c.err)
		for _, want := range c.wants {
			if !errors.Is(got, want) || errors.Is(got, context.Canceled) {
				t.Errorf("%v becomes %v, want %v", c.err, got, want)
			}
		}
	}
}

// tool is a program with the shapes that ours have.
func tool(did *string) *cli.App {
	act := func(c *cli.Context) error {
		*did = c.Command.Name + " " + c.String("key") + " " + c.String("size")
		return nil
	}
	shared := &cli.StringFlag{Name: "key", Required: true}
	return Frame(&cli.App{Name: "tool", Writer: io.Discard, ErrWriter: io.Discard, Commands: []*cli.Command{
		{Name: "send", Action: act, Flags: []cli.Flag{shared, &cli.StringFlag{Name: "size", Value: "7"}}},
		{Name: "take", Action: act, Flags: []cli.Flag{shared}},
		{Name: "box", Subcommands: []*cli.Command{{Name: "open", Action: act}}},
	}})
}

func TestFrame(t *testing.T) {
	for _, c := range []struct {
		line, did, err string
	}{
		{"", "", ""},
		{"box", "", ""},
		{"send --key a", "send a 7", ""},
		{"send", "", "missing: --key"},
		{"take", "", "missing: --key"}, // the flag is shared and still required
		{"snd --key a", "", `no command "snd"; did you mean send?`},
		{"nothing-like-it", "", "there are send, take, box"},
		{"help nothing", "", "No help topic"},
		{"box opne", "", "did you mean open?"},
		{"send --kye a", "", "did you mean --key?"},
		{"send --entirely-else a", "", "there is no flag --entirely-else"},
		{"send --key", "", "needs an argument"},
	} {
		var did string
		err := tool(&did).Run(append([]string{"tool"}, strings.Fields(c.line)...))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || ExitCode(err) != ExitUsage) || did != c.did {
			t.Errorf("%q: did %q, error %v", c.line, did, err)
		}
	}
}

// Flags win over the environment, the environment over defaults.
func TestEnvironment(t *testing.T) {
	t.Setenv("SN3_KEY", "env")
	t.Setenv("SN3_SIZE", "9")
	for line, want := range map[string]string{"send": "send env 9", "send --size 3": "send env 3", "take --key x": "take x "} {
		var did string
		if err := tool(&did).Run(append([]string{"tool"}, strings.Fields(line)...)); err != nil || did != want {
			t.Errorf("%q: did %q, %v; want %q", line, did, err, want)
		}
	}
}

// The distance is a metric's: zero only for equal words, the same both ways, one per edit.
func TestDistance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.StringMatching(`[a-c]{0,6}`).Draw(t, "a"), rapid.StringMatching(`[a-c]{0,6}`).Draw(t, "b")
		d := distance(a, b)
		if d != distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) || distance(a, a+"x") != 1 {
			t.Fatalf("%q %q: %d", a, b, d)
		}
	})
	if d := distance("chian", "chain"); d != 1 {
		t.Errorf("two letters swapped: %d", d)
	}
}
