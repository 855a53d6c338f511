package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
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
			&cli.StringFlag{Name: "endpoint", Usage: "`URL` of the provider", Required: true},
			&cli.StringFlag{Name: "bucket", Usage: "`NAME`", Required: true},
			&cli.StringFlag{Name: "region", Usage: "`REGION` (default: the provider's usual one; aws and b2 have none)"},
			&cli.StringFlag{Name: "provider", Value: string(storage.ProviderOther), Usage: "`PROFILE`: " + providerNames()},
			&cli.StringFlag{Name: "access-key", Usage: "`KEY`", Required: true, EnvVars: []string{"SN3_S3_ACCESS_KEY"}},
			&cli.StringFlag{Name: "secret-file", Usage: "`FILE` with its secret (or SN3_S3_SECRET)"},
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
	secret := os.Getenv("SN3_S3_SECRET")
	if f := c.String("secret-file"); f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return proc.Usage(err)
		}
		secret = strings.TrimSpace(string(b))
	}
	cred, err := storage.NewCredential(c.String("access-key"), secret)
	if err != nil {
		return proc.Usage(err)
	}
	e := storage.Endpoint{URL: c.String("endpoint"), Bucket: c.String("bucket"), Region: c.String("region"), Provider: storage.Provider(c.String("provider"))}
	owner, err := storage.OpenEndpoint(e, cred)
	if err != nil {
		return proc.Usage(err)
	}
	public, err := storage.OpenEndpoint(e, nil)
	if err != nil {
		return proc.Usage(err)
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	tag := make([]byte, 4)
	if _, err := rand.Read(tag); err != nil {
		return err
	}
	failed := storagetest.Run(ctx, storagetest.Target{Owner: owner, Public: public, Prefix: "sn3-check-" + hex.EncodeToString(tag) + "/"},
		func(r storagetest.Result) { fmt.Println(r) })
	if failed > 0 {
		return proc.Ended(ctx, fmt.Errorf("%d checks failed: a miner may not be able to use this bucket", failed))
	}
	fmt.Println("all checks passed: a miner can use this bucket")
	return nil
}

func localDir(c *cli.Context) string { return c.String("local") }

// addAccount makes a bucket with its own key on a local network's S3 server and waits until it is there.
func addAccount(dir, name string) (access, secret string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := storage.Local(name)
	if err != nil {
		return "", "", proc.Usage(err)
	}
	at, err := netdir.Attach(ctx, dir)
	if err != nil {
		return "", "", err
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
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err = b.List(ctx, "", "", 1); err == nil || !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrDenied) {
			return access, secret, err
		}
		select {
		case <-ctx.Done():
			return "", "", fmt.Errorf("the S3 server did not make the bucket: %w", err)
		case <-tick.C:
		}
	}
}
