package node

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asking marks the process that TestPrompt starts on a terminal: it asks twice, and prints what it got in upper case.
const asking = "SN3_TEST_ASKING"

func TestMain(m *testing.M) {
	if os.Getenv(asking) == "" {
		os.Exit(m.Run())
	}
	got, err := (Secret{flag: "passphrase", prompt: "Passphrase: "}).ReadNew()
	fmt.Printf("<%s %v>\n", strings.ToUpper(got), err)
}

// terminal is a pseudo-terminal: what people sit at, and what a program sees of it.
func terminal(t *testing.T) (people, program *os.File) {
	t.Helper()
	people, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = people.Close() }) // the test has read it to its end
	fd := int(people.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return people, program
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

// What is typed at a prompt is never shown, and the terminal shows again what is typed afterwards, also after Ctrl-C.
func TestPrompt(t *testing.T) {
	for _, c := range []struct {
		name  string
		typed []string
		want  string
	}{
		{"twice the same", []string{"open sesame\n", "open sesame\n"}, "<OPEN SESAME <nil>>"},
		{"two different ones", []string{"open sesame\n", "open barley\n"}, "< the two passphrases differ; nothing was done>"},
		{"none", []string{"\n"}, "< the passphrase is empty; nothing was done>"},
		{"Ctrl-C", []string{"open ses\x03"}, "< interrupted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			people, program := terminal(t)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), asking+"=1")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			seen := make(chan string)
			prompts := make(chan struct{}, len(c.typed)+1)
			go watch(people, seen, prompts)
			for _, text := range c.typed {
				<-prompts
				for echoes(t, people) && t.Context().Err() == nil { // the prompt is there a moment before
				}
				if _, err := people.WriteString(text); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if !echoes(t, program) {
				t.Error("the terminal shows nothing any more")
			}
			if err := program.Close(); err != nil {
				t.Fatal(err)
			}
			if got := <-seen; !strings.Contains(got, c.want) || strings.Contains(got, "open") {
				t.Errorf("the terminal shows %q", got)
			}
		})
	}
}

// watch reads all that a terminal shows, and says when a prompt appears.
func watch(people io.Reader, seen chan<- string, prompts chan<- struct{}) {
	var all []byte
	for b := make([]byte, 1); ; {
		n, err := people.Read(b)
		if err != nil { // EIO: the program's side is closed
			seen <- string(all)
			return
		}
		if all = append(all, b[:n]...); strings.HasSuffix(string(all), ": ") {
			select {
			case prompts <- struct{}{}:
			default: // more prompts than expected: the text shows them
			}
		}
	}
}
