package quorum

import (
	"context"
	"encoding/json"
	"fmt"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
)

// beacon is the randomness of a round.
func (q *Quorum) beacon(ctx context.Context, s subject) (json.RawMessage, error) {
	raw, err := q.Query(ctx, local.QuerySignature, s.arg)
	if err != nil {
		return nil, err
	}
	var sig []byte
	if err := json.Unmarshal(raw, &sig); err != nil {
		return nil, fmt.Errorf("%w: signature", errAnswer)
	}
	return json.Marshal(beacon.Randomness(sig))
}

// signature is the beacon's of a round. It needs no second opinion: the key on which the nodes agree verifies it.
func (q *Quorum) signature(ctx context.Context, s subject) (json.RawMessage, error) {
	raw, err := q.Query(ctx, local.QueryKey, s.arg)
	if err != nil {
		return nil, err
	}
	var key []byte
	if err := json.Unmarshal(raw, &key); err != nil {
		return nil, fmt.Errorf("%w: key", errAnswer)
	}
	round, _ := s.number()
	raw, _, err = q.ask(ctx, s, func(s subject, raw json.RawMessage) error {
		var sig []byte
		if err := json.Unmarshal(raw, &sig); err != nil {
			return fmt.Errorf("%w: %s", errAnswer, s)
		}
		if err := beacon.Verify(key, chain.Round(round), sig); err != nil {
			return fmt.Errorf("%w: the beacon's signature of round %d: %v", errAnswer, round, err)
		}
		return nil
	})
	if err == nil {
		q.mu.Lock()
		q.cache.put(s, raw)
		q.mu.Unlock()
	}
	return raw, err
}
