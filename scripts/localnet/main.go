// Command localnet runs a whole SN3 network on this machine: one chain node, one S3 server, validators and miners, each a
// process of its own, and shows what they do. It is what `make up` starts.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

func say(head, format string, args ...any) {
	fmt.Printf("  %s%s\n", head, fmt.Sprintf(format, args...))
}

func run(args []string) error {
	usage := func(c *cli.Context, err error, _ bool) error { return proc.Flag(c, err) }
	dir := &cli.StringFlag{Name: "dir", Value: ".localnet", Usage: "`FOLDER` of the network", EnvVars: []string{"SN3_DIR"}}
	command := func(name, text string, act cli.ActionFunc, flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: text, Action: act, OnUsageError: usage, Flags: append([]cli.Flag{dir}, flags...)}
	}
	app := &cli.App{Name: "localnet", Usage: "a whole SN3 network on this machine", Version: proc.Version, Suggest: true, EnableBashCompletion: true,
		OnUsageError: usage, ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{
			command("up", "start or continue a network and watch it", up,
				&cli.IntFlag{Name: "windows", Value: -1, Usage: "windows to run; 0 = until Ctrl-C (default: five minutes' worth)"},
				&cli.IntFlag{Name: "miners", Value: 4, Usage: "miners"},
				&cli.IntFlag{Name: "validators", Value: 2, Usage: "validators"},
				&cli.StringFlag{Name: "model", Value: "local", Usage: "preset: " + strings.Join(preset.Names(), " or ")},
				&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of the initial model"},
				&cli.StringFlag{Name: "text", Usage: "`FOLDER` of text to train on (default: the Go standard library)"},
				&cli.StringFlag{Name: "gap", Value: "train", Usage: "what miners do between windows: train or wait"},
				&cli.BoolFlag{Name: "no-p2p", Usage: "without peer-to-peer announcements"}),
			command("down", "stop the running network", down),
			command("status", "show what runs", status),
			command("logs", "show the end of the logs, of one node or of all", logs, &cli.IntFlag{Name: "lines", Value: 10, Usage: "lines of each"}),
			command("clean", "delete a stopped network", clean),
		}}
	return app.Run(args)
}

// down asks the launcher to stop and waits for it.
func down(c *cli.Context) error {
	d := netdir.Dir(c.String("dir"))
	if _, err := d.Settings(); err != nil {
		return proc.Refused(err)
	}
	rt, err := d.Runtime()
	if err != nil {
		return err
	}
	unlock, err := d.Lock()
	if err == nil {
		fmt.Println("nothing runs")
		return unlock()
	}
	if !errors.Is(err, netdir.ErrRunning) || rt.PID == 0 {
		return err
	}
	if err := syscall.Kill(rt.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the launcher: %w", err)
	}
	for range 600 {
		if unlock, err := d.Lock(); err == nil {
			fmt.Println("stopped")
			return unlock()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the launcher (process %d) did not stop within a minute", rt.PID)
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
	state := "stopped"
	if unlock, err := d.Lock(); errors.Is(err, netdir.ErrRunning) {
		state = "running"
	} else if err != nil {
		return err
	} else if err := unlock(); err != nil {
		return err
	}
	fmt.Printf("network %s (%s), model %s, %d validators, %d miners, %s\n", s.Network, d, s.Model, s.Validators, s.Miners, state)
	if state == "stopped" {
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
		if syscall.Kill(rt.PIDs[n], 0) != nil {
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
		if err := tail(files[n], c.Int("lines")); err != nil {
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
	if _, err := os.Stat(filepath.Join(string(d), "network.json")); err != nil && !d.Unfinished() {
		return proc.Refused(fmt.Errorf("%s: %w; nothing was deleted", d, netdir.ErrNotOurs))
	}
	unlock, err := d.Lock()
	if errors.Is(err, netdir.ErrRunning) {
		return proc.Refused(fmt.Errorf("%w: make down first; nothing was deleted", err))
	}
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(string(d)), unlock())
}
