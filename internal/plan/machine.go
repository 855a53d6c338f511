package plan

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Unknown stands for a size that this platform does not tell.
const Unknown = -1

// Machine is what there is, in bytes.
type Machine struct {
	Memory int64 // that a new process can have: free, or held by caches, and within the limit of its container; or Unknown
	Disk   int64 // free where the node's folder lies, or will; or Unknown
	Used   int64 // held by the node's folder already
}

// Here looks at this machine; dir is the node's folder, which need not exist yet.
func Here(dir string) Machine {
	return Machine{Memory: freeMemory(), Disk: freeDisk(existing(dir)), Used: usedBy(dir)}
}

// FreeMemory is Machine.Memory of this machine.
func FreeMemory() int64 { return freeMemory() }

// existing is the nearest folder above dir that is there.
func existing(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "."
	}
	for {
		if _, err := os.Stat(abs); err == nil || filepath.Dir(abs) == abs {
			return abs
		}
		abs = filepath.Dir(abs)
	}
}

// usedBy sums the files below dir, which may be a link; what cannot be read, or vanishes meanwhile, counts as nothing.
func usedBy(dir string) int64 {
	var sum int64
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real // WalkDir does not enter a link
	}
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// linuxMemory is what a new process can have, on a Linux whose root is fsys: MemAvailable of /proc/meminfo, or what the limits
// of this process's control groups, and of those above it, leave.
func linuxMemory(fsys fs.FS) int64 {
	free := int64(Unknown)
	if kib, ok := field(fsys, "proc/meminfo", "MemAvailable:"); ok {
		free = kib << 10
	}
	groups, err := fs.ReadFile(fsys, "proc/self/cgroup")
	if err != nil {
		return free
	}
	for line := range bytes.Lines(groups) {
		id, rest, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		left := int64(Unknown)
		switch {
		case id == "0" && controllers == "": // version 2
			left = least(fsys, "sys/fs/cgroup", group, cgroup{"memory.max", "memory.current", []string{"inactive_file", "active_file"}})
		case strings.Contains(","+controllers+",", ",memory,"):
			left = least(fsys, "sys/fs/cgroup/memory", group, cgroup{"memory.limit_in_bytes", "memory.usage_in_bytes", []string{"total_inactive_file", "total_active_file"}})
		}
		if left >= 0 && (free < 0 || left < free) {
			free = left
		}
	}
	return free
}

// cgroup names the files of one version of control groups. Cached files are given back when memory is needed.
type cgroup struct {
	limit, usage string
	cached       []string
}

// least is the least that a group and those above it leave; Unknown if none has a limit. In a container the group's own path
// may be that of the host, or lead above the mount ("/../.."): then only the mount's root counts.
func least(fsys fs.FS, mount, group string, g cgroup) int64 {
	out := int64(Unknown)
	for at := path.Join(mount, path.Clean("/"+group)); ; at = path.Dir(at) {
		limit, ok := number(fsys, path.Join(at, g.limit))
		usage, used := number(fsys, path.Join(at, g.usage))
		if ok && used {
			for _, name := range g.cached {
				n, _ := field(fsys, path.Join(at, "memory.stat"), name)
				usage -= n
			}
			if left := max(0, limit-max(0, usage)); out < 0 || left < out {
				out = left
			}
		}
		if at == mount || len(at) <= len(mount) {
			return out
		}
	}
}

// number reads a file that holds one number; "max" is none.
func number(fsys fs.FS, name string) (int64, bool) {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, false
	}
	return int64(min(n, 1<<62)), true // version 1 writes a number near 2^63 for no limit
}

// field reads the number after a name in a file of such lines.
func field(fsys fs.FS, name, key string) (int64, bool) {
	f, err := fsys.Open(name)
	if err != nil {
		return 0, false
	}
	out, ok := int64(0), false
	s := bufio.NewScanner(f)
	for s.Scan() && !ok {
		if w := strings.Fields(s.Text()); len(w) >= 2 && w[0] == key {
			out, err = strconv.ParseInt(w[1], 10, 64)
			ok = err == nil && out >= 0
		}
	}
	return out, errors.Join(s.Err(), f.Close()) == nil && ok
}
