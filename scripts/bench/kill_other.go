//go:build !unix

package main

import "os/exec"

// killWhole has a cancelled command end; what it started is on its own here.
func killWhole(cmd *exec.Cmd) { cmd.WaitDelay = patience }
