package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sn3/chain/local"
)

// upgrade has the owner announce new rules while one node runs a release that does not know them: it stops before they count,
// the others go on by them, and with the new release it does too. A network has one such upgrade.
func upgrade(ctx context.Context, n *network, _ int) error {
	file, err := source(ctx, "sn3/chain/local/state", "owner.go")
	if err != nil {
		return err
	}
	old, err := variant(ctx, n.dir, "old", edit{file, "const NewestRules uint64 = 2\n", "const NewestRules uint64 = 1\n"})
	if err != nil {
		return err
	}
	m := n.any()
	at, err := n.down(ctx, m)
	if err != nil {
		return err
	}
	m.chaind = old
	if err := m.start(ctx); err != nil {
		return err
	}
	if err := n.recovered(ctx, at, m); err != nil {
		return err
	}

	owner, err := n.owner()
	if err != nil {
		return err
	}
	if _, at, err = heights(ctx, n.nodes); err != nil {
		return err
	}
	at += 60
	if _, err := owner.Send(ctx, local.Upgrade{Version: 2, At: at}); err != nil {
		return fmt.Errorf("announce the upgrade: %w", err)
	}
	said, err := n.endsSoon(ctx, m)
	if err != nil {
		n.violated("%s goes on by rules that it does not know: %v", m.name(), err)
		return err
	}
	n.log.Info("ended", "node", m.name(), "said", said)
	if n.words(m, said); !strings.Contains(said, "rules") || !strings.Contains(said, "exit status 3") {
		n.violated("%s does not speak of rules: %q", m.name(), said)
	}
	if err := n.inspect(m); err != nil {
		return err
	}
	if err := n.reach(ctx, at+10, n.without(m)...); err != nil {
		return fmt.Errorf("the others: %w", err)
	}
	m.chaind = n.chaind
	return errors.Join(m.start(ctx), n.recovered(ctx, at, m))
}
