package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/storage"
	"sn3/validator/scoring"
)

func statusCommand() *cli.Command {
	asJSON := &cli.BoolFlag{Name: "json", Usage: "print the metagraph as JSON"}
	return command("status", "show the chain, the current window and the metagraph", "", 0, []cli.Flag{asJSON}, func(c *cli.Context) error {
		return with(c, nil, func(ctx context.Context, n *network) error {
			s, err := n.head(ctx)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			return printStatus(n, s)
		})
	})
}

func printStatus(n *network, s *chain.Snapshot) error {
	sched, err := chain.NewSchedule(n.run.Schedule)
	if err != nil {
		return err
	}
	w, ph := sched.Locate(s.Block)
	fmt.Printf("network %s, block %d, window %d (%s), run %s\n\n", n.run.Network, s.Block, w, ph, n.run.Hash().Short())
	g := grid{right: "r  rrrrrrr"}
	g.add("uid", "name", "role", "stake", "incentive", "dividends", "emission", "earned", "balance", "record")
	for _, x := range s.Neurons {
		role := "miner"
		if x.Permit {
			role = "validator"
		}
		record := "-"
		if p, ok := s.Record(x.Hotkey); ok {
			record = fmt.Sprint(p.At)
		}
		g.add(x.UID, n.name(x.Hotkey), role, short(x.Stake), ratio(x.Incentive), ratio(x.Dividends), short(x.Emission), short(x.Earned), short(x.Balance), record)
	}
	if err := g.print(os.Stdout); err != nil {
		return err
	}
	fmt.Println("\nemission: coins of the last epoch; balance: of its coldkey; record: block of its newest")
	return nil
}

func whyCommand() *cli.Command {
	return command("why", "show what validators found about a miner in the newest judged window, and why", "MINER", 1, nil, func(c *cli.Context) error {
		return with(c, nil, func(ctx context.Context, n *network) error {
			s, err := n.head(ctx)
			if err != nil {
				return err
			}
			who, err := n.hotkey(s, c.Args().First())
			if err != nil {
				return err
			}
			fmt.Printf("%s (uid %d, hotkey %s): earned %s\n", n.name(who.Hotkey), who.UID, who.Hotkey.Short(), who.Earned)
			found := 0
			for _, v := range s.Neurons {
				if !v.Permit {
					continue
				}
				ev, err := evidence(ctx, n, s, v)
				if err != nil {
					fmt.Printf("\n%s: %v\n", n.name(v.Hotkey), err)
					continue
				}
				found++
				printVerdict(n, v, ev, who)
			}
			if found == 0 {
				return errors.New("no validator's evidence could be read; is the network older than one window?")
			}
			return nil
		})
	})
}

// maxEvidence bounds what is read of a validator's evidence.
const maxEvidence = 4 << 20

// evidence fetches and checks what a validator's record points to.
func evidence(ctx context.Context, n *network, s *chain.Snapshot, v chain.Neuron) (ev scoring.Evidence, err error) {
	p, ok := s.Record(v.Hotkey)
	if !ok {
		return ev, errors.New("has not voted yet")
	}
	b, err := n.bucket(p.Record.Locator)
	if err != nil {
		return ev, err
	}
	raw, err := b.Get(ctx, "evidence/"+p.Record.Digest.String(), maxEvidence)
	if err != nil {
		return ev, fmt.Errorf("fetch evidence: %w", err)
	}
	if sum(raw) != p.Record.Digest {
		return ev, fmt.Errorf("evidence: %w", storage.ErrMismatch)
	}
	if err := json.Unmarshal(raw, &ev); err != nil {
		return ev, fmt.Errorf("read evidence: %w", err)
	}
	return ev, nil
}

func printVerdict(n *network, v chain.Neuron, ev scoring.Evidence, who chain.Neuron) {
	fmt.Printf("\n%s, window %d, held-out loss %.4f nats per token:\n", n.name(v.Hotkey), ev.Window, ev.HeldOut)
	for _, d := range ev.Verdicts {
		if d.Hotkey != who.Hotkey {
			continue
		}
		fmt.Printf("  %s", d.Status)
		if d.Reason != "" {
			fmt.Printf(": %s", d.Reason)
		}
		if d.Status != "scored" && d.GainErr == 0 { // nothing was measured
			fmt.Printf("\n  %d inner steps, %d bytes; rating %.3f\n", d.Steps, d.Bytes, d.Rating)
			return
		}
		fmt.Printf("\n  score %d: held-out gain %.5f ± %.5f nats per token (trial step %.3f)\n", d.Score, d.Gain, d.GainErr, ev.Trial)
		fmt.Printf("  own data %.4f against unseen %.4f: z %.1f, accumulated %.1f\n", d.Own, d.Unseen, d.Z, d.Proof)
		fmt.Printf("  %d inner steps, %d bytes, norm %.3g (clip %.2f); rating %.3f\n", d.Steps, d.Bytes, d.Norm, d.Clip, d.Rating)
		return
	}
	fmt.Println("  no submission of this miner was on chain at the deadline")
}
