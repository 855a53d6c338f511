package node

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sn3/chain"
	"sn3/chain/local/beacon"
)

// A vote extension carries a member's partial signatures: of the round of the block that it votes for, and of late rounds.
// Who has none leaves it empty. Else: version u8, count u8, and for each, rounds ascending: round u64, index u8, signature 48.
const (
	extVersion = 1
	extItem    = 8 + beacon.PartialLen

	// maxLate is how many late rounds an extension carries.
	maxLate = 7
)

// partial is a partial signature of a round.
type partial struct {
	round chain.Round
	beacon.Partial
}

var errExtension = errors.New("node: vote extension")

func encodeExtension(list []partial) []byte {
	if len(list) == 0 {
		return nil
	}
	b := []byte{extVersion, byte(len(list))}
	for _, p := range list {
		b = append(binary.BigEndian.AppendUint64(b, uint64(p.round)), p.Encode()...)
	}
	return b
}

// parseExtension reads the extension of a vote for the block at height: nobody may give away a later round. It does not look
// at signatures.
func parseExtension(height chain.Block, b []byte) (list []partial, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 2 || b[0] != extVersion || b[1] == 0 || b[1] > 1+maxLate || len(b) != 2+int(b[1])*extItem {
		return nil, fmt.Errorf("%w: of %d bytes is malformed", errExtension, len(b))
	}
	for b = b[2:]; len(b) > 0; b = b[extItem:] {
		p := partial{round: chain.Round(binary.BigEndian.Uint64(b))}
		if p.Partial, err = beacon.ParsePartial(b[8:extItem]); err != nil {
			return nil, fmt.Errorf("%w: %w", errExtension, err)
		}
		if n := len(list); chain.Block(p.round) > height || n > 0 && p.round <= list[n-1].round {
			return nil, fmt.Errorf("%w: round %d at height %d, or not ascending", errExtension, p.round, height)
		}
		list = append(list, p)
	}
	return list, nil
}

// verifyExtension checks all partial signatures of an extension; those of one key's member cost two pairings together.
func verifyExtension(keys beacon.Keys, list []partial) error {
	for len(list) > 0 {
		k, ok := keys.At(list[0].round)
		i := list[0].Index
		if !ok || i >= len(k.PublicShares) {
			return fmt.Errorf("%w: round %d has no member %d", errExtension, list[0].round, i)
		}
		var rounds []chain.Round
		var sigs [][beacon.SignatureLen]byte
		for len(list) > 0 && list[0].Index == i {
			if k2, _ := keys.At(list[0].round); k2 != k {
				break
			}
			rounds, sigs, list = append(rounds, list[0].round), append(sigs, list[0].Signature), list[1:]
		}
		if err := beacon.VerifyBatch(k.PublicShares[i], rounds, sigs); err != nil {
			return fmt.Errorf("%w: member %d, round %d: %w", errExtension, i, rounds[0], err)
		}
	}
	return nil
}
