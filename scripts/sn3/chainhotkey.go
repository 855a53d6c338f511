package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
	"sn3/validator/scoring"
)

// life is all there is to know of a hotkey.
type life struct {
	local.HotkeyInfo
	Seat     *chain.Neuron `json:"seat"`     // nil: it has none
	Events   []local.Event `json:"events"`   // the newest first
	From     chain.Block   `json:"from"`     // what was before this block the node never saw
	Received []received    `json:"received"` // weights of others for it, as they are now
	Verdicts []verdict     `json:"verdicts"` // of the newest windows, by the validators' evidence
	Missing  []string      `json:"missing,omitempty"`
}

// received is a validator's weight for a hotkey.
type received struct {
	From  chain.Hotkey `json:"from"`
	Value uint16       `json:"value"` // of the largest in the row, which is 65535
}

// verdict is what a validator published about a hotkey's submission.
type verdict struct {
	Window    chain.Window `json:"window"`
	Validator chain.Hotkey `json:"validator"`
	scoring.Verdict
}

func hotkeyCommand() *cli.Command {
	flags := []cli.Flag{&cli.IntFlag{Name: "events", Value: 40, Usage: "how `MANY` of the newest events (0: all there are)"},
		&cli.IntFlag{Name: "windows", Value: 3, Usage: "evidence of so `MANY` of the newest windows"}}
	return viewCommand("hotkey", "show the whole history of a hotkey: registrations, scores, weights received, emission, penalties", "HOTKEY", 1, flags, readLife, printLife)
}

func readLife(ctx context.Context, c *cli.Context, n *network) (*life, error) {
	if c.Int("events") < 0 || c.Int("windows") < 0 {
		return nil, proc.Usage(errors.New("--events and --windows must not be negative"))
	}
	s, err := n.head(ctx)
	if err != nil {
		return nil, err
	}
	who, err := n.anyHotkey(s, c.Args().First())
	if err != nil {
		return nil, err
	}
	x := &life{Received: []received{}, Verdicts: []verdict{}}
	if x.HotkeyInfo, err = n.client.Hotkey(ctx, who); errors.Is(err, chain.ErrNotFound) {
		return nil, proc.Usage(fmt.Errorf("hotkey %s never registered on this network", who.Short()))
	} else if err != nil {
		return nil, err
	}
	if x.Events, x.From, err = happened(ctx, n, who, c.Int("events")); err != nil {
		return nil, err
	}
	seat, seated := s.ByHotkey(who)
	if !seated {
		return x, nil
	}
	x.Seat = &seat
	rows, err := n.client.Weights(ctx)
	if err != nil {
		return nil, err
	}
	for uid, row := range rows {
		for _, w := range row {
			if w.UID == seat.UID && uid < len(s.Neurons) {
				x.Received = append(x.Received, received{s.Neurons[uid].Hotkey, w.Value})
			}
		}
	}
	return x, x.judge(ctx, n, s, c.Int("windows"))
}

// anyHotkey also takes a hotkey in hex that has no seat.
func (n *network) anyHotkey(s *chain.Snapshot, arg string) (chain.Hotkey, error) {
	var h chain.Hotkey
	if len(arg) == 64 && h.UnmarshalText([]byte(arg)) == nil {
		return h, nil
	}
	x, err := n.hotkey(s, arg)
	return x.Hotkey, err
}

// happened reads a history back to its beginning, or so many of its events.
func happened(ctx context.Context, n *network, h chain.Hotkey, most int) (all []local.Event, from chain.Block, err error) {
	all = []local.Event{}
	for before := chain.Block(0); ; {
		p, err := n.client.History(ctx, h, before)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, p.Events...)
		if most > 0 && len(all) >= most {
			return all[:most], p.From, nil
		}
		if len(p.Events) == 0 {
			return all, p.From, nil
		}
		before = all[len(all)-1].Block
	}
}

