package node

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
)

// beaconTx is the first byte of the pseudo-transaction that carries a beacon: round u64, signature. No transaction starts with
// it.
const (
	beaconTx    = 0xB1
	beaconTxLen = 1 + 8 + beacon.SignatureLen
)

func encodeBeacon(b state.Beacon) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{beaconTx}, uint64(b.Round)), b.Signature...)
}

// splitBeacons takes the beacons off the front of a block.
func splitBeacons(txs [][]byte) (list []state.Beacon, rest [][]byte) {
	for rest = txs; len(rest) > 0 && len(rest[0]) == beaconTxLen && rest[0][0] == beaconTx; rest = rest[1:] {
		list = append(list, state.Beacon{Round: chain.Round(binary.BigEndian.Uint64(rest[0][1:])), Signature: rest[0][9:]})
	}
	return list, rest
}

// parts takes a block apart: beacons, what members say, transactions.
func parts(txs [][]byte) (beacons []state.Beacon, said, rest [][]byte) {
	beacons, rest = splitBeacons(txs)
	n := 0
	for n < len(rest) && len(rest[n]) > 0 && (rest[n][0] == state.SaidDealing || rest[n][0] == state.SaidComplaint) {
		n++
	}
	return beacons, rest[:n], rest[n:]
}

// ExtendVote signs this node's part of the round of the block that it votes for, and of late rounds that the block does not
// bring. Once more than two thirds have voted so for the block the round can be known: not before, unless members talk.
func (a *app) ExtendVote(_ context.Context, r *abci.RequestExtendVote) (_ *abci.ResponseExtendVote, err error) {
	defer a.guard("extend vote", &err)
	height := chain.Block(r.Height)
	brought, _ := splitBeacons(r.Txs)
	late := slices.DeleteFunc(a.ledger.Late(height, maxLate), func(x chain.Round) bool {
		return slices.ContainsFunc(brought, func(b state.Beacon) bool { return b.Round == x })
	})
	list, err := a.signer.sign(a.ledger.BeaconKeys(), append(late, chain.Round(height)))
	if err != nil {
		return nil, err
	}
	return &abci.ResponseExtendVote{VoteExtension: encodeExtension(list)}, nil
}

// VerifyVoteExtension refuses a vote with an extension that is malformed, of a later round, or not of its member. It looks at
// nothing but the state of the block before, so all nodes say the same.
func (a *app) VerifyVoteExtension(_ context.Context, r *abci.RequestVerifyVoteExtension) (_ *abci.ResponseVerifyVoteExtension, err error) {
	defer a.guard("verify vote extension", &err)
	res := &abci.ResponseVerifyVoteExtension{Status: abci.ResponseVerifyVoteExtension_REJECT}
	list, err := parseExtension(chain.Block(r.Height), r.VoteExtension)
	if err != nil || verifyExtension(a.ledger.BeaconKeys(), list) != nil {
		return res, nil
	}
	res.Status = abci.ResponseVerifyVoteExtension_ACCEPT
	return res, nil
}

// maxRepairs is for how many rounds a proposer looks for bad partial signatures: those of votes that came after the block was
// decided are not verified, and to look costs a verification for each.
const maxRepairs = 2

// makeBeacons are the signatures that the block at height can bring: combined of the partial ones in the votes for the block
// before, and of this node's own.
func (a *app) makeBeacons(height chain.Block, votes []abci.ExtendedVoteInfo) (list []state.Beacon, err error) {
	keys, byRound := a.ledger.BeaconKeys(), map[chain.Round][]beacon.Partial{}
	for _, v := range votes {
		parsed, err := parseExtension(height-1, v.VoteExtension)
		if err != nil {
			continue // a late vote's: nobody has looked at it
		}
		for _, p := range parsed {
			byRound[p.round] = append(byRound[p.round], p.Partial)
		}
	}
	own, err := a.signer.sign(keys, a.ownRounds(height, keys, byRound))
	if err != nil {
		return nil, err
	}
	for _, p := range own {
		byRound[p.round] = append(byRound[p.round], p.Partial)
	}
	rounds := make([]chain.Round, 0, len(byRound))
	for r := range byRound {
		if a.ledger.Wants(height, r) {
			rounds = append(rounds, r)
		}
	}
	slices.Sort(rounds)
	slices.Reverse(rounds) // the newest first: the protocol waits for it
	repairs := 0
	for _, r := range rounds {
		if len(list) == state.MaxBeacons {
			break
		}
		if sig := combine(keys, r, byRound[r], &repairs); sig != nil {
			list = append(list, state.Beacon{Round: r, Signature: sig})
		}
	}
	slices.Reverse(list)
	return list, nil
}

// ownRounds are those that this node signs for its own proposal: what votes bring parts of, and what it can sign alone.
func (a *app) ownRounds(height chain.Block, keys beacon.Keys, votes map[chain.Round][]beacon.Partial) (out []chain.Round) {
	for r := range votes {
		out = append(out, r)
	}
	for _, r := range a.ledger.Missing(height) {
		if k, ok := keys.At(r); ok && k.Threshold == 1 && votes[r] == nil {
			out = append(out, r)
		}
	}
	return out
}

// combine is the signature of a round, or nil if there are too few good parts of it.
func combine(keys beacon.Keys, r chain.Round, list []beacon.Partial, repairs *int) []byte {
	k, ok := keys.At(r)
	if !ok || len(list) < k.Threshold {
		return nil
	}
	sig, err := beacon.Combine(k.Threshold, list)
	if err == nil && beacon.Verify(k.Public[:], r, sig) == nil {
		return sig
	}
	if errors.Is(err, beacon.ErrTooFew) {
		return nil
	}
	if *repairs++; *repairs > maxRepairs {
		return nil
	}
	if sig, _, err = k.Combine(r, list); err != nil {
		return nil
	}
	return sig
}
