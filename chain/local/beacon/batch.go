package beacon

import (
	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"

	"sn3/chain"
	scheme "sn3/chain/bls"
	"sn3/chain/local/beacon/group"
)

// VerifyBatch checks signatures of several rounds by one key or share with two pairings, not two for each. It looks at a sum
// with factors that are a hash of everything, so that errors cannot be made to cancel out. The error says of none which.
func VerifyBatch(public PublicKey, rounds []chain.Round, signatures [][SignatureLen]byte) error {
	if len(rounds) != len(signatures) || len(rounds) == 0 {
		return ErrBeacon
	}
	if len(rounds) == 1 {
		return Verify(public[:], rounds[0], signatures[0][:])
	}
	key, err := scheme.Public(public[:])
	if err != nil {
		return ErrBeacon
	}
	sigs, messages, factors := make([]group.G1, len(rounds)), make([]group.G1, len(rounds)), make([]group.Scalar, len(rounds))
	var about []byte
	for i, r := range rounds {
		if sigs[i], err = scheme.Signature(signatures[i][:]); err != nil {
			return ErrBeacon
		}
		if messages[i], err = scheme.Message(uint64(r)); err != nil {
			return ErrBeacon
		}
		about = append(group.AppendG1(about, &messages[i]), signatures[i][:]...)
	}
	for i := range factors {
		factors[i] = group.HashScalar("sn3/beacon/batch/1", public[:], about, []byte{byte(i)})
	}
	sum, message := group.SumG1(sigs, factors), group.SumG1(messages, factors)
	g2 := group.BaseG2()
	g2.Neg(&g2)
	if ok, err := bls.PairingCheck([]bls.G1Affine{sum, message}, []bls.G2Affine{g2, key}); err != nil || !ok {
		return ErrBeacon
	}
	return nil
}