// judge adds what validators published about the newest windows.
func (x *life) judge(ctx context.Context, n *network, now *chain.Snapshot, windows int) error {
	sched, err := chain.NewSchedule(n.run.Schedule)
	if err != nil {
		return err
	}
	newest, any := sched.Selected(now.Block)
	for i := chain.Window(0); any && i < chain.Window(windows) && i <= newest; i++ {
		w := newest - i
		s, err := n.client.Snapshot(ctx, sched.At(w, chain.PhaseScoreBy))
		if errors.Is(err, chain.ErrPruned) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, v := range s.Neurons {
			if v.Permit {
				x.verdictOf(ctx, n, s, v, w)
			}
		}
	}
	return nil
}

// verdictOf adds one validator's; what cannot be read is noted.
func (x *life) verdictOf(ctx context.Context, n *network, s *chain.Snapshot, v chain.Neuron, w chain.Window) {
	p, ok := s.Record(v.Hotkey)
	if vote, err := chain.ParseVote(p.Record.Body); !ok || err != nil || vote.Window != w {
		x.Missing = append(x.Missing, fmt.Sprintf("window %d: %s did not vote", w, n.name(v.Hotkey)))
		return
	}
	ev, err := evidence(ctx, n, s, v)
	if err != nil {
		x.Missing = append(x.Missing, fmt.Sprintf("window %d: %s: %v", w, n.name(v.Hotkey), err))
		return
	}
	for _, d := range ev.Verdicts {
		if d.Hotkey == x.Hotkey {
			x.Verdicts = append(x.Verdicts, verdict{w, v.Hotkey, d})
		}
	}
}

func printLife(n *network, x *life) error {
	fmt.Printf("hotkey   %s", x.Hotkey)
	if name := n.name(x.Hotkey); name != x.Hotkey.Short() {
		fmt.Printf("  (%s)", name)
	}
	owner := x.Owner.String()
	if chain.Hotkey(x.Owner) == x.Hotkey {
		owner = "itself"
	}
	fmt.Printf("\nowner    %s\nseen     first registered %s, %s, earned %s in all\n", owner, when(x.First), many(x.Times, "registration"), x.Earned)
	if x.Seat == nil {
		fmt.Println("seat     none now")
	} else {
		permit := "no permit"
		if x.Seat.Permit {
			permit = "permit to set weights"
		}
		fmt.Printf("seat     uid %d, taken %s, %s\nepoch    %s\n", x.Seat.UID, when(x.Seat.RegisteredAt), permit,
			shares(x.Seat.Emission, x.Seat.Incentive, x.Seat.Dividends, x.Seat.Consensus)+", trust "+ratio(x.Seat.Trust))
	}
	fmt.Printf("stake    %s", x.Stake)
	if x.Stake > 0 {
		fmt.Printf(", of whose dividends the owner takes %s first", share.says(fmt.Sprint(x.Take), 0))
	}
	fmt.Println()
	for _, k := range x.Stakers {
		fmt.Printf("         %s by %s\n", k.Amount, k.Coldkey)
	}
	if x.MoreStakers > 0 {
		fmt.Printf("         and by %d more\n", x.MoreStakers)
	}
	for _, c := range x.Commitments {
		fmt.Printf("sealed   a weight row of block %d, opens with the beacon of block %d\n", c.At, c.Round)
	}
	for _, r := range x.Received {
		fmt.Printf("weight   %s from %s\n", ratio(r.Value), n.name(r.From))
	}
	x.printVerdicts(n)
	fmt.Printf("\nevents, the newest first")
	if x.From > 1 {
		fmt.Printf(" (this node knows them since block %d)", x.From)
	}
	fmt.Println()
	g := grid{right: "r"}
	for _, e := range x.Events {
		g.add(e.Block, e.Kind, n.told(e))
	}
	if len(x.Events) == 0 {
		g.add("none")
	}
	return g.print(os.Stdout)
}

// when is a block; seats of the genesis have block 0.
func when(b chain.Block) string {
	if b == 0 {
		return "at genesis"
	}
	return fmt.Sprintf("in block %d", b)
}

