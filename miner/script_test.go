package main

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sn3/internal/proc"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"miner": main}) }

// The miner as a user types it.
func TestScripts(t *testing.T) { testscript.Run(t, testscript.Params{Dir: "testdata"}) }

// README's table of exit codes.
func TestExitCodes(t *testing.T) {
	for line, want := range map[string]int{
		"--version":        0,
		"--help":           0,
		"":                 proc.ExitUsage,
		"--chian x":        proc.ExitUsage,
		"--gap sometimes":  proc.ExitUsage,
		"--threads 0":      proc.ExitUsage,
		"--precision f16":  proc.ExitUsage,
		"--micro-batch -1": proc.ExitUsage,
		"--save-every 0":   proc.ExitUsage,
		"--kernels abacus": proc.ExitUsage,
		"--version -v":     0,
		"--log-format xml": proc.ExitUsage,
		"--gpu":            proc.ExitRefused, // until there is a GPU engine, whatever this machine has
		"--chain 127.0.0.1:1 --engine steam --keystore k --bucket local:me --s3-access-key a --dir d": proc.ExitUsage,
	} {
		if err := run(append([]string{"miner"}, strings.Fields(line)...)); proc.ExitCode(err) != want {
			t.Errorf("miner %s: exit code %d (%v), want %d", line, proc.ExitCode(err), err, want)
		}
	}
}
