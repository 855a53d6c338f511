package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/proc"
)

func validatorsCommand() *cli.Command {
	return viewCommand("validators", "list the nodes that make blocks, whether they do, and who signs the beacon", "", 0, nil, func(ctx context.Context, _ *cli.Context, n *network) (v voters, err error) {
		if v.NodeStatus, err = n.client.Node(ctx); err == nil {
			v.Validators, err = n.client.Validators(ctx)
		}
		return v, err
	}, printVoters)
}

// voters are the validators as a node sees them, and as the chain has them.
type voters struct {
	local.NodeStatus
	Validators []local.ValidatorInfo `json:"validators"`
}

// part is what a validator has to do with the beacon.
func part(v local.ValidatorInfo, b local.BeaconStatus) string {
	var out []string
	if v.Signs {
		out = append(out, "signs")
	}
	if v.Next && b.Next != nil {
		out = append(out, fmt.Sprintf("from %d on", b.Next.From))
	}
	switch {
	case out != nil:
		return strings.Join(out, ", ")
	case len(v.Beacon) == 0:
		return "no card"
	}
	return "no share"
}

func printVoters(n *network, s voters) error {
	height, parts := n.status.Height, map[chain.Hash]string{}
	for _, v := range s.Validators {
		parts[v.Key] = part(v, n.status.Beacon)
	}
	g := grid{right: " rr"}
	g.add("key", "since", "signed last", "beacon")
	alive := 0
	for _, v := range s.Voters {
		signed := "not seen by this node"
		switch {
		case votes(v, height):
			alive++
			signed = fmt.Sprint(v.Signed)
		case s.Paused:
			signed = "-"
		case v.Signed > 0:
			signed = fmt.Sprintf("%d, away", v.Signed)
		}
		g.add(v.Key, v.Since, signed, parts[v.Key])
	}
	if err := g.print(os.Stdout); err != nil {
		return err
	}
	total := len(s.Voters)
	if s.Paused {
		fmt.Printf("\nheight %d: this node is paused and sees nobody sign; blocks need %d of %d\n", height, quota(total), total)
		return nil
	}
	fmt.Printf("\nheight %d: %d of %d sign; blocks need %d\n", height, alive, total, quota(total))
	return nil
}

// away is how many blocks a validator may miss before it is taken for one that is away.
const away = 10

func votes(v local.VoterInfo, height chain.Block) bool {
	return v.Signed > 0 && v.Signed+away >= height
}

// quota is how many of n validators decide a block: more than two thirds.
func quota(n int) int { return 2*n/3 + 1 }

func validatorCommand() *cli.Command {
	force := &cli.BoolFlag{Name: "force", Usage: "do it although the chain may stop"}
	return &cli.Command{Name: "validator", Usage: "change the nodes that make blocks, as the subnet's owner", Subcommands: []*cli.Command{
		command("add", "add the node that printed LINE (chaind status, chaind join)", "LINE", 1, append(keyFlags(), force,
			&cli.StringFlag{Name: "node", Usage: "API of that node as `HOST:PORT`, to ask whether it follows (default: what the network's node sees of it)"}), validatorAdd),
		command("remove", "remove a node; it may go on to follow the chain", "KEY", 1, append(keyFlags(), force), validatorRemove),
		command("beacon", "have the validators make a beacon key that signs from ROUND on (default: as soon as one can)", "[ROUND]", -1, keyFlags(), validatorBeacon),
	}}
}

