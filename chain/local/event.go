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
	EventScored     = "scored"     // its submission of Window was scored, Score is the median; Reason is what became of it
	EventParam      = "param"      // Reason is the parameter, Amount its new value
	EventValidator  = "validator"  // the node with the consensus key in Other was added, removed or changed, see Reason
	EventBeacon     = "beacon"     // a beacon key for round At on by Amount members is being made, was made or was not, see Reason
	EventRules      = "rules"      // the rules have version Amount from now on
)

// Reasons of EventScored.
const (
	Selected    = "selected"
	NotSelected = "not selected" // others had better scores
	Rejected    = "rejected"     // half of the stake that scored it, or more, gave it 0
	Unscored    = "unscored"     // by more than half of the stake
)

// Superseded is the reason of an EventDropped that is no loss.
const Superseded = "a newer commitment was revealed"

// EventClass groups kinds of events by what makes them: none may crowd out another in what a node keeps of a hotkey.
type EventClass byte

// Classes of events.
const (
	EventsRare     EventClass = iota // registrations, and what the owner does
	EventsFrequent                   // come in every window
	EventsOfStake                    // anybody's who pays the fee
	EventClasses
)

// ClassOf is the class of a kind of event.
func ClassOf(kind string) EventClass {
	switch kind {
	case EventWeights, EventCommitted, EventDropped, EventEpoch, EventScored:
		return EventsFrequent
	case EventStaked, EventUnstaked:
		return EventsOfStake
	}
	return EventsRare
}

// Kept is how many events of a class a node keeps of a hotkey, the newest.
func (c EventClass) Kept() int { return [EventClasses]int{1000, 2000, 1000}[c] }

// Bounds of histories.
const (
	KeptDiaries = 1024 // hotkeys whose events a node keeps: those to whom something happened last
	EventsAPage = 500
)

// HistoryPage is a part of a hotkey's history, the newest first. What happened before block From this node never saw.
type HistoryPage struct {
	Events []Event     `json:"events"`
	From   chain.Block `json:"from"`
}

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
	Consensus uint16        `json:"consensus,omitempty"`
	Reason    string        `json:"reason,omitempty"`
}
