package state

import (
	"bytes"
	"encoding/binary"
	"slices"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/timelock"
	"sn3/chain/yuma"
)

// maxCommits is how many commitments of a hotkey may wait (Subtensor: TooManyUnrevealedCommits).
const maxCommits = 10

// commit is a weight row that nobody can read yet.
type commit struct {
	at     chain.Block
	round  chain.Round
	sealed []byte
}

// checkCommit is Subtensor's order of checks of commit_timelocked_weights. Two of ours come last, where Subtensor takes the
// commitment and drops it at its reveal: the permit, and a round that cannot be known in the reveal epoch.
func (s *State) checkCommit(o local.CommitWeights, from chain.Hotkey) local.Code {
	uid, seated := s.byHotkey[from]
	switch {
	case !s.params.CommitReveal:
		return local.CodeNoCommitReveal
	case o.Version != local.TimelockVersion:
		return local.CodeCommitVersion
	case !seated:
		return local.CodeNotRegistered
	}
	if code := s.checkVersionAndStake(uid, s.params.WeightsVersion); code != local.CodeOK {
		return code
	}
	first, last := local.RevealRounds(s.meta.Height, s.run.Tempo, s.params.RevealPeriod)
	switch {
	case s.tooFast(uid):
		return local.CodeRateLimited
	case len(s.commits[from]) >= maxCommits:
		return local.CodeCommits
	case !s.seats[uid].Permit && uid != s.ownerUID():
		return local.CodeNoPermit
	case o.Round < first || o.Round > last:
		return local.CodeRound
	case len(o.Commit) <= timelock.Overhead:
		return local.CodeCommit
	}
	return local.CodeOK
}

func (s *State) commitWeights(o local.CommitWeights, from chain.Hotkey) {
	uid := s.byHotkey[from]
	s.commits[from] = append(s.commits[from], commit{s.meta.Height, o.Round, bytes.Clone(o.Commit)})
	s.touch(commitKey(from))
	s.seats[uid].LastUpdate = s.meta.Height // a commitment counts as an update, its reveal does not
	s.touch(seatKey(uid))
	s.emit(local.Event{Kind: local.EventCommitted, Hotkey: from, UID: chain.UID(uid), At: chain.Block(o.Round)})
}

// reveal opens the commitments whose reveal epoch this is, as soon as the beacon of their round is known. Of several of a
// hotkey the newest counts; the others are dropped unopened, so that a block opens at most one per seat. What could not be
// opened in its epoch is dropped.
func (s *State) reveal() {
	if len(s.commits) == 0 {
		return
	}
	now := uint64(s.meta.Height / s.run.Tempo)
	for uid := range s.seats {
		hotkey := s.seats[uid].Hotkey
		all := s.commits[hotkey]
		due := func(c commit) bool { return uint64(c.at/s.run.Tempo)+s.params.RevealPeriod == now }
		late := func(c commit) bool { return uint64(c.at/s.run.Tempo)+s.params.RevealPeriod < now }
		keep := slices.DeleteFunc(slices.Clone(all), func(c commit) bool {
			if late(c) {
				s.dropped(uid, c, "the beacon of its round did not come in its reveal epoch")
			}
			return late(c)
		})
		for i := len(keep) - 1; i >= 0; i-- {
			sig, known := s.beacons[keep[i].round]
			if !due(keep[i]) || !known {
				continue
			}
			s.open(uid, keep[i], sig)
			for _, c := range keep[:i] {
				s.dropped(uid, c, local.Superseded)
			}
			keep = keep[i+1:]
			break
		}
		if len(keep) != len(all) {
			s.setCommits(hotkey, keep)
		}
	}
}

// overtake drops what a hotkey has committed: a row that it sets in the open is newer.
func (s *State) overtake(uid int) {
	h := s.seats[uid].Hotkey
	for _, c := range s.commits[h] {
		s.dropped(uid, c, "a newer row was set in the open")
	}
	if len(s.commits[h]) > 0 {
		s.setCommits(h, nil)
	}
}

func (s *State) setCommits(h chain.Hotkey, c []commit) {
	if s.commits[h] = c; len(c) == 0 {
		delete(s.commits, h)
	}
	s.touch(commitKey(h))
}

func (s *State) dropped(uid int, c commit, why string) {
	s.emit(local.Event{Kind: local.EventDropped, Hotkey: s.seats[uid].Hotkey, UID: chain.UID(uid), At: c.at, Reason: why})
}

// open sets the row of a commitment as if its hotkey had set it now, but for who took a seat since: the row weighs whom its
// author saw, and a newcomer inherits nothing from the hotkey that was there before.
func (s *State) open(uid int, c commit, signature []byte) {
	plain, err := timelock.Open(signature, c.sealed)
	if err != nil {
		s.dropped(uid, c, "it does not open with the beacon of its round")
		return
	}
	p, err := timelock.Parse(plain)
	if err != nil || len(p.UIDs) != len(p.Values) {
		s.dropped(uid, c, "what it holds is no weight row")
		return
	}
	if p.Hotkey != s.seats[uid].Hotkey {
		s.dropped(uid, c, "it holds the row of another hotkey: a copy")
		return
	}
	row := make([]chain.Weight, len(p.UIDs))
	for i := range row {
		row[i] = chain.Weight{UID: chain.UID(p.UIDs[i]), Value: p.Values[i]}
	}
	code := s.checkVersionAndStake(uid, p.VersionKey)
	if code == local.CodeOK {
		code = s.checkRow(uid, row)
	}
	if code != local.CodeOK {
		s.dropped(uid, c, code.Err().Error())
		return
	}
	s.storeRow(uid, row)
	x := &s.seats[uid]
	x.Weights = kept(x.Weights, func(e yuma.Entry) bool { return s.seats[e.UID].RegisteredAt < c.at })
}

// earliestCommit is the block of a hotkey's oldest commitment that waits, for the epoch's mask.
func (s *State) earliestCommit(h chain.Hotkey) uint64 {
	if c := s.commits[h]; len(c) > 0 {
		return uint64(c[0].at)
	}
	return yuma.NoCommit
}

func encodeCommits(all []commit) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(all)))
	for _, c := range all {
		b = binary.BigEndian.AppendUint64(b, uint64(c.at))
		b = binary.BigEndian.AppendUint64(b, uint64(c.round))
		b = appendBytes(b, c.sealed)
	}
	return b
}

func decodeCommits(v []byte) (all []commit, err error) {
	d := decoder{b: v}
	for n := d.count(8 + 8 + 2); n > 0; n-- {
		all = append(all, commit{chain.Block(d.u64()), chain.Round(d.u64()), d.bytes()})
	}
	if err := d.end(); err != nil || len(all) == 0 || len(all) > maxCommits {
		return nil, errForm
	}
	return all, nil
}
