package local

import "sn3/chain"

// Kinds of events.
const (
	EventRegistered = "registered" // took a seat; Amount was burned
	EventReplaced   = "replaced"   // lost its seat to the hotkey in Other
	EventStaked     = "staked"     // Amount by Coldkey
	EventUnstaked   = "unstaked"   // Amount by Coldkey, paid out at block At
	EventWeights    = "weights"    // its weight row was set, in the open or revealed
	EventCommitted  = "committed"  // a weight row that opens at round At
	EventDropped    = "dropped"    // a committed row that could not be revealed; Reason says why
	EventEpoch      = "epoch"      // Amount is its emission; Incentive and Dividends of 65535
	EventScored     = "scored"     // its submission of Window was scored, Score is the median; Reason "selected" if it won
	EventParam      = "param"      // Reason is the parameter, Amount its new value
	EventValidator  = "validator"  // the node with the consensus key in Other was added, removed or changed, see Reason
	EventRules      = "rules"      // the rules have version Amount from now on
)

// Event is something that happened in a block. Events are not part of the state: they follow from it, nodes keep them for
// whoever asks, and a node that joined by a snapshot knows those since then.
type Event struct {
	Block     chain.Block   `json:"block"`
	Kind      string        `json:"kind"`
	Hotkey    chain.Hotkey  `json:"hotkey,omitzero"` // whom it concerns; none: the whole network
	UID       chain.UID     `json:"uid"`
	Coldkey   chain.Coldkey `json:"coldkey,omitzero"`
	Other     chain.Hotkey  `json:"other,omitzero"`
	Amount    chain.Amount  `json:"amount,omitempty"`
	At        chain.Block   `json:"at,omitempty"`
	Window    chain.Window  `json:"window,omitempty"`
	Score     uint16        `json:"score,omitempty"`
	Incentive uint16        `json:"incentive,omitempty"`
	Dividends uint16        `json:"dividends,omitempty"`
	Reason    string        `json:"reason,omitempty"`
}
