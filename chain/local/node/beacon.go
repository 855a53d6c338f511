package node

import (
	"encoding/binary"

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

// makeBeacons signs the rounds that a block should bring. A node without the beacon's secret brings none: they come later, in
// a block of the node that has it.
func (a *app) makeBeacons(height chain.Block) (list []state.Beacon, err error) {
	if a.secret == nil {
		return nil, nil
	}
	for _, r := range a.ledger.Missing(height) {
		sig, err := beacon.Sign(a.secret, r)
		if err != nil {
			return nil, err
		}
		list = append(list, state.Beacon{Round: r, Signature: sig})
	}
	return list, nil
}
