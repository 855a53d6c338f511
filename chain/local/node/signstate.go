package node

import (
	"errors"
	"fmt"

	"github.com/cometbft/cometbft/libs/protoio"
	"github.com/cometbft/cometbft/privval"
	cometproto "github.com/cometbft/cometbft/proto/tendermint/types"
)

var errSignState = errors.New("it is not what this key signed last")

// checkSigned holds what the folder says was signed last against the signature itself. The file has no checksum, and one
// changed digit of a height would let the node sign that height again.
func checkSigned(pv *privval.FilePV) error {
	s := pv.LastSignState
	if len(s.Signature) == 0 && len(s.SignBytes) == 0 {
		if s.Height != 0 || s.Round != 0 || s.Step != 0 {
			return fmt.Errorf("%w: a height without a signature", errSignState)
		}
		return nil
	}
	if !pv.Key.PubKey.VerifySignature(s.SignBytes, s.Signature) {
		return fmt.Errorf("%w: its signature does not verify", errSignState)
	}
	var height, round int64
	var step int8
	var vote cometproto.CanonicalVote
	var proposal cometproto.CanonicalProposal
	if err := protoio.UnmarshalDelimited(s.SignBytes, &vote); err == nil && vote.Type != cometproto.ProposalType {
		height, round, step = vote.Height, vote.Round, 2
		if vote.Type == cometproto.PrecommitType {
			step = 3
		}
	} else if err := protoio.UnmarshalDelimited(s.SignBytes, &proposal); err == nil {
		height, round, step = proposal.Height, proposal.Round, 1
	}
	if height != s.Height || round != int64(s.Round) || step != s.Step {
		return fmt.Errorf("%w: the height %d, round %d and step %d are not those of the signature (%d, %d, %d)", errSignState, s.Height, s.Round, s.Step, height, round, step)
	}
	return nil
}
