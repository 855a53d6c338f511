package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// noNamespace is the exit code of a child that may not have a disk of its own.
const noNamespace = 77

// child is main, on a small disk of its own if the environment says so.
func child() int {
	dir := os.Getenv("S3D_TEST_DISK")
	if dir == "" {
		return execute(os.Args, os.Stdout, os.Stderr)
	}
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	if err == nil {
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, os.Getenv("S3D_TEST_DISK_OPTIONS"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return noNamespace
	}
	return execute(os.Args, os.Stdout, os.Stderr)
}

// onDisk makes cmd run with a disk of its own at dir, which only it sees.
func onDisk(cmd *exec.Cmd, dir, options string) {
	cmd.Env = append(cmd.Env, "S3D_TEST_DISK="+dir, "S3D_TEST_DISK_OPTIONS="+options)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
}
