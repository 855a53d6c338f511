package quorum

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sn3/chain"
	"sn3/chain/local"
	"strconv"
	"strings"
)

// subject is a question.
type subject struct{ name, arg string }

// String is the subject for people.
func (s subject) String() string {
	switch {
	case s.name == local.QueryHead:
		return "the state hash of block " + s.arg
	case s.name == local.QueryStatus:
		return "which network they are of"
	case s.arg == "":
		return s.name
	}
	return s.name + " " + s.arg
}

func headOf(b chain.Block) subject {
	return subject{local.QueryHead, strconv.FormatUint(uint64(b), 10)}
}

// head is the block of a question for a head.
func (s subject) head() (chain.Block, bool) {
	n, ok := s.number()
	return chain.Block(n), ok && s.name == local.QueryHead
}

func (s subject) number() (uint64, bool) {
	n, err := strconv.ParseUint(s.arg, 10, 64)
	return n, err == nil
}

// errAnswer: an answer that is not what was asked for.
var errAnswer = errors.New("quorum: not an answer to the question")

// value is what of an answer must be equal between nodes: of states and selections what a client reads of them, so that a
// newer release may answer with more; of a head the hash of the state. An answer of another form or to another question is
// refused.
func (s subject) value(raw json.RawMessage) (string, error) {
	n, _ := s.number()
	switch s.name {
	case local.QueryHead:
		var h local.HeadInfo
		if err := json.Unmarshal(raw, &h); err != nil || uint64(h.Block) != n {
			return "", fmt.Errorf("%w: %s", errAnswer, s)
		}
		return h.AppHash.String(), nil
	case local.QuerySnapshot:
		var x chain.Snapshot
		err := json.Unmarshal(raw, &x)
		x.Neurons, x.Records = full(x.Neurons), full(x.Records)
		for i := range x.Records {
			r := &x.Records[i].Record
			r.Locator, r.Body = full(r.Locator), full(r.Body)
		}
		return sum(x, err == nil && uint64(x.Block) == n, s)
	case local.QuerySelection:
		var x chain.Selection
		err := json.Unmarshal(raw, &x)
		x.Winners = full(x.Winners)
		for i := range x.Winners {
			x.Winners[i].Locator = full(x.Winners[i].Locator)
		}
		return sum(x, err == nil && uint64(x.Window) == n, s)
	case local.QueryTx:
		var x local.TxInfo
		err := json.Unmarshal(raw, &x)
		return sum(x, err == nil, s)
	case local.QueryStatus:
		var x local.Status
		err := json.Unmarshal(raw, &x)
		return sum([]any{x.Network, x.RunHash, x.GenesisHash}, err == nil, s)
	case local.QueryAccount:
		var x local.AccountInfo
		err := json.Unmarshal(raw, &x)
		return sum(x.Nonce, err == nil, s) // a balance changes whenever somebody else pays
	case local.QueryBeacon, local.QueryRun, local.QueryKey, local.QuerySignature:
		var x []byte
		err := json.Unmarshal(raw, &x)
		return sum(x, err == nil && len(x) > 0, s)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return "", fmt.Errorf("%w: %s", errAnswer, s)
	}
	h := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(h[:]), nil
}

// full makes an absent list an empty one: a node that was restarted may write the other.
func full[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func sum(v any, ok bool, s subject) (string, error) {
	if !ok {
		return "", fmt.Errorf("%w: %s", errAnswer, s)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %v", errAnswer, s, err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// stays says whether an answer never changes once it is there. The key of a round to come may.
func (s subject) stays() bool { return s.name != local.QueryStatus && s.name != local.QueryKey }

// decides says whether an answer decides money or training and is the same at all nodes: snapshots, selections, outcomes of
// transactions, the beacon's keys, what the network was started with.
func (s subject) decides() bool {
	switch s.name {
	case local.QuerySnapshot, local.QuerySelection, local.QueryTx, local.QueryRun, local.QueryGenesis, local.QueryKey:
		return true
	}
	return false
}

// moves says whether an answer is of whatever block a node is at, and something is signed by it: with a nonce to come a node
// could keep a transaction until that nonce's turn, and have it run beside the one that was sent instead; by wrong parameters
// weights would be committed in the open.
func (s subject) moves() bool { return s.name == local.QueryAccount || s.name == local.QueryParams }

// signs says whether something is signed by an answer: then everybody is asked, also who failed a moment ago. With the second form
// of a transaction's query it is found out whether another one is to be signed in its place.
func (s subject) signs() bool {
	return s.moves() || s.name == local.QueryTx && strings.Contains(s.arg, "@")
}
