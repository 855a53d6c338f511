//go:build !linux

package main

import "errors"

func mounts() bool { return false }

func private([]string) (bool, error) { return false, nil }

var errMount = errors.New("only Linux mounts disks here")

func mount(string, int) error { return errMount }

func unmount(string) error { return errMount }

func writable(string, bool) error { return errMount }
