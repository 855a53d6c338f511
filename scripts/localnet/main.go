// Command localnet runs a whole SN3 network on this machine: one chain node, one S3 server, validators and miners, each a
// process of its own, and shows what they do. It is what `make up` starts.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/scripts/localnet/netdir"
)

func main() { os.Exit(proc.Main("localnet", run(os.Args))) }

func run(args []string) error {
	dir := &cli.StringFlag{Name: "dir", Value: ".localnet", Usage: "`FOLDER` of the network", EnvVars: []string{"SN3_LOCAL"}}
	command := func(name, text string, act cli.ActionFunc, flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: text, Action: act, Flags: append([]cli.Flag{dir}, flags...)}
	}
	return proc.Frame(&cli.App{Name: "localnet", Usage: "a whole SN3 network on this machine",
		Description: "make up, down, status, logs and clean-localnet call it; their variables are its flags: make up MINERS=6 is localnet up --miners 6.",
		Commands: []*cli.Command{
			command("up", "start or continue a network and watch it", up,
				&cli.IntFlag{Name: "windows", Value: -1, DefaultText: "five minutes' worth", Usage: "run `N` windows, or so many more; 0 = until Ctrl-C"},
				&cli.IntFlag{Name: "miners", Value: 4, Usage: "start `N` miners"},
				&cli.IntFlag{Name: "validators", Value: 2, Usage: "start `N` validators"},
				&cli.StringFlag{Name: "model", Value: "local", Usage: "`PRESET`: " + strings.Join(preset.Local(), " or ") + ", with --data also small or a larger one, or a file such as ./mine.json (sn3 preset local > mine.json)"},
				&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "`SEED` of the initial model"},
				&cli.StringFlag{Name: "text", Usage: "`FOLDER` of text to train on (default: the Go standard library)"},
				&cli.StringFlag{Name: "data", Usage: "`FOLDER` of a dataset to train on instead, made by sn3 data pack; its tokenizer must be the model's"},
				&cli.StringFlag{Name: "gap", Value: "auto", Usage: "what miners do until a window's model arrives, as `MODE`: auto, train or wait"},
				&cli.BoolFlag{Name: "no-p2p", Usage: "without peer-to-peer announcements"},
				proc.LogFormat("")),
			command("down", "stop the running network", down),
			command("status", "show what runs", status),
			command("logs", "show the end of the logs, of one node or of all", logs, &cli.IntFlag{Name: "lines", Value: 10, Usage: "`N` lines of each"}),
			command("clean", "delete a stopped network", clean),
		}}).Run(args)
}

// stopPatience is how long a launcher may take to stop its processes and sum up.
const stopPatience = time.Minute

// down asks the launcher to stop and waits for it.
func down(c *cli.Context) error {
	d := netdir.Dir(c.String("dir"))
	if _, err := d.Settings(); err != nil {
		return proc.Refused(err)
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	lock, err := d.LockWhenFree(ctx, func(s string) { fmt.Println(s) })
	if err == nil {
		fmt.Println("nothing runs")
		return lock.Close()
	}
	if !errors.Is(err, netdir.ErrRunning) {
		return err
	}
	rt, err := d.Runtime()
	if err != nil {
		return err
	}
	if rt.PID == 0 || rt.PID != d.Holder() { // a number from an old file may be anybody's by now
		return proc.Refused(busy(d, string(d), netdir.ErrRunning))
	}
	if err := syscall.Kill(rt.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the launcher: %w", err)
	}
	end := time.NewTimer(stopPatience)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if lock, err := d.Lock(); err == nil {
			fmt.Println("stopped")
			return lock.Close()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return fmt.Errorf("the launcher (process %d) did not stop within %s; kill -9 it: its processes end with it", rt.PID, stopPatience)
		case <-tick.C:
		}
	}
}

func status(c *cli.Context) error {
	d := netdir.Dir(c.String("dir"))
	s, err := d.Settings()
	if err != nil {
		return proc.Refused(err)
	}
	rt, err := d.Runtime()
	if err != nil {
		return err
	}
	lock, err := d.Lock()
	state, running := "stopped", errors.Is(err, netdir.ErrRunning)
	switch {
	case running && !netdir.Alive(d.Holder()):
		state = "ending: its launcher was killed"
	case running && rt.PID == d.Holder():
		state = "running"
	case running:
		state = fmt.Sprintf("in use by process %d", d.Holder())
	case err != nil:
		return err
	default:
		if err := lock.Close(); err != nil {
			return err
		}
	}
	fmt.Printf("network %s (%s), model %s, %d validators, %d miners, %s\n", s.Network, d, s.Model, s.Validators, s.Miners, state)
	if state != "running" {
		return nil
	}
	fmt.Printf("chain %s, S3 127.0.0.1:%d, launcher process %d\n", rt.Chain, rt.S3Port, rt.PID)
	var names []string
	for n := range rt.PIDs {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		alive := "alive"
		if !netdir.Alive(rt.PIDs[n]) {
			alive = "not running"
		}
		fmt.Printf("  %-14s process %d, %s\n", n, rt.PIDs[n], alive)
	}
	return nil
}

func logs(c *cli.Context) error {
	d := netdir.Dir(c.String("dir"))
	s, err := d.Settings()
	if err != nil {
		return proc.Refused(err)
	}
	files := map[string]string{"chaind": d.Path("chaind.log"), "s3d": d.Path("s3d.log")}
	names := []string{"chaind", "s3d"}
	for _, n := range s.Nodes {
		if n.Role != "idle" {
			files[n.Name] = d.NodePath(n.Name, "log")
			names = append(names, n.Name)
		}
	}
	if c.NArg() == 1 {
		if files[c.Args().First()] == "" {
			return proc.Usage(fmt.Errorf("no node %q; there are %s", c.Args().First(), strings.Join(names, ", ")))
		}
		names = []string{c.Args().First()}
	}
	for _, n := range names {
		if len(names) > 1 {
			fmt.Printf("==> %s <==\n", n)
		}
		if err := tail(files[n], max(1, c.Int("lines"))); err != nil {
			fmt.Printf("%v\n", err)
		}
	}
	return nil
}

func tail(path string, n int) error {
	f, err := os.Open(path)
	if err != nil {
		return errors.New("no log yet")
	}
	defer f.Close()
	var keep []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		keep = append(keep, s.Text())
		keep = keep[max(0, len(keep)-n):]
	}
	_, err = io.WriteString(os.Stdout, strings.Join(append(keep, ""), "\n"))
	return errors.Join(err, s.Err())
}

// clean deletes a folder only if it is recognisably a stopped network's.
func clean(c *cli.Context) error {
	d := netdir.Dir(c.String("dir"))
	if _, err := os.Stat(string(d)); errors.Is(err, os.ErrNotExist) {
		fmt.Printf("%s is not there\n", d)
		return nil
	}
	if err := d.Foreign(); err != nil {
		return proc.Refused(fmt.Errorf("%w; nothing was deleted", err))
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	lock, err := d.LockWhenFree(ctx, func(s string) { fmt.Println(s) })
	if errors.Is(err, netdir.ErrRunning) {
		return proc.Refused(fmt.Errorf("%w; nothing was deleted", busy(d, string(d), err)))
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(string(d)); err != nil {
		return errors.Join(fmt.Errorf("delete network: %w", err), lock.Close())
	}
	fmt.Printf("deleted %s\n", d)
	return lock.Close()
}
