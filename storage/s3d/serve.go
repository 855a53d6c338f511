package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"sn3/storage"
	"sn3/storage/embedded"
)

// poll is how often the accounts file is looked at. Reading a small file twice a second costs nothing and works on every
// file system, unlike notifications.
const poll = 500 * time.Millisecond

// serve runs the server until ctx ends.
func serve(ctx context.Context, cfg *config) error {
	if cfg.ready != "" { // of an earlier run that was killed
		if err := os.Remove(cfg.ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove old ready file: %w", err)
		}
	}
	if err := captureStderr(cfg.log); err != nil {
		return err
	}
	s, err := embedded.Start(ctx, embedded.Options{Dir: cfg.dir, Listen: cfg.listen, Root: *cfg.root})
	if err != nil {
		return err
	}
	k := &keeper{server: s, path: cfg.accounts, retired: map[string]bool{}}
	if err := k.update(); err != nil {
		return errors.Join(err, s.Close())
	}
	if cfg.ready != "" {
		if err := writeReady(cfg.ready, s); err != nil {
			return errors.Join(err, s.Close())
		}
		defer os.Remove(cfg.ready)
	}
	cfg.log.Info("serving S3", "addr", s.Addr(), "dir", cfg.dir, "buckets", len(k.have))
	watch(ctx, cfg, k)
	if ctx.Err() == nil { // the server ended by itself
		return errors.Join(errors.New("S3 server stopped unexpectedly"), s.Close())
	}
	cfg.log.Info("stopping")
	return s.Close()
}

// watch keeps the accounts in step with their file until ctx or the server ends.
func watch(ctx context.Context, cfg *config, k *keeper) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.server.Done():
			return
		case <-hangup:
			said = ""
		case <-tick.C:
		}
		before := len(k.have)
		switch err := k.update(); {
		case err != nil && err.Error() != said:
			said = err.Error()
			cfg.log.Error("accounts stay as they were", "reason", err)
		case err == nil && len(k.have) != before:
			cfg.log.Info("accounts changed", "buckets", len(k.have))
			said = ""
		}
	}
}

// keeper makes the server's accounts those of the file.
type keeper struct {
	server  *embedded.Server
	path    string // "" = none
	have    []storage.Account
	retired map[string]bool // buckets without an account; nobody writes them
}

// update reads the file and applies what differs. Buckets of accounts that are gone, in this life or before, stay for
// reading only: their keys may be given to others.
func (k *keeper) update() error {
	if k.path == "" {
		return nil
	}
	list, err := storage.ReadAccounts(k.path)
	if err != nil {
		return err
	}
	for _, a := range k.have {
		if !slices.ContainsFunc(list, func(b storage.Account) bool { return b.AccessKey == a.AccessKey }) {
			k.server.RemoveAccount(a.AccessKey)
		}
	}
	k.have = slices.DeleteFunc(k.have, func(a storage.Account) bool { return !slices.Contains(list, a) })
	for _, a := range list {
		if slices.Contains(k.have, a) {
			continue
		}
		if err := k.server.AddBucket(a.Bucket, a.AccessKey, a.Secret); err != nil {
			return err
		}
		k.have = append(k.have, a)
		delete(k.retired, a.Bucket)
	}
	return k.retire()
}

// retire takes the right to write from buckets that have no account any more.
func (k *keeper) retire() error {
	names, err := k.server.Buckets()
	if err != nil {
		return err
	}
	for _, name := range names {
		if k.retired[name] || slices.ContainsFunc(k.have, func(a storage.Account) bool { return a.Bucket == name }) {
			continue
		}
		if err := k.server.Retire(name); err != nil {
			return err
		}
		k.retired[name] = true
	}
	return nil
}

// captureStderr turns what the S3 library prints there by itself, in colours, into lines of the log; it is for the rest of
// the process's life.
func captureStderr(log *slog.Logger) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("capture messages of the S3 library: %w", err)
	}
	os.Stderr = w
	go func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			log.Warn("S3 library", "says", colours.ReplaceAllString(lines.Text(), ""))
		}
		_, _ = io.Copy(io.Discard, r) // a line too long to scan; nobody may wait for a reader
	}()
	return nil
}

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// writeReady tells whoever waits for it where the server listens; the file appears whole or not at all.
func writeReady(path string, s *embedded.Server) error {
	b, err := json.Marshal(struct {
		Addr string `json:"addr"`
		Port int    `json:"port"`
		PID  int    `json:"pid"`
	}{s.Addr(), s.Port(), os.Getpid()})
	if err != nil {
		return fmt.Errorf("encode ready file: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	return nil
}
