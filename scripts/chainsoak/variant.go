package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// edit is one change of a source file: the one place of what it was becomes something else. Of a file that is not there all is
// new.
type edit struct{ file, was, is string }

// variant builds a chaind of changed sources, which stay as they are: the go command is told to read others in their place.
func variant(ctx context.Context, dir, name string, edits ...edit) (string, error) {
	replace := map[string]string{}
	for i, e := range edits {
		text := e.is
		if e.was != "" {
			plain, err := os.ReadFile(e.file)
			if err != nil {
				return "", err
			}
			if strings.Count(string(plain), e.was) != 1 {
				return "", fmt.Errorf("%s is not as this program expects it: %q is not there once; adapt scripts/chainsoak", e.file, e.was)
			}
			text = strings.Replace(string(plain), e.was, e.is, 1)
		}
		replace[e.file] = filepath.Join(dir, fmt.Sprintf("%s-%d.go.txt", name, i))
		if err := os.WriteFile(replace[e.file], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay, out := filepath.Join(dir, name+".json"), filepath.Join(dir, "chaind-"+name)
	if err := os.WriteFile(overlay, raw, 0o600); err != nil {
		return "", err
	}
	_, err = goTool(ctx, "build", "-overlay", overlay, "-o", out, "sn3/chain/chaind")
	return out, err
}

// goTool runs the go command in this repository.
func goTool(ctx context.Context, args ...string) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", fmt.Errorf("%w: a changed chaind is built by the go command, which is not there", errSkip)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// source is a file of this repository.
func source(ctx context.Context, pkg, name string) (string, error) {
	dir, err := goTool(ctx, "list", "-f", "{{.Dir}}", pkg)
	return filepath.Join(dir, name), err
}

// liar gives a node a program with another rule, a rao too much for every transfer: it ends as soon as that makes a difference, the
// others go on.
func liar(ctx context.Context, n *network, rounds int) error {
	file, err := source(ctx, "sn3/chain/local/state", "exec.go")
	if err != nil {
		return err
	}
	bin, err := variant(ctx, n.dir, "liar", edit{file, "	s.credit(to, amount)\n", "	s.credit(to, amount+1)\n"})
	if err != nil {
		return err
	}
	for range rounds {
		m := n.any()
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		copied := m.home + ".copy"
		if err := errors.Join(os.RemoveAll(copied), os.CopyFS(copied, os.DirFS(m.home))); err != nil {
			return err
		}
		m.chaind = bin
		if err := m.start(ctx); err != nil {
			return err
		}
		said, err := n.endsSoon(ctx, m)
		if err != nil {
			n.violated("%s runs on by other rules: %v", m.name(), err)
			return err
		}
		n.log.Info("ended", "node", m.name(), "said", said)
		if n.words(m, said); !strings.Contains(said, "state") {
			n.violated("%s does not speak of its state: %q", m.name(), said)
		}
		if err := n.goOn(ctx, 5, n.without(m)...); err != nil {
			return fmt.Errorf("the others: %w", err)
		}
		m.chaind = n.chaind
		signed := filepath.Join("data", "priv_validator_state.json") // the program voted before it ended: an older one would vote again
		if err := errors.Join(os.Rename(filepath.Join(m.home, signed), filepath.Join(copied, signed)), os.RemoveAll(m.home), os.Rename(copied, m.home), m.start(ctx)); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
	}
	return nil
}

// endsSoon is member.ends with this program's patience.
func (n *network) endsSoon(ctx context.Context, m *member) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return m.ends(ctx)
}
