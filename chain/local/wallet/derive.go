package wallet

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/crypto"
)

// hardened marks a step of a path that the parent's public key does not lead to.
const hardened = 1 << 31

// errDerive has a probability of 2^-127; BIP-32 says to take the next index.
var errDerive = errors.New("wallet: there is no key at this index; take another")

// extended is a private key with BIP-32's chain code.
type extended struct{ key, code []byte }

// derive walks from a seed down a path (BIP-32).
func derive(seed []byte, path ...uint32) (*ecdsa.PrivateKey, error) {
	x, err := master(seed)
	for _, i := range path {
		if err == nil {
			x, err = x.child(i)
		}
	}
	if err != nil {
		return nil, err
	}
	return crypto.ToECDSA(x.key)
}

func master(seed []byte) (extended, error) {
	sum := mac([]byte("Bitcoin seed"), seed)
	if _, err := crypto.ToECDSA(sum[:32]); err != nil {
		return extended{}, fmt.Errorf("%w: %v", errDerive, err)
	}
	return extended{sum[:32], sum[32:]}, nil
}

func (x extended) child(i uint32) (extended, error) {
	var data []byte
	if i >= hardened {
		data = append([]byte{0}, x.key...)
	} else {
		k, err := crypto.ToECDSA(x.key)
		if err != nil {
			return extended{}, fmt.Errorf("%w: %v", errDerive, err)
		}
		data = crypto.CompressPubkey(&k.PublicKey)
	}
	sum := mac(x.code, binary.BigEndian.AppendUint32(data, i))
	n := crypto.S256().Params().N
	left := new(big.Int).SetBytes(sum[:32])
	if left.Cmp(n) >= 0 {
		return extended{}, errDerive
	}
	k := left.Add(left, new(big.Int).SetBytes(x.key))
	if k.Mod(k, n).Sign() == 0 {
		return extended{}, errDerive
	}
	return extended{k.FillBytes(make([]byte, 32)), sum[32:]}, nil
}

func mac(key, data []byte) []byte {
	h := hmac.New(sha512.New, key)
	h.Write(data)
	return h.Sum(nil)
}
