package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// mountsEnv says that this process may mount disks that nobody else sees, and which end with it.
const mountsEnv = "SN3_CHAINSOAK_MOUNTS"

func mounts() bool { return os.Getenv(mountsEnv) != "" }

// private runs this program once more where it may mount disks; done is false where the system does not allow that.
func private(args []string) (done bool, err error) {
	if mounts() {
		return false, nil
	}
	root := os.Getuid() == 0
	try := func(args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if !root {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		return cmd
	}
	if try("sh", "-c", "mount --make-rprivate / && mount -t tmpfs -o size=1m sn3 /mnt").Run() != nil {
		return false, nil
	}
	cmd := try(append([]string{"/proc/self/exe"}, args[1:]...)...)
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	cmd.Env = append(os.Environ(), mountsEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return true, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // one that has ended needs none
		}
	}()
	return true, cmd.Wait()
}

func mount(dir string, size int) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Mount("sn3", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size))
}

func unmount(dir string) error { return syscall.Unmount(dir, 0) }

// writable makes a disk one that can be written, or not.
func writable(dir string, yes bool) error {
	flags := uintptr(syscall.MS_REMOUNT)
	if !yes {
		flags |= syscall.MS_RDONLY
	}
	return syscall.Mount("sn3", dir, "tmpfs", flags, fmt.Sprintf("size=%d", diskSize))
}
