package local

import (
	"fmt"

	"sn3/chain"
)

// Code is the chain's answer to a transaction.
type Code uint32

// The codes. They are part of the consensus rules: never renumber.
const (
	CodeOK Code = iota
	CodeMalformed
	CodeNetwork
	CodeSignature
	CodeNonce
	CodeFunds
	CodeNotRegistered
	CodeNoSeat
	CodeRecord
	CodeRateLimited
	CodeWeights
	CodeNoPermit
	CodeSelfTransfer
	CodeUnavailable // the node does not take transactions now (not a consensus code)
)

type codeText struct {
	what, hint string
	is         error
}

var codeTexts = map[Code]codeText{
	CodeMalformed:     {"the transaction is malformed", "use the release that the network runs", nil},
	CodeNetwork:       {"the transaction is for another network", "check --chain", nil},
	CodeSignature:     {"the signature does not verify", "check the keystore", ErrSignature},
	CodeNonce:         {"the nonce is not the account's next one", "another process may use the same key; one at a time", nil},
	CodeFunds:         {"the balance is too low", "send coins to the account first (on a local network: sn3 faucet)", chain.ErrFunds},
	CodeNotRegistered: {"the hotkey has no seat", "register it: sn3 register", chain.ErrNotRegistered},
	CodeNoSeat:        {"all seats are taken", "wait for a seat or raise the network's limit", nil},
	CodeRecord:        {"the record is too long", "shorten the locator", nil},
	CodeRateLimited:   {"this operation was done too recently", "wait some blocks", chain.ErrRateLimited},
	CodeWeights:       {"the weight row is invalid", "uids must be taken seats, ascending", nil},
	CodeNoPermit:      {"the hotkey has no validator permit", "permits come with stake", nil},
	CodeSelfTransfer:  {"sender and receiver are the same, or the amount is 0", "nothing to do", nil},
	CodeUnavailable:   {"the node does not take transactions now", "try again", chain.ErrUnavailable},
}

// TxError is a refused transaction.
type TxError struct{ Code Code }

// Error says what was refused and what to do next.
func (e *TxError) Error() string {
	t, ok := codeTexts[e.Code]
	if !ok {
		return fmt.Sprintf("transaction refused with code %d", e.Code)
	}
	return fmt.Sprintf("transaction refused: %s; %s", t.what, t.hint)
}

// Unwrap is the sentinel of package chain that the code stands for, if any.
func (e *TxError) Unwrap() error { return codeTexts[e.Code].is }

// Err is nil for CodeOK, else a *TxError.
func (c Code) Err() error {
	if c == CodeOK {
		return nil
	}
	return &TxError{c}
}
