package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
	"sn3/storage/storagetest"
)

func s3Command() *cli.Command {
	return &cli.Command{Name: "s3", Usage: "S3 providers", Subcommands: []*cli.Command{
		command("check", "run the conformance checks against a bucket of any provider; it writes and deletes below a prefix of its own", "", 0, []cli.Flag{
			&cli.StringFlag{Name: "endpoint", Usage: "`URL` of the provider (default: the S3 server of --local)", EnvVars: []string{"SN3_S3_ENDPOINT"}},
			&cli.StringFlag{Name: "bucket", Usage: "`NAME`", Required: true, EnvVars: []string{"SN3_S3_BUCKET"}},
			&cli.StringFlag{Name: "region", Usage: "`REGION` (default: the provider's usual one; aws and b2 have none)", EnvVars: []string{"SN3_S3_REGION"}},
			&cli.StringFlag{Name: "provider", Value: string(storage.ProviderOther), Usage: "`PROFILE`: " + providerNames(), EnvVars: []string{"SN3_S3_PROVIDER"}},
			&cli.StringFlag{Name: "access-key", Usage: "`KEY` (default with --local: key-NAME)", EnvVars: []string{"SN3_S3_ACCESS_KEY"}},
			&cli.StringFlag{Name: "secret-file", Usage: "`FILE` with its secret, or SN3_S3_SECRET (default with --local: that of the node NAME)", EnvVars: []string{"SN3_S3_SECRET_FILE"}},
		}, s3Check)}}
}

func providerNames() string {
	var names []string
	for _, p := range storage.Providers() {
		names = append(names, fmt.Sprint(p))
	}
	return strings.Join(names, ", ")
}

func s3Check(c *cli.Context) error {
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	e := storage.Endpoint{URL: c.String("endpoint"), Bucket: c.String("bucket"), Region: c.String("region"), Provider: storage.Provider(c.String("provider"))}
	access, file := c.String("access-key"), c.String("secret-file")
	if dir := c.String("local"); dir != "" && e.URL == "" {
		at, err := attach(ctx, dir, false)
		if err != nil {
			return proc.Ended(ctx, err)
		}
		defer at.Close()
		e.URL = fmt.Sprintf("http://127.0.0.1:%d", at.S3Port)
		if access == "" {
			access = "key-" + e.Bucket
		}
		if own := netdir.Dir(dir).NodePath(e.Bucket, "s3.secret"); file == "" && os.Getenv("SN3_S3_SECRET") == "" {
			file = own
		}
	}
	if e.URL == "" || access == "" {
		return proc.Usage(errors.New("give --endpoint and --access-key, or --local FOLDER for a local network's own server"))
	}
	return check(ctx, e, access, file)
}

// check runs the suite as the owner of a bucket and as anybody.
func check(ctx context.Context, e storage.Endpoint, access, secretFile string) error {
	secret := os.Getenv("SN3_S3_SECRET")
	if secretFile != "" {
		b, err := os.ReadFile(secretFile)
		if err != nil {
			return proc.Usage(fmt.Errorf("read S3 secret: %w; give --secret-file", err))
		}
		secret = strings.TrimSpace(string(b))
	}
	cred, err := storage.NewCredential(access, secret)
	if err != nil {
		return proc.Usage(err)
	}
	owner, err := storage.OpenEndpoint(e, cred)
	if err != nil {
		return proc.Usage(err)
	}
	var public *storage.Bucket // R2's S3 interface has no anonymous readers: its checks are skipped
	if e.Provider != storage.ProviderR2 {
		if public, err = storage.OpenEndpoint(e, nil); err != nil {
			return proc.Usage(err)
		}
	}
	tag := make([]byte, 4)
	if _, err := rand.Read(tag); err != nil {
		return err
	}
	failed := storagetest.Run(ctx, storagetest.Target{Owner: owner, Public: public, Prefix: "sn3-check-" + hex.EncodeToString(tag) + "/"},
		func(r storagetest.Result) { fmt.Println(r) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed: a miner may not be able to use this bucket", failed)
	}
	fmt.Println("all checks passed: a miner can use this bucket")
	return nil
}

// bucketPatience bounds how long the S3 server may take to notice a new account.
const bucketPatience = 20 * time.Second

// addAccount makes a bucket with its own key on a local network's S3 server and waits until it is there.
func addAccount(dir, name string) (access, secret string, err error) {
	l, err := storage.Local(name)
	if err != nil {
		return "", "", proc.Usage(err)
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	at, err := attach(ctx, dir, false)
	if err != nil {
		return "", "", proc.Ended(ctx, err)
	}
	defer at.Close()
	path := netdir.Dir(dir).Path("accounts.json")
	list, err := storage.ReadAccounts(path)
	if err != nil {
		return "", "", err
	}
	for _, a := range list {
		if a.Bucket == name {
			return "", "", proc.Refused(fmt.Errorf("the bucket %s is already there; nothing was changed", name))
		}
	}
	raw := make([]byte, 20)
	if _, err := rand.Read(raw); err != nil {
		return "", "", err
	}
	access, secret = "key-"+name, hex.EncodeToString(raw)
	if err := storage.WriteAccounts(path, append(list, storage.Account{Bucket: name, AccessKey: access, Secret: secret})); err != nil {
		return "", "", err
	}
	b, err := storage.Open(l, nil, storage.DialPolicy{Loopback: true, LocalPort: at.S3Port})
	if err != nil {
		return "", "", err
	}
	limit := time.NewTimer(bucketPatience)
	defer limit.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err = b.List(ctx, "", "", 1); err == nil || !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrDenied) {
			return access, secret, err
		}
		select {
		case <-ctx.Done():
			return "", "", context.Cause(ctx)
		case <-limit.C:
			return "", "", fmt.Errorf("the S3 server did not make the bucket within %s: %w; its log is %s", bucketPatience, err, netdir.Dir(dir).Path("s3d.log"))
		case <-tick.C:
		}
	}
}

func bucketCommand() *cli.Command {
	return &cli.Command{Name: "bucket", Usage: "buckets of a local network", Subcommands: []*cli.Command{
		command("new", "make a bucket with its own key on a local network's S3 server", "NAME", 1,
			[]cli.Flag{&cli.StringFlag{Name: "secret-file", Usage: "`FILE` to write the key's secret to (default: NAME.secret)"}}, bucketNew),
	}}
}

func bucketNew(c *cli.Context) error {
	dir, name := c.String("local"), c.Args().First()
	if dir == "" {
		return proc.Usage(errors.New("this makes a bucket on a local network: give --local FOLDER before the command; elsewhere your provider's console does it"))
	}
	file := c.String("secret-file")
	if file == "" {
		file = name + ".secret"
	}
	if _, err := os.Stat(file); err == nil {
		return proc.Refused(fmt.Errorf("%s is already there; nothing was changed", file))
	}
	access, secret, err := addAccount(dir, name)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	fmt.Printf("bucket      local:%s\naccess key  %s\nsecret      in %s\n", name, access, filepath.Clean(file))
	return nil
}
