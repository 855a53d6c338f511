//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// killWhole has a cancelled command end with all that it started, so that nothing goes on writing to a folder that is removed.
func killWhole(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = patience
}
