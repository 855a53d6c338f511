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

type paramWord struct {
	unit  unit
	what  string
	fixed bool // only genesis sets it
}

// paramWords says of each parameter what it counts, and what it is about.
var paramWords = map[string]paramWord{
	"max_seats":                     {unit: plain, what: "seats at most"},
	"burn":                          {unit: rao, what: "cost of the first registration", fixed: true},
	"min_burn":                      {unit: rao, what: "least cost of a registration"},
	"max_burn":                      {unit: rao, what: "highest cost of a registration"},
	"burn_half_life":                {unit: blocks, what: "after which a registration costs half"},
	"immunity_period":               {unit: blocks, what: "for which a new seat is spared"},
	"min_non_immune_uids":           {unit: plain, what: "seats that are never spared"},
	"block_emission":                {unit: rao, what: "new coins a block, until the first halving"},
	"subnet_owner_cut":              {unit: share, what: "of emission, for the subnet's owner"},
	"fee":                           {unit: rao, what: "of a transaction, burned"},
	"account_cost":                  {unit: rao, what: "burned by who sends to a new account first"},
	"min_stake":                     {unit: rao, what: "least stake of an account on a hotkey"},
	"unstake_delay":                 {unit: blocks, what: "until unstaked coins are paid out"},
	"kappa":                         {unit: share, what: "of stake that has to agree on a weight"},
	"max_validators":                {unit: plain, what: "permits, for the largest stakes"},
	"stake_threshold":               {unit: rao, what: "stake below which a hotkey's weights do not count"},
	"bonds_moving_avg":              {unit: million, what: "weight of the bonds that were"},
	"bonds_penalty":                 {unit: share, what: "of a weight above consensus that bonds lose"},
	"yuma3":                         {unit: plain, what: "bonds of each validator and miner by themselves"},
	"liquid_alpha_enabled":          {unit: plain, what: "bonds follow agreement"},
	"alpha_low":                     {unit: share, what: "slowest that bonds follow"},
	"alpha_high":                    {unit: share, what: "quickest that bonds follow"},
	"alpha_sigmoid_steepness":       {unit: plain, what: "hundredths, of the step between the two"},
	"activity_cutoff":               {unit: blocks, what: "after which old weights do not count"},
	"weights_rate_limit":            {unit: blocks, what: "between two weight rows of a hotkey"},
	"weights_version":               {unit: plain, what: "least version of a weight row's program; 0: any"},
	"min_allowed_weights":           {unit: plain, what: "entries of a weight row at least"},
	"max_weight_limit":              {unit: share, what: "of its row that one weight has at most"},
	"commit_reveal_weights_enabled": {unit: plain, what: "weights are sealed when they are set"},
	"commit_reveal_period":          {unit: plain, what: "epochs for which they are"},
	"keep_windows":                  {unit: plain, what: "windows whose history is kept", fixed: true},
	"max_supply":                    {unit: rao, what: "issued at most"},
	"default_take":                  {unit: share, what: "of dividends, for a hotkey's owner at first"},
	"max_take":                      {unit: share, what: "of dividends, for a hotkey's owner at most"},
	"take_rate_limit":               {unit: blocks, what: "between two rises of a take"},
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

// both is a value as it is stored, and in its unit.
func (u unit) both(raw string, blockTimeMS int64) string {
	if says := u.says(raw, blockTimeMS); says != "" {
		return raw + " (" + says + ")"
	}
	return raw
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
			if w.fixed {
				w.what += "; stays as the genesis has it"
			}
			g.add(name, string(p[name]), says+w.what)
		}
		return g.print(os.Stdout)
	})
}
