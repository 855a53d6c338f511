package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"sn3/chain"
)

// unit is what a parameter's number counts.
type unit uint8

const (
	plain   unit = iota
	rao          // of an amount
	blocks       // of time
	share        // of 65535
	million      // of a million
)

// paramWords says of each parameter what it counts, and what it is about.
var paramWords = map[string]struct {
	unit unit
	what string
}{
	"max_seats":                     {plain, "seats at most"},
	"burn":                          {rao, "cost of the first registration; later ones: sn3 register --limit"},
	"min_burn":                      {rao, "least cost of a registration"},
	"max_burn":                      {rao, "highest cost of a registration"},
	"burn_half_life":                {blocks, "after which a registration costs half"},
	"immunity_period":               {blocks, "for which a new seat is spared"},
	"min_non_immune_uids":           {plain, "seats that are never spared"},
	"block_emission":                {rao, "new coins a block, until the first halving"},
	"subnet_owner_cut":              {share, "of emission, for the subnet's owner"},
	"fee":                           {rao, "of a transaction, burned"},
	"account_cost":                  {rao, "burned by who sends to a new account first"},
	"min_stake":                     {rao, "least stake of an account on a hotkey"},
	"unstake_delay":                 {blocks, "until unstaked coins are paid out"},
	"kappa":                         {share, "of stake that has to agree on a weight"},
	"max_validators":                {plain, "permits, for the largest stakes"},
	"stake_threshold":               {rao, "stake below which a hotkey's weights do not count"},
	"bonds_moving_avg":              {million, "weight of the bonds that were"},
	"bonds_penalty":                 {share, "of a weight above consensus that bonds lose"},
	"yuma3":                         {plain, "bonds of each validator and miner by themselves"},
	"liquid_alpha_enabled":          {plain, "bonds follow agreement"},
	"alpha_low":                     {share, "slowest that bonds follow"},
	"alpha_high":                    {share, "quickest that bonds follow"},
	"alpha_sigmoid_steepness":       {plain, "hundredths, of the step between the two"},
	"activity_cutoff":               {blocks, "after which old weights do not count"},
	"weights_rate_limit":            {blocks, "between two weight rows of a hotkey"},
	"weights_version":               {plain, "least version of a weight row's program; 0: any"},
	"min_allowed_weights":           {plain, "entries of a weight row at least"},
	"max_weight_limit":              {share, "of its row that one weight has at most"},
	"commit_reveal_weights_enabled": {plain, "weights are sealed when they are set"},
	"commit_reveal_period":          {plain, "epochs for which they are"},
	"keep_windows":                  {plain, "windows whose history is kept"},
	"max_supply":                    {rao, "issued at most"},
	"default_take":                  {share, "of dividends, for a hotkey's owner at first"},
	"max_take":                      {share, "of dividends, for a hotkey's owner at most"},
	"take_rate_limit":               {blocks, "between two rises of a take"},
}

// says is a parameter's value in its unit.
func (u unit) says(raw string, blockTimeMS int64) string {
	v, err := strconv.ParseUint(raw, 10, 64)
	if err != nil {
		return ""
	}
	switch u {
	case rao:
		return chain.Amount(v).String() + " coins"
	case blocks:
		return many(v, "block") + ", " + lasts(v, blockTimeMS)
	case share:
		return fmt.Sprintf("%.2f %%", float64(v)/65535*100)
	case million:
		return fmt.Sprintf("%.2f %%", float64(v)/10_000)
	}
	return ""
}

func paramsCommand() *cli.Command {
	return viewCommand("params", "list the chain's parameters, which the subnet's owner can change", "", 0, nil, func(ctx context.Context, _ *cli.Context, n *network) (map[string]json.RawMessage, error) {
		return n.client.AllParams(ctx)
	}, func(n *network, p map[string]json.RawMessage) error {
		g := grid{right: " r"}
		for _, name := range slices.Sorted(maps.Keys(p)) {
			w := paramWords[name]
			says := w.unit.says(string(p[name]), n.status.BlockTimeMS)
			if says != "" && w.what != "" {
				says += ": "
			}
			g.add(name, string(p[name]), says+w.what)
		}
		return g.print(os.Stdout)
	})
}
