package localtest

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
	"sn3/internal/preset"
)

// Key is the account key of a named actor: the same for the same name.
func Key(name string) (*ecdsa.PrivateKey, error) {
	sum := sha256.Sum256([]byte("localtest/" + name))
	return crypto.ToECDSA(sum[:])
}

// Actor is an account of a test network.
type Actor struct {
	Name    string
	Balance chain.Amount
	Seat    bool
	Stake   chain.Amount // more than 0 gives a permit
}

// Network is the name of the test network, Owner that of the actor who owns it, with a coin for fees if it is not among the
// actors that are given.
const (
	Network = "sn3-test"
	Owner   = "owner"

	ownerBalance = chain.RaoPerCoin
)

// Genesis is a small network with the shortest schedule of the local preset, and the beacon's secret key. Seats are given in
// the order of the actors.
func Genesis(blockTimeMS int64, actors ...Actor) (*state.Genesis, []byte, error) {
	run, err := preset.Run("local", 8)
	if err != nil {
		return nil, nil, err
	}
	run.Network = Network
	secret := make([]byte, beacon.SecretLen)
	secret[beacon.SecretLen-1] = 7
	pub, err := beacon.Public(secret)
	if err != nil {
		return nil, nil, err
	}
	owner, err := Key(Owner)
	if err != nil {
		return nil, nil, err
	}
	g := &state.Genesis{Owner: chain.Coldkey(local.AccountOf(&owner.PublicKey)), Network: Network, Run: run.Encode(), BlockTimeMS: blockTimeMS, Rules: state.NewestRules, Params: state.DefaultParams(), BeaconKey: pub}
	if !slices.ContainsFunc(actors, func(a Actor) bool { return a.Name == Owner }) {
		g.Accounts = append(g.Accounts, state.Account{Coldkey: g.Owner, Balance: ownerBalance})
	}
	for _, a := range actors {
		key, err := Key(a.Name)
		if err != nil {
			return nil, nil, fmt.Errorf("key of %s: %w", a.Name, err)
		}
		h := local.AccountOf(&key.PublicKey)
		if a.Balance > 0 {
			g.Accounts = append(g.Accounts, state.Account{Coldkey: chain.Coldkey(h), Balance: a.Balance})
		}
		if a.Seat {
			g.Seats = append(g.Seats, state.Seat{Hotkey: h, Stake: a.Stake, Permit: a.Stake > 0})
		}
	}
	return g, secret, nil
}
