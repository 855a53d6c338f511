package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sn3/chain/local"
	"sn3/chain/local/node"
)

// folderParts are the parts of a node's folder whose size is measured.
var folderParts = []string{"machine", "blocks", "states", "log", "snapshots", "rest"}

// folderPart is the part that a file of a folder belongs to.
func folderPart(rel string) string {
	for _, x := range [][2]string{{"sn3.db", "machine"}, {"data/blockstore.db", "blocks"}, {"data/state.db", "states"}, {"data/cs.wal", "log"}, {"snapshots", "snapshots"}} {
		if rel == x[0] || strings.HasPrefix(rel, x[0]+"/") {
			return x[1]
		}
	}
	return "rest"
}

// folder is the bytes of a node's folder by part; a file that vanishes meanwhile counts nothing.
func folder(home string) map[string]float64 {
	out := map[string]float64{}
	_ = filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if rel, err := filepath.Rel(home, path); err == nil {
			out[folderPart(filepath.ToSlash(rel))] += float64(info.Size())
		}
		return nil
	})
	return out
}

// disk is a worker whose only turn lives through many windows and measures the folder after each of them; then what the machine's
// database holds, and what is left when the stopped node is pruned.
func (c chainJob) disk(dir string) *piece {
	p := &piece{work: float64(c.Windows), found: figures{}}
	p.turn = func(ctx context.Context) error {
		homes, keys, err := c.found(dir)
		if err != nil {
			return err
		}
		s, err := startSubnet(homes, keys, func(o *node.Options) { o.Pace = time.Duration(c.PaceMS) * time.Millisecond })
		if err != nil {
			return err
		}
		_, err = s.windows(ctx, c, func() {
			height, _ := s.nodes[0].Height()
			p.found.add("at", float64(height))
			sizes := folder(homes[0])
			for _, part := range folderParts {
				p.found.add(part, sizes[part])
			}
		})
		if err = errors.Join(err, s.close()); err != nil {
			return err
		}
		list, err := node.Contents(homes[0])
		if err != nil {
			return err
		}
		for _, x := range list {
			p.found.add("entries "+x.Name, float64(x.Entries))
			p.found.add("bytes "+x.Name, float64(x.Bytes))
		}
		if _, err := node.Prune(homes[0]); err != nil {
			return err
		}
		for part, size := range folder(homes[0]) {
			p.found.add("pruned "+part, size)
		}
		return nil
	}
	return p
}

const mb = 1e6

// disk is how a node's folder grows with its blocks.
func (r *chainRun) disk() error {
	c := r.c
	c.PaceMS, c.Windows = r.flags.Int64("disk-block-time"), r.flags.Int("disk-windows")
	r.section("chain disk", "one validator, %d windows of %d miners and %d validators, blocks of %d ms", c.Windows, c.Miners, c.Validators, c.PaceMS)
	w, err := ours(r.ctx, r.job("chain-disk", c))
	if err != nil {
		return err
	}
	reply, err := w.ask(r.ctx, 1)
	if err = errors.Join(err, w.close()); err != nil {
		return err
	}
	f := reply.Figures
	last := len(f["at"]) - 1
	for _, i := range sampled(f["at"]) {
		row := Row{Case: fmt.Sprintf("folder at block %.0f", f["at"][i]), By: "sn3", Unit: "MB"}
		total, each := 0.0, ""
		for _, part := range folderParts {
			total += f[part][i]
			each += fmt.Sprintf("%s %.2f, ", part, f[part][i]/mb)
		}
		row.Note = strings.TrimSuffix(each, ", ")
		if i == last {
			row.Memory = reply.Memory
		}
		r.add(row.spread([]float64{total / mb}))
	}
	r.growth(f)
	seats, others, sum := float64(c.Miners+c.Validators), 0.0, 0.0
	names := contents(f)
	for _, name := range names {
		sum += f["bytes "+name][0]
	}
	for _, name := range names {
		n, size := f["entries "+name][0], f["bytes "+name][0]
		if size < sum/100 {
			others += size
			continue
		}
		row := Row{Case: "holds: " + name, By: "sn3", Unit: "bytes", Note: fmt.Sprintf("%.0f entries", n)}
		if name == "event" {
			row.Note += fmt.Sprintf("; %.0f bytes when %d of each of %.0f hotkeys are kept", size/n*float64(local.EventsFrequent.Kept())*seats, local.EventsFrequent.Kept(), seats)
		}
		r.add(row.spread([]float64{size}))
	}
	r.add(Row{Case: "holds: the rest", By: "sn3", Unit: "bytes"}.spread([]float64{others}))
	for _, part := range folderParts {
		if v := f["pruned "+part]; len(v) > 0 {
			row := Row{Case: "pruned: " + part, By: "sn3", Unit: "MB", Of: "before"}.spread([]float64{v[0] / mb})
			if before := f[part][last]; before > 0 {
				row.Share = v[0] / before
			}
			r.add(row)
		}
	}
	return nil
}

// growth is what a window adds: in the first third, when nothing goes yet, and in the last one.
func (r *chainRun) growth(f figures) {
	n := len(f["at"])
	third := n / 3
	if third < 2 {
		return
	}
	for _, part := range folderParts {
		v := f[part]
		first, last := (v[third]-v[0])/float64(third), (v[n-1]-v[n-1-third])/float64(third)
		r.add(Row{Case: "a window adds: " + part, By: "sn3", Unit: "bytes", Note: fmt.Sprintf("%.0f in the first third", first)}.spread([]float64{last}))
	}
}

// sampled chooses which of ascending heights are shown: the first above each step, and the last.
func sampled(at []float64) (out []int) {
	next := 0.0
	for i, h := range at {
		if h >= next || i == len(at)-1 {
			out = append(out, i)
			next = h + max(250, h/3)
		}
	}
	return out
}

// contents are the names of what the database holds, most bytes first.
func contents(f figures) (names []string) {
	for name := range f {
		if name, ok := strings.CutPrefix(name, "bytes "); ok {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(f["bytes "+b][0], f["bytes "+a][0]), strings.Compare(a, b))
	})
	return names
}
