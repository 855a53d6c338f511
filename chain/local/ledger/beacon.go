package ledger

import (
	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
)

// Missing is state.Missing: the rounds that the block at height should bring.
func (l *Ledger) Missing(height chain.Block) []chain.Round {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Missing(height)
}

// Late is state.Late: rounds below height whose members should sign once more.
func (l *Ledger) Late(height chain.Block, n int) []chain.Round {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Late(height, n)
}

// Wants is state.Wants.
func (l *Ledger) Wants(height chain.Block, r chain.Round) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Wants(height, r)
}

// CheckBeacons is state.CheckBeacons.
func (l *Ledger) CheckBeacons(height chain.Block, list []state.Beacon) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.CheckBeacons(height, list)
}

// CheckSaid is state.CheckSaid.
func (l *Ledger) CheckSaid(height chain.Block, list [][]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.CheckSaid(height, list)
}

// BeaconKeys is state.BeaconKeys.
func (l *Ledger) BeaconKeys() beacon.Keys {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.BeaconKeys()
}

// Dealings is state.Dealings.
func (l *Ledger) Dealings(from chain.Round) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Dealings(from)
}

// Making is state.Making.
func (l *Ledger) Making(height chain.Block) *state.Making {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Making(height)
}

// Signature is state.BeaconSignature.
func (l *Ledger) Signature(r chain.Round) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.BeaconSignature(r)
}
