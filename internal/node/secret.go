package node

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"sn3/chain/local/wallet"
	"sn3/internal/proc"
)

// credentialDir is the variable by which systemd names the folder of a service's credentials, and credentialName the one that
// is used without being named.
const (
	credentialDir  = "CREDENTIALS_DIRECTORY"
	credentialName = "sn3-passphrase"
)

// maxSecret bounds what is read as a passphrase, key or list of words.
const maxSecret = 4096

// Secret says where something secret is read from: a file, a file descriptor, a systemd credential, or else the terminal.
// Neither a flag nor the environment carries a secret itself: other users see the one in ps, every child inherits the other.
type Secret struct {
	flag       string // "passphrase": the flags' common beginning
	prompt     string // "Passphrase of alice.json: "
	file       string
	credential string
	fd         *int
}

// FileSecret is a passphrase in a file.
func FileSecret(path string) Secret { return Secret{flag: "passphrase", file: path} }

// FDFlag is the flag --NAME-fd that FlaggedSecret reads.
func FDFlag(name, noun, group string) cli.Flag {
	return &cli.IntFlag{Name: name + "-fd", Usage: "read the " + noun + " from this inherited file `DESCRIPTOR`, up to its end", DefaultText: "ask on the terminal", Category: group}
}

// SecretFlags are the flags --NAME-file and --NAME-fd.
func SecretFlags(name, noun, group string) []cli.Flag {
	return []cli.Flag{FDFlag(name, noun, group), str(group, name+"-file", "", "`FILE` with the "+noun+", which only its owner can read")}
}

// PassphraseFlags are the flags of whatever opens a keystore.
func PassphraseFlags(group string) []cli.Flag {
	return append(SecretFlags("passphrase", "keystore's passphrase", group),
		str(group, "passphrase-credential", "", "systemd credential `NAME` with it (default: "+credentialName+", if the service has one)"))
}

// FlaggedSecret is where the flags of FDFlag, SecretFlags or PassphraseFlags say; prompt asks for it on the terminal.
func FlaggedSecret(c *cli.Context, name, prompt string) Secret {
	s := Secret{flag: name, prompt: prompt, file: c.String(name + "-file"), credential: c.String(name + "-credential")}
	if c.IsSet(name + "-fd") {
		fd := c.Int(name + "-fd")
		s.fd = &fd
	}
	return s
}

// Passphrase is FlaggedSecret for the passphrase of a keystore, with the credential that a service has without naming it.
func Passphrase(c *cli.Context, path string) Secret {
	s := FlaggedSecret(c, "passphrase", "Passphrase of "+filepath.Base(path)+": ")
	if _, err := os.Stat(credential(credentialName)); err == nil && s.asked() {
		s.credential = credentialName
	}
	return s
}

func credential(name string) string {
	if dir := os.Getenv(credentialDir); dir != "" {
		return filepath.Join(dir, name)
	}
	return ""
}

// Key opens a keystore.
func Key(path string, s Secret) (*ecdsa.PrivateKey, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) { // before anybody types a passphrase
		return nil, proc.Usage(fmt.Errorf("read keystore: %w", err))
	}
	pass, err := s.Read()
	if err != nil {
		return nil, err
	}
	key, err := wallet.Open(path, pass)
	if err != nil {
		return nil, proc.Refused(err)
	}
	return key, nil
}

// asked says whether the terminal is where it comes from.
func (s Secret) asked() bool { return s.file == "" && s.fd == nil && s.credential == "" }

// Given says whether a flag names where it comes from.
func (s Secret) Given() bool { return !s.asked() }

// Read reads the secret. Line ends behind it do not count.
func (s Secret) Read() (string, error) {
	var b []byte
	var err error
	switch {
	case s.file != "" && s.fd != nil, s.file != "" && s.credential != "", s.fd != nil && s.credential != "":
		return "", proc.Usage(fmt.Errorf("more than one source of the %[1]s, variables of the environment counted: give --%[1]s-file, --%[1]s-fd or a credential", s.flag))
	case s.fd != nil:
		b, err = readFD(*s.fd)
	case s.credential != "":
		b, err = readCredential(s.credential)
	case s.file != "":
		b, err = readPrivate(s.file)
	default:
		return ask(s.prompt, s.flag)
	}
	if err != nil {
		return "", proc.Usage(fmt.Errorf("read %s: %w", s.flag, err))
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// ReadNew is Read for a passphrase that is to be set: it asks twice and refuses an empty one.
func (s Secret) ReadNew() (string, error) {
	pass, err := s.Read()
	if err != nil {
		return "", err
	}
	if pass == "" {
		return "", proc.Usage(errors.New("the passphrase is empty; nothing was done"))
	}
	if s.Given() {
		return pass, nil
	}
	again, err := ask("Once more: ", s.flag)
	if err != nil {
		return "", err
	}
	if again != pass {
		return "", proc.Usage(errors.New("the two passphrases differ; nothing was done"))
	}
	return pass, nil
}

// readPrivate reads a file that nobody but its owner can; a pipe has no such modes.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others than its owner may use %s (mode %04o): chmod 600 it, and change the passphrase if somebody may have read it", path, st.Mode().Perm())
	}
	return readSecret(f)
}

// readCredential reads what systemd put into the service's folder, whose modes are systemd's business.
func readCredential(name string) ([]byte, error) {
	path := credential(name)
	if path == "" || name != filepath.Base(name) {
		return nil, fmt.Errorf("there is no systemd credential %q: LoadCredential=%s:FILE in the unit gives it", name, name)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSecret(f)
}

// readFD reads an inherited descriptor and closes it. What is no file or pipe is refused: a number that the caller did not
// open may be one of this process's own, and a terminal would show what is typed.
func readFD(fd int) ([]byte, error) {
	if fd == 1 || fd == 2 {
		return nil, fmt.Errorf("file descriptor %d is for output", fd)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("file descriptor %d: %w", fd, err)
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK:
	default:
		return nil, fmt.Errorf("file descriptor %d is nothing to read: open it in the shell, as in %d<FILE", fd, fd)
	}
	f := os.NewFile(uintptr(fd), "descriptor")
	defer f.Close()
	return readSecret(f)
}

// Distinct refuses two secrets from one file descriptor, which ends after the first.
func Distinct(a, b Secret) error {
	if a.fd != nil && b.fd != nil && *a.fd == *b.fd {
		return proc.Usage(fmt.Errorf("--%s-fd and --%s-fd are the same; give two descriptors, as in 3<FILE 4<FILE", a.flag, b.flag))
	}
	return nil
}

func readSecret(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	if err == nil && len(b) > maxSecret {
		err = fmt.Errorf("more than %d bytes", maxSecret)
	}
	return b, err
}
