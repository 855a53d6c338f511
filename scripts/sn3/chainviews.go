package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
)

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

func table() *tabwriter.Writer { return tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0) }

// viewCommand is a command that reads something and prints it for people, or as JSON.
func viewCommand[T any](name, usage, args string, want int, flags []cli.Flag, read func(context.Context, *cli.Context, *network) (T, error), show func(*network, T) error) *cli.Command {
	return command(name, usage, args, want, append(flags, jsonFlag()), func(c *cli.Context) error {
		return with(c, nil, func(ctx context.Context, n *network) error {
			v, err := read(ctx, c, n)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(v)
			}
			return show(n, v)
		})
	})
}

func blocksCommand() *cli.Command {
	last := &cli.IntFlag{Name: "n", Value: 10, Usage: "how `MANY` of the newest"}
	return viewCommand("blocks", "list the newest blocks", "", 0, []cli.Flag{last}, func(ctx context.Context, c *cli.Context, n *network) (out []local.BlockInfo, err error) {
		if c.Int("n") < 1 {
			return nil, proc.Usage(errors.New("-n must be at least 1"))
		}
		h := n.status.Height
		for b := h; b > 0 && h-b < chain.Block(c.Int("n")); b-- {
			x, err := n.client.Block(ctx, b)
			if errors.Is(err, chain.ErrPruned) {
				break
			}
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		return out, nil
	}, func(n *network, list []local.BlockInfo) error {
		if len(list) == 0 {
			fmt.Println("no block yet")
			return nil
		}
		t := table()
		fmt.Fprintln(t, "block\ttime\ttransactions\trefused\tstate")
		for _, b := range list {
			fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%s\n", b.Block, b.Time.Format(time.RFC3339Nano), len(b.Txs), refused(b), b.AppHash.Short())
		}
		return t.Flush()
	})
}

func refused(b local.BlockInfo) (n int) {
	for _, tx := range b.Txs {
		if tx.Code != local.CodeOK {
			n++
		}
	}
	return n
}

func blockCommand() *cli.Command {
	return viewCommand("block", "show one of the newest blocks and its transactions", "HEIGHT", 1, nil, func(ctx context.Context, c *cli.Context, n *network) (local.BlockInfo, error) {
		h, err := strconv.ParseUint(c.Args().First(), 10, 64)
		if err != nil {
			return local.BlockInfo{}, proc.Usage(fmt.Errorf("height %q: want a number", c.Args().First()))
		}
		return n.client.Block(ctx, chain.Block(h))
	}, func(_ *network, b local.BlockInfo) error {
		fmt.Printf("block %d of %s, state %s\n", b.Block, b.Time.Format(time.RFC3339Nano), b.AppHash)
		for _, tx := range b.Txs {
			what := "done"
			if err := tx.Code.Err(); err != nil {
				what = err.Error()
			}
			fmt.Printf("  %s  %s\n", tx.Hash, what)
		}
		if len(b.Txs) == 0 {
			fmt.Println("  no transactions")
		}
		return nil
	})
}

func paramsCommand() *cli.Command {
	return viewCommand("params", "list the chain's parameters, which the subnet's owner can change", "", 0, nil, func(ctx context.Context, _ *cli.Context, n *network) (map[string]json.RawMessage, error) {
		return n.client.AllParams(ctx)
	}, func(_ *network, p map[string]json.RawMessage) error {
		t := table()
		for _, name := range slices.Sorted(maps.Keys(p)) {
			fmt.Fprintf(t, "%s\t%s\n", name, p[name])
		}
		return t.Flush()
	})
}

// orders are by what a metagraph can be sorted; the largest first.
var orders = map[string]func(a, b chain.Neuron) int{
	"uid":       func(a, b chain.Neuron) int { return cmp.Compare(a.UID, b.UID) },
	"stake":     func(a, b chain.Neuron) int { return cmp.Compare(b.Stake, a.Stake) },
	"incentive": func(a, b chain.Neuron) int { return cmp.Compare(b.Incentive, a.Incentive) },
	"dividends": func(a, b chain.Neuron) int { return cmp.Compare(b.Dividends, a.Dividends) },
	"emission":  func(a, b chain.Neuron) int { return cmp.Compare(b.Emission, a.Emission) },
	"earned":    func(a, b chain.Neuron) int { return cmp.Compare(b.Earned, a.Earned) },
}

func metagraphCommand() *cli.Command {
	flags := []cli.Flag{&cli.Uint64Flag{Name: "at", Usage: "as of block `HEIGHT`, a phase boundary or one of the newest (default: the newest)"},
		&cli.StringFlag{Name: "sort", Value: "uid", Usage: "by `WHAT`: uid, stake, incentive, dividends, emission or earned"}}
	return viewCommand("metagraph", "show every seat: stake, permit, consensus, incentive, dividends, emission", "", 0, flags, func(ctx context.Context, c *cli.Context, n *network) (*chain.Snapshot, error) {
		order := orders[c.String("sort")]
		if order == nil {
			return nil, proc.Usage(fmt.Errorf("--sort %q: want one of %v", c.String("sort"), slices.Sorted(maps.Keys(orders))))
		}
		s, err := n.head(ctx)
		if c.IsSet("at") {
			s, err = n.client.Snapshot(ctx, chain.Block(c.Uint64("at")))
		}
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(s.Neurons, order)
		return s, nil
	}, func(n *network, s *chain.Snapshot) error {
		fmt.Printf("network %s, block %d, %d seats\n\n", n.run.Network, s.Block, len(s.Neurons))
		t := table()
		fmt.Fprintln(t, "uid\thotkey\tcoldkey\tstake\tpermit\tconsensus\tincentive\tdividends\ttrust\temission\tearned\tregistered\tupdated")
		for _, x := range s.Neurons {
			permit := "-"
			if x.Permit {
				permit = "yes"
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", x.UID, n.name(x.Hotkey), chain.Hotkey(x.Coldkey).Short(), x.Stake, permit,
				proportion(x.Consensus), proportion(x.Incentive), proportion(x.Dividends), proportion(x.Trust), x.Emission, x.Earned, x.RegisteredAt, s.Block-min(s.Block, x.LastUpdate))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Println("\nemission: of the last epoch; earned: in this seat; updated: blocks since weights were set or committed")
		return nil
	})
}

// proportion prints a u16 of 65535.
func proportion(x uint16) string { return fmt.Sprintf("%.5f", float64(x)/65535) }

// row is a weight row with the hotkeys behind its uids.
type row struct {
	UID     chain.UID    `json:"uid"`
	Hotkey  chain.Hotkey `json:"hotkey"`
	Weights []target     `json:"weights"`
}

type target struct {
	UID    chain.UID    `json:"uid"`
	Hotkey chain.Hotkey `json:"hotkey"`
	Value  uint16       `json:"value"` // 65535 is the largest of its row
}

func weightsCommand() *cli.Command {
	return viewCommand("weights", "show the weight rows that the next epoch counts", "", 0, nil, func(ctx context.Context, _ *cli.Context, n *network) ([]row, error) {
		s, err := n.head(ctx)
		if err != nil {
			return nil, err
		}
		rows, err := n.client.Weights(ctx)
		if err != nil {
			return nil, err
		}
		out := []row{}
		for uid := range min(len(rows), len(s.Neurons)) {
			if len(rows[uid]) == 0 {
				continue
			}
			r := row{UID: chain.UID(uid), Hotkey: s.Neurons[uid].Hotkey}
			for _, w := range rows[uid] {
				if int(w.UID) < len(s.Neurons) {
					r.Weights = append(r.Weights, target{w.UID, s.Neurons[w.UID].Hotkey, w.Value})
				}
			}
			out = append(out, r)
		}
		return out, nil
	}, func(n *network, rows []row) error {
		for _, r := range rows {
			fmt.Printf("%s (uid %d)\n", n.name(r.Hotkey), r.UID)
			for _, w := range r.Weights {
				fmt.Printf("  %-14s uid %-4d %s\n", n.name(w.Hotkey), w.UID, proportion(w.Value))
			}
		}
		if len(rows) == 0 {
			fmt.Println("no weights yet; committed ones are revealed at the next epoch")
		}
		return nil
	})
}
