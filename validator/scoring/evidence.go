package scoring

import (
	"encoding/json"

	"sn3/chain"
)

// Verdict is what a validator found about one submission of one window.
type Verdict struct {
	UID     chain.UID    `json:"uid"`
	Hotkey  chain.Hotkey `json:"hotkey"`
	Digest  chain.Hash   `json:"digest"` // of the manifest
	Status  string       `json:"status"` // "scored", "rejected", "unavailable" or "unscored"
	Reason  string       `json:"reason,omitempty"`
	Score   uint16       `json:"score"`
	Steps   uint32       `json:"steps,omitempty"`
	Bytes   int64        `json:"bytes,omitempty"`
	Norm    float64      `json:"norm,omitempty"`
	Clip    float64      `json:"clip,omitempty"`
	Gain    float64      `json:"gain"`        // held-out, of the trial step, nats per token
	GainErr float64      `json:"gain_stderr"` // of the paired mean
	Own     float64      `json:"own_gain"`    // whole step, on consumed samples
	Unseen  float64      `json:"unseen_gain"` // whole step, on unassigned training samples
	Z       float64      `json:"z"`           // (own - unseen) / standard error
	Proof   float64      `json:"proof"`       // accumulated z
	Rating  float64      `json:"rating"`      // after this window
}

// Evidence is what a validator publishes under the digest of its record: what anybody needs to check its vote.
type Evidence struct {
	Network   string       `json:"network"`
	Run       chain.Hash   `json:"run"`
	Window    chain.Window `json:"window"`
	Validator chain.Hotkey `json:"validator"`
	Base      chain.Hash   `json:"base"` // root(θ_{w-1})
	HeldOut   float64      `json:"held_out_loss"`
	Trial     float64      `json:"trial_scale"`
	Verdicts  []Verdict    `json:"verdicts"` // ascending uid
}

// Encode is the object's bytes.
func (e Evidence) Encode() ([]byte, error) { return json.Marshal(e) }
