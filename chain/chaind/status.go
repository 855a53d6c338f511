package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
)

func statusCommand() *cli.Command {
	return &cli.Command{Name: "status", Usage: "what a running node says: height, peers, validators", Before: given(), Action: showStatus, Flags: []cli.Flag{home(),
		&cli.StringFlag{Name: "rpc", Usage: "API of the node: `HOST:PORT` or https://HOST (default: the one that runs in --home)"},
		&cli.BoolFlag{Name: "json", Usage: "print JSON"}}}
}

// report is what chaind status --json prints.
type report struct {
	Chain local.Status     `json:"chain"`
	Node  local.NodeStatus `json:"node"`

	Validators []local.ValidatorInfo `json:"validators"`
}

// asked asks the node that the flags name.
func asked(c *cli.Context, question func(context.Context, local.Backend) error) error {
	addr, err := running(c)
	if err != nil {
		return err
	}
	from, err := local.Dial(addr)
	if err != nil {
		return proc.Usage(err)
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	ask, done := context.WithTimeout(ctx, askPatience)
	defer done()
	if err = question(ask, from); errors.Is(err, chain.ErrUnavailable) {
		return fmt.Errorf("no node answers at %s: %w; chaind start runs one", addr, err)
	}
	return err
}

func showStatus(c *cli.Context) error {
	var r report
	err := asked(c, func(ctx context.Context, from local.Backend) (err error) {
		client := local.NewClient(from, nil)
		if r.Chain, err = client.Status(ctx); err == nil {
			r.Node, err = client.Node(ctx)
		}
		if err == nil {
			r.Validators, err = client.Validators(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	r.print(time.Now())
	return nil
}

// running is the address of the API: the flag's, or what the node in the folder wrote.
func running(c *cli.Context) (string, error) {
	if rpc := c.String("rpc"); rpc != "" {
		return rpc, nil
	}
	if c.String("home") == "" {
		return "", proc.Usage(errors.New("which node? give --home FOLDER or --rpc HOST:PORT"))
	}
	raw, err := os.ReadFile(filepath.Join(c.String("home"), runningFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", proc.Usage(fmt.Errorf("no node has run in %s; chaind start --home %s runs it", c.String("home"), c.String("home")))
	}
	if err != nil {
		return "", fmt.Errorf("find the running node: %w", err)
	}
	var at struct {
		Addr string `json:"addr"`
	}
	if err := json.Unmarshal(raw, &at); err != nil {
		return "", fmt.Errorf("find the running node: %s: %w; give --rpc HOST:PORT", filepath.Join(c.String("home"), runningFile), err)
	}
	return at.Addr, nil
}

func (r report) print(now time.Time) {
	st, n := r.Chain, r.Node
	fmt.Printf("network     %s, genesis %s\n", st.Network, st.GenesisHash)
	fmt.Printf("height      %d, %s ago, state %s\n", st.Height, now.Sub(st.Time).Round(100*time.Millisecond), st.AppHash.Short())
	rules := fmt.Sprintf("version %d", st.Rules)
	if st.NextRules != 0 {
		rules += fmt.Sprintf("; version %d from block %d on, in %d blocks: ", st.NextRules, st.UpgradeAt, st.UpgradeAt-st.Height)
		if n.KnownRules < st.NextRules {
			rules += "this program does not know it and will stop before that block; install the release that has it"
		} else {
			rules += "this program knows it"
		}
	}
	fmt.Printf("rules       %s\n", rules)
	fmt.Printf("node        %s\n", r.role())
	if n.Listen != "" {
		fmt.Printf("listens     %s@%s\n", n.ID, n.Listen)
	}
	fmt.Print(r.beacon())
	fmt.Printf("peers       %d\n", len(n.Peers))
	for _, p := range n.Peers {
		fmt.Printf("  %s %s %s, at block %d\n", proc.Printable(p.ID), map[bool]string{true: "to  ", false: "from"}[p.Outbound], proc.Printable(p.Addr), p.Height)
	}
	fmt.Printf("validators  %d\n", len(n.Voters))
	for _, v := range n.Voters {
		self := ""
		if v.Key == n.Key {
			self = "  (this node)"
		}
		fmt.Printf("  %s since block %d, %s%s\n", v.Key.Short(), v.Since, signs(v, st.Height), self)
	}
	fmt.Printf("line        %s\n", proc.Printable(n.Line))
}

// beacon says who signs the beacon, and what comes.
func (r report) beacon() string {
	b, out := r.Chain.Beacon, new(strings.Builder)
	fmt.Fprintf(out, "beacon      %s\n", r.signer())
	if b.Next != nil {
		fmt.Fprintf(out, "  next key  %d of %d members, from round %d on; until then those above\n", b.Next.Threshold, b.Next.Members, b.Next.From)
	}
	if m := b.Making; m != nil {
		until := m.DealUntil
		if m.Phase == local.PhaseComplaints {
			until = m.Until
		}
		fmt.Fprintf(out, "  making    a key of %d of %d members from round %d on; %s until block %d; until then those above\n", m.Threshold, len(m.Members), m.From, proc.Printable(m.Phase), until)
		for _, x := range m.Members {
			said := map[bool]string{true: "has dealt", false: "has not dealt"}[x.Dealt]
			if x.Guilty {
				said = "has dealt a bad share and is out"
			}
			fmt.Fprintf(out, "    %s %s\n", x.Key.Short(), said)
		}
	}
	if b.Last != "" {
		fmt.Fprintf(out, "  last      %s\n", proc.Printable(b.Last))
	}
	return out.String()
}

// signer is whose key signs, and what this node has of it.
func (r report) signer() string {
	key, has := r.Chain.Beacon.Signs, r.Node.Beacon
	i := slices.IndexFunc(r.Validators, func(v local.ValidatorInfo) bool { return v.Key == r.Node.Key })
	if key.Members == 1 && key.From == 0 {
		switch {
		case has && i < 0:
			return "this node has the key and is no validator: no rounds are made; add it, or import the state into a new network"
		case has:
			return "this node has the key and makes the rounds"
		default:
			return "made by another node"
		}
	}
	self := "none"
	switch {
	case has && i >= 0:
		self = "one"
	case has:
		self = "one, and no validator: its part reaches nobody"
	case i >= 0 && r.Validators[i].Signs:
		self = "one and has no share: it signs none. Its log says what to do (chaind start)"
	}
	return fmt.Sprintf("%d of %d members sign, since round %d; this node is %s", key.Threshold, key.Members, key.From, self)
}

// role is what the node does.
func (r report) role() string {
	switch {
	case r.Node.Paused:
		return "paused: it answers from its folder"
	case r.Node.CatchingUp:
		return "catching up with blocks that others decided"
	}
	for _, v := range r.Node.Voters {
		if v.Key == r.Node.Key {
			return "validator"
		}
	}
	return "follows the chain; not a validator"
}

// late is how many blocks a validator may not have signed before it is said to be away.
const late = 5

func signs(v local.VoterInfo, height chain.Block) string {
	switch {
	case v.Signed == 0:
		return "not seen to sign since this node started"
	case v.Signed+late < height:
		return fmt.Sprintf("away: signed block %d last", v.Signed)
	}
	return "signs"
}