func validatorAdd(c *cli.Context) error {
	return with(c, keyFrom(c), func(ctx context.Context, n *network) error {
		line, err := local.ParseCandidate(c.Args().First(), n.status.Network)
		if err != nil {
			return proc.Usage(err)
		}
		s, err := n.client.Node(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(follows(ctx, n, s, line, c.String("node")), enough(s, n.status.Height, chain.Hash(line.Key), true)); err != nil && !c.Bool("force") {
			return proc.Refused(fmt.Errorf("%w\nNothing was changed; --force adds it all the same", err))
		}
		r, err := n.client.Send(ctx, line.Op())
		if err != nil {
			return err
		}
		fmt.Printf("added %s in block %d; it votes from block %d on\n", chain.Hash(line.Key), r.Block, r.Block+2)
		return nil
	})
}

// margin is how many blocks later than possible a key signs whose round nobody named: the announcement is on its way for some.
const margin = 20

// validatorBeacon announces a beacon key.
func validatorBeacon(c *cli.Context) error {
	if c.NArg() > 1 {
		return proc.Usage(fmt.Errorf("beacon takes one ROUND at most, got %d arguments", c.NArg()))
	}
	return with(c, keyFrom(c), func(ctx context.Context, n *network) error {
		at := uint64(n.status.Beacon.Earliest) + margin
		if arg := c.Args().First(); arg != "" {
			var err error
			if at, err = strconv.ParseUint(arg, 10, 64); err != nil {
				return proc.Usage(fmt.Errorf("ROUND %q: want the height from which on the key is to sign", arg))
			}
		}
		r, err := n.client.Send(ctx, local.MakeBeacon{At: chain.Round(at)})
		var refused *local.TxError
		if errors.As(err, &refused) && refused.Code == local.CodeBeacon {
			return proc.Refused(fmt.Errorf("%w\n%s", err, whyNoBeacon(n.status.Beacon)))
		}
		if err != nil {
			return err
		}
		fmt.Printf("announced in block %d: a key that signs from round %d on; chaind status shows how it goes\n", r.Block, at)
		return nil
	})
}

// whyNoBeacon is what keeps a key from being announced, as far as the status shows it.
func whyNoBeacon(b local.BeaconStatus) string {
	if m := b.Making; m != nil {
		return fmt.Sprintf("A key that signs from round %d on is being made, until block %d: wait for it.", m.From, m.Until)
	}
	return fmt.Sprintf("ROUND must be at least %d now, better some blocks more, and no more than a million ahead; at least one validator must have a member card (sn3 chain validators).", b.Earliest)
}

func validatorRemove(c *cli.Context) error {
	return with(c, keyFrom(c), func(ctx context.Context, n *network) error {
		var key chain.Hash
		if err := key.UnmarshalText([]byte(c.Args().First())); err != nil {
			return proc.Usage(fmt.Errorf("KEY %q: want the 64 hex digits that sn3 chain validators prints", c.Args().First()))
		}
		s, err := n.client.Node(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(enough(s, n.status.Height, key, false), makesBeacon(ctx, n, s, key)); err != nil && !c.Bool("force") {
			return proc.Refused(fmt.Errorf("%w\nNothing was changed; --force removes it all the same", err))
		}
		r, err := n.client.Send(ctx, local.SetValidator{Key: key})
		if err != nil {
			return err
		}
		fmt.Printf("removed %s in block %d; its votes no longer count from block %d on\n", key, r.Block, r.Block+2)
		return nil
	})
}

// makesBeacon refuses to remove a node without which no rounds would be signed, now or with the key that comes: only a validator's
// part of a round reaches the others.
func makesBeacon(ctx context.Context, n *network, s local.NodeStatus, key chain.Hash) error {
	b := n.status.Beacon
	list, err := n.client.Validators(ctx)
	if err != nil {
		return err
	}
	now, next, making := map[chain.Hash]bool{}, map[chain.Hash]bool{}, map[chain.Hash]bool{}
	for _, v := range list {
		now[v.Key], next[v.Key] = v.Signs, v.Next
	}
	switch {
	case b.Signs.From == 0 && b.Signs.Members == 1 && now[key]:
		err = errors.New("this validator has the beacon's key: without it in the set no round is made any more, and training waits for rounds; have the validators make a key first (sn3 chain validator beacon)")
	case b.Signs.From > 0 || b.Signs.Members > 1:
		err = signers(s, n.status.Height, key, now, b.Signs.Threshold, "of the beacon's key", larger)
	}
	if b.Next != nil {
		err = errors.Join(err, signers(s, n.status.Height, key, next, b.Next.Threshold, fmt.Sprintf("of the key that signs from round %d on", b.Next.From), larger))
	}
	if m := b.Making; m != nil {
		for _, x := range m.Members {
			making[x.Key] = true
		}
		err = errors.Join(err, signers(s, n.status.Height, key, making, m.Threshold, "of the key that is being made", fmt.Sprintf("wait until block %d and look again", m.Until)))
	}
	return err
}

// larger is what to do instead: the key of more members has a member to spare.
const larger = "start those that are away; else add another validator first, have a key made with it (sn3 chain validator beacon), and remove this one when that signs"

// signers refuses to remove a member of a key if fewer than its threshold of the others sign.
func signers(s local.NodeStatus, height chain.Block, key chain.Hash, members map[chain.Hash]bool, threshold int, which, instead string) error {
	alive := 0
	for _, v := range s.Voters {
		if v.Key != key && members[v.Key] && votes(v, height) {
			alive++
		}
	}
	if !members[key] || alive >= threshold {
		return nil
	}
	return fmt.Errorf("this validator is a member %s, whose rounds need %d members, and only %d of the others are validators that sign now: there would be no rounds, and training waits for them; %s", which, threshold, alive, instead)
}

// behind is how many blocks a candidate may be away from the others.
const behind = 5

// follows refuses a candidate that is not in sync: the chain would wait for its votes until it is.
func follows(ctx context.Context, n *network, s local.NodeStatus, line local.Candidate, addr string) error {
	if addr != "" {
		return asked(ctx, n, line, addr)
	}
	why := fmt.Sprintf("with it %d of %d validators must sign every block", quota(len(s.Voters)+1), len(s.Voters)+1)
	if s.ID == line.Node {
		if s.CatchingUp {
			return fmt.Errorf("the node is still catching up; %s: wait until chaind status says that it follows", why)
		}
		return nil
	}
	for _, p := range s.Peers {
		switch {
		case p.ID != line.Node:
		case p.Height == 0:
			return fmt.Errorf("the node is still catching up; %s: wait until chaind status there says that it follows", why)
		case p.Height+behind < n.status.Height:
			return fmt.Errorf("the node is at block %d, the chain at %d; %s: wait until it has caught up", p.Height, n.status.Height, why)
		default:
			return nil
		}
	}
	return fmt.Errorf("the network's node has no connection with that node, so nobody knows whether it follows; %s: start it, or name its API with --node HOST:PORT", why)
}

// asked asks the candidate itself.
func asked(ctx context.Context, n *network, line local.Candidate, addr string) error {
	b, err := local.Dial(addr)
	if err != nil {
		return err
	}
	c := local.NewClient(b, nil)
	st, err := c.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask the node at %s: %w", addr, err)
	}
	s, err := c.Node(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("ask the node at %s: %w", addr, err)
	case st.GenesisHash != n.status.GenesisHash:
		return fmt.Errorf("the node at %s is of another network: genesis %s, this one's is %s", addr, st.GenesisHash, n.status.GenesisHash)
	case s.Key != chain.Hash(line.Key):
		return fmt.Errorf("the node at %s has the key %s, the line is of %x", addr, s.Key, line.Key)
	case s.Paused || s.CatchingUp || st.Height+behind < n.status.Height:
		return fmt.Errorf("the node at %s is at block %d, the chain at %d: wait until it has caught up", addr, st.Height, n.status.Height)
	}
	return nil
}

// enough refuses a change after which fewer validators sign than blocks need.
func enough(s local.NodeStatus, height chain.Block, key chain.Hash, add bool) error {
	alive, total := 0, 0
	for _, v := range s.Voters {
		if v.Key != key {
			total++
			if votes(v, height) {
				alive++
			}
		}
	}
	if add {
		alive, total = alive+1, total+1
	}
	if need := quota(total); alive < need && total > 0 {
		return fmt.Errorf("blocks would need %d of %d validators, and only %d of them sign now: the chain would stop; start those that are away, or remove them first", need, total, alive)
	}
	return nil
}