func (x *life) printVerdicts(n *network) {
	for _, v := range x.Verdicts {
		fmt.Printf("judged   window %d by %s: %s", v.Window, n.name(v.Validator), v.Status)
		if v.Reason != "" {
			fmt.Printf(" (%s)", v.Reason)
		}
		fmt.Printf(", score %d, rating %.3f\n", v.Score, v.Rating)
	}
	for _, m := range x.Missing {
		fmt.Printf("unknown  %s\n", m)
	}
}

// shares are what an epoch gave, without what is nothing.
func shares(emission chain.Amount, incentive, dividends, consensus uint16) string {
	text := fmt.Sprintf("emission %s", emission)
	for _, x := range []struct {
		name  string
		value uint16
	}{{"incentive", incentive}, {"dividends", dividends}, {"consensus", consensus}} {
		if x.value > 0 {
			text += fmt.Sprintf(", %s %s", x.name, ratio(x.value))
		}
	}
	return text
}

// told is an event in words.
func (n *network) told(e local.Event) string {
	switch e.Kind {
	case local.EventRegistered:
		return fmt.Sprintf("uid %d, %s burned, owner %s", e.UID, e.Amount, chain.Hotkey(e.Coldkey).Short())
	case local.EventReplaced:
		return fmt.Sprintf("lost uid %d to %s", e.UID, n.name(e.Other))
	case local.EventStaked:
		return fmt.Sprintf("%s by %s", e.Amount, chain.Hotkey(e.Coldkey).Short())
	case local.EventUnstaked:
		return fmt.Sprintf("%s by %s, paid out at block %d", e.Amount, chain.Hotkey(e.Coldkey).Short(), e.At)
	case local.EventWeights:
		return "a row of its weights was set, or opened"
	case local.EventCommitted:
		return fmt.Sprintf("a row of its weights, opens with the beacon of block %d", e.At)
	case local.EventDropped:
		return fmt.Sprintf("the row committed in block %d: %s", e.At, e.Reason)
	case local.EventEpoch:
		return shares(e.Amount, e.Incentive, e.Dividends, e.Consensus)
	case local.EventScored:
		return fmt.Sprintf("window %d: score %d, %s", e.Window, e.Score, e.Reason)
	case local.EventParam:
		return fmt.Sprintf("%s is %s", e.Reason, paramWords[e.Reason].unit.both(fmt.Sprint(uint64(e.Amount)), n.status.BlockTimeMS))
	case local.EventRules:
		return fmt.Sprintf("version %d", uint64(e.Amount))
	case local.EventValidator:
		return fmt.Sprintf("%s %s", e.Other, e.Reason)
	case local.EventBeacon:
		return fmt.Sprintf("for round %d on, %s: %s", e.At, many(uint64(e.Amount), "member"), e.Reason)
	}
	return e.Reason
}

func logCommand() *cli.Command {
	most := &cli.IntFlag{Name: "n", Value: 40, Usage: "how `MANY` of the newest (0: all there are)"}
	type page struct {
		Events []local.Event `json:"events"`
		From   chain.Block   `json:"from"`
	}
	return viewCommand("log", "show what changed for the whole network: parameters, block makers, rules", "", 0, []cli.Flag{most}, func(ctx context.Context, c *cli.Context, n *network) (p page, err error) {
		if c.Int("n") < 0 {
			return p, proc.Usage(errors.New("-n must not be negative"))
		}
		p.Events, p.From, err = happened(ctx, n, chain.Hotkey{}, c.Int("n"))
		return p, err
	}, func(n *network, p page) error {
		if len(p.Events) == 0 {
			fmt.Printf("nothing has been changed by the subnet's owner since block %d\n", p.From)
		}
		g := grid{right: "r"}
		for _, e := range p.Events {
			g.add(e.Block, e.Kind, n.told(e))
		}
		return g.print(os.Stdout)
	})
}
