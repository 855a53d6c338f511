package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
)

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

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

// milliseconds is how blocks' times are printed; --json has all digits.
const milliseconds = "2006-01-02T15:04:05.000Z07:00"

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
		g := grid{right: "r rr "}
		g.add("block", "time", "transactions", "refused", "state")
		for _, b := range list {
			g.add(b.Block, b.Time.Format(milliseconds), len(b.Txs), refused(b), b.AppHash.Short())
		}
		return g.print(os.Stdout)
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
		fmt.Printf("block %d of %s, state %s\n", b.Block, b.Time.Format(milliseconds), b.AppHash)
		for _, tx := range b.Txs {
			fmt.Printf("  %s  %s\n", tx.Hash, done(tx.Code))
		}
		if len(b.Txs) == 0 {
			fmt.Println("  no transactions")
		}
		return nil
	})
}

// done is what came of a transaction, in words.
func done(code local.Code) string {
	if err := code.Err(); err != nil {
		return err.Error()
	}
	return "done"
}

func txCommand() *cli.Command {
	return viewCommand("tx", "show what became of a transaction", "HASH", 1, nil, func(ctx context.Context, c *cli.Context, n *network) (local.TxInfo, error) {
		var h chain.Hash
		if err := h.UnmarshalText([]byte(c.Args().First())); err != nil {
			return local.TxInfo{}, proc.Usage(fmt.Errorf("transaction %q: %w", c.Args().First(), err))
		}
		info, err := n.client.Outcome(ctx, h)
		if errors.Is(err, chain.ErrNotFound) {
			err = fmt.Errorf("no block has it yet, of those that this node remembers (20 minutes at 4 blocks a second): it may still get into one for as long as its account sends no other: %w", err)
		}
		return info, err
	}, func(_ *network, info local.TxInfo) error {
		fmt.Printf("block %d: %s\n", info.Block, done(info.Code))
		return nil
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
			if s, err = n.client.Snapshot(ctx, chain.Block(c.Uint64("at"))); errors.Is(err, chain.ErrPruned) {
				err = fmt.Errorf("%w\n%s", err, n.nearest(chain.Block(c.Uint64("at"))))
			}
		}
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(s.Neurons, order)
		return s, nil
	}, func(n *network, s *chain.Snapshot) error {
		fmt.Printf("network %s, block %d, %d seats\n\n", n.run.Network, s.Block, len(s.Neurons))
		g := grid{right: "r  r rrrrrrrr"}
		g.add("uid", "hotkey", "coldkey", "stake", "permit", "consensus", "incentive", "dividends", "trust", "emission", "earned", "since", "updated")
		for _, x := range s.Neurons {
			g.add(x.UID, n.name(x.Hotkey), chain.Hotkey(x.Coldkey).Short(), short(x.Stake), yesNo(x.Permit), ratio(x.Consensus), ratio(x.Incentive), ratio(x.Dividends), ratio(x.Trust),
				short(x.Emission), short(x.Earned), x.RegisteredAt, updated(s.Block, x))
		}
		if err := g.print(os.Stdout); err != nil {
			return err
		}
		fmt.Println("\nemission: coins of the last epoch; earned: in this seat; since: block of its registration; updated: blocks since it set or committed weights")
		return nil
	})
}

// nearest says as of which blocks a metagraph can be had instead.
func (n *network) nearest(at chain.Block) string {
	sched, err := chain.NewSchedule(n.run.Schedule)
	if err != nil {
		return err.Error()
	}
	w, ph := sched.Locate(at)
	which := "The boundary before this block is"
	if sched.At(w, ph) > at {
		which = "The first boundary is"
	}
	return fmt.Sprintf("Metagraphs are kept as of the boundaries of the newest windows, and of the newest blocks. %s --at %d (%s of window %d), which may be too old, too.", which, sched.At(w, ph), ph, w)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "-"
}

// updated is how many blocks ago a hotkey set or committed weights.
func updated(now chain.Block, x chain.Neuron) string {
	if x.LastUpdate <= x.RegisteredAt {
		return "never"
	}
	return fmt.Sprint(now - min(now, x.LastUpdate))
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
