package local

import "sn3/chain"

// BeaconStatus is who signs the beacon. Until the first round of Next the members of Signs go on.
type BeaconStatus struct {
	Signs  BeaconKeyInfo  `json:"signs"`
	Next   *BeaconKeyInfo `json:"next,omitempty"`   // announced
	Making *BeaconMaking  `json:"making,omitempty"` // on its way
	Last   string         `json:"last,omitempty"`   // what the last making came to, for people

	Earliest chain.Round `json:"earliest"` // first round of a key that is announced in the next block
}

// BeaconKeyInfo is a key of the beacon: from round From on, Threshold of Members sign what verifies with Public.
type BeaconKeyInfo struct {
	From      chain.Round `json:"from"`
	Threshold int         `json:"threshold"`
	Members   int         `json:"members"`
	Public    []byte      `json:"public"`
}

// Phases of the making of a beacon key.
const (
	PhaseDealing    = "dealing"
	PhaseComplaints = "complaints"
)

// BeaconMaking is a beacon key being made.
type BeaconMaking struct {
	From      chain.Round    `json:"from"` // its first round
	Threshold int            `json:"threshold"`
	Phase     string         `json:"phase"`
	DealUntil chain.Block    `json:"deal_until"` // last block of the dealings
	Until     chain.Block    `json:"until"`      // last block of the complaints, in which the key is made
	Members   []BeaconMember `json:"members"`
}

// BeaconMember is a validator that takes part in a making.
type BeaconMember struct {
	Key    chain.Hash `json:"key"` // ed25519, of consensus
	Dealt  bool       `json:"dealt"`
	Guilty bool       `json:"guilty,omitempty"` // a complaint about its dealing holds
}
