package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sn3/internal/proc"
	"sn3/model/gpu/dl"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"miner": main}) }

// The miner as a user types it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Condition: func(name string) (bool, error) {
		if name != "cards" {
			return false, fmt.Errorf("unknown condition %s", name)
		}
		return dl.Supported, nil
	}})
}

// README's table of exit codes.
func TestExitCodes(t *testing.T) {
	t.Setenv("SN3_CUDA", "nosuchlibrary.so") // no driver, whatever this machine has
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
		"--gpu":            proc.ExitRefused,
		"--chain 127.0.0.1:1 --engine steam --keystore k --bucket local:me --s3-access-key a --dir d": proc.ExitUsage,
	} {
		if err := run(append([]string{"miner"}, strings.Fields(line)...)); proc.ExitCode(err) != want {
			t.Errorf("miner %s: exit code %d (%v), want %d", line, proc.ExitCode(err), err, want)
		}
	}
}
