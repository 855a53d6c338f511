//go:build !linux

package main

import "os"

// child is main.
func child() int { return execute(os.Args, os.Stdout, os.Stderr) }
