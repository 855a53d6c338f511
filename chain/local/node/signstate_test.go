package node

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/cometbft/cometbft/privval"
	cometproto "github.com/cometbft/cometbft/proto/tendermint/types"
)

// What was signed last is believed only if it is what the signature is about, whatever it was that was signed.
func TestCheckSigned(t *testing.T) {
	dir := t.TempDir()
	fresh := func() *privval.FilePV {
		return privval.GenFilePV(filepath.Join(dir, "key"), filepath.Join(dir, "state"))
	}
	vote := func(kind cometproto.SignedMsgType) *privval.FilePV {
		pv := fresh()
		v := &cometproto.Vote{Type: kind, Height: 120, Round: 3, Timestamp: time.Unix(7, 0), ValidatorAddress: pv.GetAddress()}
		if err := pv.SignVote("chain", v); err != nil {
			t.Fatal(err)
		}
		return pv
	}
	proposal := func(pol int32) *privval.FilePV {
		pv := fresh()
		if err := pv.SignProposal("chain", &cometproto.Proposal{Type: cometproto.ProposalType, Height: 120, Round: 3, PolRound: pol, Timestamp: time.Unix(7, 0)}); err != nil {
			t.Fatal(err)
		}
		return pv
	}
	if err := checkSigned(fresh()); err != nil {
		t.Errorf("nothing signed yet: %v", err)
	}
	for name, make := range map[string]func() *privval.FilePV{
		"prevote": func() *privval.FilePV { return vote(cometproto.PrevoteType) }, "precommit": func() *privval.FilePV { return vote(cometproto.PrecommitType) },
		"proposal": func() *privval.FilePV { return proposal(-1) }, "proposal of a locked block": func() *privval.FilePV { return proposal(0) },
	} {
		if err := checkSigned(make()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for harm, do := range map[string]func(*privval.FilePVLastSignState){
			"height": func(s *privval.FilePVLastSignState) { s.Height = 20 }, "later height": func(s *privval.FilePVLastSignState) { s.Height = 121 },
			"round": func(s *privval.FilePVLastSignState) { s.Round-- }, "step": func(s *privval.FilePVLastSignState) { s.Step = 1 + s.Step%3 },
			"signature": func(s *privval.FilePVLastSignState) { s.Signature[5] ^= 1 }, "no signature": func(s *privval.FilePVLastSignState) { s.Signature = nil },
			"bytes": func(s *privval.FilePVLastSignState) { s.SignBytes[3] ^= 1 }, "no bytes": func(s *privval.FilePVLastSignState) { s.SignBytes = nil },
			"neither": func(s *privval.FilePVLastSignState) { s.Signature, s.SignBytes = nil, nil },
		} {
			pv := make()
			do(&pv.LastSignState)
			if err := checkSigned(pv); !errors.Is(err, errSignState) {
				t.Errorf("%s, another %s: %v", name, harm, err)
			}
		}
	}
}
