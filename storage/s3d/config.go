package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/storage"
)

func runFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dir", Usage: "`FOLDER` for objects; made if missing", EnvVars: []string{"SN3_DIR"}},
		&cli.StringFlag{Name: "listen", Usage: "`127.0.0.1:PORT`; port 0 takes a free one", Value: "127.0.0.1:0", EnvVars: []string{"SN3_LISTEN"}},
		&cli.StringFlag{Name: "ready-file", Usage: "`FILE` to write {addr, port, pid} to once requests are served", EnvVars: []string{"SN3_READY_FILE"}},
		&cli.StringFlag{Name: "accounts", Usage: "JSON `FILE` of buckets and keys, read again when it changes", EnvVars: []string{"SN3_ACCOUNTS"}},
		&cli.StringFlag{Name: "root-access-key", Usage: "access `KEY` that may write every bucket (default: none)", EnvVars: []string{"SN3_ROOT_ACCESS_KEY"}},
		&cli.StringFlag{Name: "root-secret-file", Usage: "`FILE` with that key's secret; or set SN3_S3_ROOT_SECRET", EnvVars: []string{"SN3_ROOT_SECRET_FILE"}},
		&cli.IntFlag{Name: "parent-fd", Usage: "inherited pipe `NUMBER`; s3d ends when it closes", EnvVars: []string{"SN3_PARENT_FD"}},
		&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` of the log on stderr: text or json", Value: "text", EnvVars: []string{"SN3_LOG_FORMAT"}},
	}
}

// config is what serve needs; all paths are absolute, because the server changes the working directory.
type config struct {
	dir, listen, ready, accounts string
	root                         *storage.Credential
	parentFD                     int
	log                          *slog.Logger
}

func parseConfig(c *cli.Context) (*config, error) {
	cfg := &config{listen: c.String("listen"), parentFD: c.Int("parent-fd")}
	for flag, dst := range map[string]*string{"dir": &cfg.dir, "ready-file": &cfg.ready, "accounts": &cfg.accounts} {
		if v := c.String(flag); v != "" {
			abs, err := filepath.Abs(v)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", flag, err)
			}
			*dst = abs
		}
	}
	if cfg.dir == "" {
		return nil, errors.New("--dir is missing: give the folder for the objects")
	}
	if cfg.parentFD != 0 && cfg.parentFD < 3 {
		return nil, fmt.Errorf("--parent-fd %d: want the number of an inherited pipe, 3 or more", cfg.parentFD)
	}
	var err error
	if cfg.root, err = rootCredential(c.String("root-access-key"), c.String("root-secret-file")); err != nil {
		return nil, err
	}
	cfg.log, err = logger(c.String("log-format"), c.App.ErrWriter)
	return cfg, err
}

// rootCredential reads the root key, or makes one that nobody knows: the library cannot do without.
func rootCredential(access, file string) (*storage.Credential, error) {
	secret := os.Getenv("SN3_S3_ROOT_SECRET")
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--root-secret-file: %w", err)
		}
		secret = strings.TrimSpace(string(b))
	}
	switch {
	case access == "" && file != "":
		return nil, errors.New("--root-secret-file needs --root-access-key")
	case access == "":
		return storage.NewCredential("root-"+rand.Text(), rand.Text())
	case secret == "":
		return nil, errors.New("--root-access-key needs its secret: give --root-secret-file or set SN3_S3_ROOT_SECRET")
	}
	return storage.NewCredential(access, secret)
}

func logger(format string, w io.Writer) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}
