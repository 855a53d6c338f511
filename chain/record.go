package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// Limits of a record: what Subtensor's commitment pallet can hold (notes in DESIGN §4).
const (
	MaxLocator = 128
	MaxBody    = 512
	MaxScores  = 40 // scores in one vote
)

// Record is the one thing a hotkey publishes and overwrites. Locator and Body are opaque to the chain's consensus rules
// except that Select reads Body. For a miner Digest is SHA-256(manifest) and Body a SubmissionBody; for a validator Digest
// is SHA-256(evidence) and Body a Vote.
type Record struct {
	Locator []byte `json:"locator"`
	Digest  Hash   `json:"digest"`
	Body    []byte `json:"body"`
}

// Validate checks the limits.
func (r Record) Validate() error {
	if len(r.Locator) > MaxLocator || len(r.Body) > MaxBody {
		return fmt.Errorf("record: locator %d bytes (max %d), body %d bytes (max %d)", len(r.Locator), MaxLocator, len(r.Body), MaxBody)
	}
	return nil
}

// Equal says whether two records are the same bytes.
func (r Record) Equal(o Record) bool {
	return r.Digest == o.Digest && bytes.Equal(r.Locator, o.Locator) && bytes.Equal(r.Body, o.Body)
}

// Body kinds; the first byte of a Record's Body.
const (
	bodySubmission = 1
	bodyVote       = 2
	bodyVersion    = 1
)

// ErrBody: the bytes are not a canonical Body of the wanted kind. Such a record counts as absent.
var ErrBody = errors.New("chain: not a canonical record body")

// SubmissionBody says which window and shard a miner's manifest is for.
// Bytes: kind 1, version 1, window u64 BE, shard u16 BE: 12 bytes.
type SubmissionBody struct {
	Window Window
	Shard  Shard
}

// Encode writes the 12 bytes.
func (s SubmissionBody) Encode() []byte {
	b := []byte{bodySubmission, bodyVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(s.Window))
	return binary.BigEndian.AppendUint16(b, uint16(s.Shard))
}

// ParseSubmissionBody is the only reader of a miner's Body.
func ParseSubmissionBody(b []byte) (SubmissionBody, error) {
	if len(b) != 12 || b[0] != bodySubmission || b[1] != bodyVersion {
		return SubmissionBody{}, ErrBody
	}
	return SubmissionBody{Window(binary.BigEndian.Uint64(b[2:])), Shard(binary.BigEndian.Uint16(b[10:]))}, nil
}

// Score is a validator's opinion of one submission: 0 rejects it, else clamp(8192 + round(gain·2^14 per nat per token), 1, 65535).
type Score struct {
	UID   UID    `json:"uid"`
	Value uint16 `json:"value"`
}

// Vote is what a validator publishes before ScoreBy(w). Root is root(θ_{w-1}), the state it scored against.
// Bytes: kind 2, version 1, window u64 BE, root 32, count u8, then count × (uid u16 BE, score u16 BE), uids ascending.
type Vote struct {
	Window Window
	Root   Hash
	Scores []Score // ascending uid, at most MaxScores
}

// Encode writes the canonical bytes; it sorts a copy of the scores.
func (v Vote) Encode() ([]byte, error) {
	if len(v.Scores) > MaxScores {
		return nil, fmt.Errorf("vote: %d scores, at most %d", len(v.Scores), MaxScores)
	}
	s := append([]Score(nil), v.Scores...)
	sort.Slice(s, func(i, j int) bool { return s[i].UID < s[j].UID })
	b := []byte{bodyVote, bodyVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(v.Window))
	b = append(b, v.Root[:]...)
	b = append(b, byte(len(s)))
	for i, e := range s {
		if i > 0 && s[i-1].UID == e.UID {
			return nil, fmt.Errorf("vote: uid %d twice", e.UID)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(e.UID))
		b = binary.BigEndian.AppendUint16(b, e.Value)
	}
	return b, nil
}

// ParseVote is the only reader of a validator's Body; ParseVote(b) ok implies Encode gives b.
func ParseVote(b []byte) (Vote, error) {
	const head = 2 + 8 + 32 + 1
	if len(b) < head || b[0] != bodyVote || b[1] != bodyVersion {
		return Vote{}, ErrBody
	}
	n := int(b[head-1])
	if n > MaxScores || len(b) != head+4*n {
		return Vote{}, ErrBody
	}
	v := Vote{Window: Window(binary.BigEndian.Uint64(b[2:])), Root: Hash(b[10:42])}
	for i := 0; i < n; i++ {
		e := b[head+4*i:]
		s := Score{UID(binary.BigEndian.Uint16(e)), binary.BigEndian.Uint16(e[2:])}
		if i > 0 && v.Scores[i-1].UID >= s.UID {
			return Vote{}, ErrBody
		}
		v.Scores = append(v.Scores, s)
	}
	return v, nil
}

// ScoreOfGain turns a held-out gain in nats per token into a vote's score (DESIGN §11, "Select").
func ScoreOfGain(gain float64) uint16 {
	x := 8192 + gain*(1<<14)
	switch {
	case !(x >= 1): // also NaN
		return 1
	case x >= 65535:
		return 65535
	}
	return uint16(x + 0.5)
}
