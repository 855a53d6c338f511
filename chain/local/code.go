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
	CodeKind
	CodeNotOwner
	CodeNotSubnetOwner
	CodePrice
	CodeCommitReveal
	CodeNoCommitReveal
	CodeVersionKey
	CodeCommitVersion
	CodeCommits
	CodeRound
	CodeCommit
	CodeFewWeights
	CodeMinStake
	CodeAmount
	CodeStake
	CodeUnbonding
	CodeTake
	CodeParam
	CodeValidator
	CodeBeacon
	CodeUpgrade
	CodeDuplicate
	CodeMaxWeight
	CodeMember
	CodeNoHotkey
	consensusCodes

	// CodeUnavailable: the node does not take transactions now. Not a consensus code.
	CodeUnavailable Code = 1 << 16
)

type codeText struct {
	what, hint string
	name       string // the error's name on Subtensor, where it has one
	is         error
}

var codeTexts = map[Code]codeText{
	CodeMalformed:      {"the transaction is malformed", "use the release that the network runs", "", nil},
	CodeNetwork:        {"the transaction is for another network", "check --chain", "", nil},
	CodeSignature:      {"the signature does not verify", "check the keystore", "BadProof", ErrSignature},
	CodeNonce:          {"the nonce is not the account's next one", "another process may use the same key; one at a time", "Stale", nil},
	CodeFunds:          {"the balance is too low", "send coins to it (on a local network: sn3 faucet); who pays an account that is new pays account_cost besides: see sn3 chain params", "NotEnoughBalanceToStake", chain.ErrFunds},
	CodeNotRegistered:  {"the hotkey has no seat", "register it: sn3 register", "HotKeyNotRegisteredInSubNet", chain.ErrNotRegistered},
	CodeNoSeat:         {"all seats are taken by hotkeys that cannot be replaced now", "wait until one is no longer immune", "NoNeuronIdAvailable", nil},
	CodeRecord:         {"the record is too long", "shorten the locator", "SpaceLimitExceeded", nil},
	CodeRateLimited:    {"this operation was done too recently", "wait some blocks", "SettingWeightsTooFast", chain.ErrRateLimited},
	CodeWeights:        {"the weight row is invalid", "uids must be taken seats, ascending", "UidVecContainInvalidOne", nil},
	CodeNoPermit:       {"the hotkey has no validator permit", "permits come with stake", "NeuronNoValidatorPermit", nil},
	CodeSelfTransfer:   {"sender and receiver are the same, or the amount is 0", "nothing to do", "", nil},
	CodeKind:           {"the chain's rules do not have this operation yet", "it comes with a later version of the rules: see sn3 chain status", "", nil},
	CodeNotOwner:       {"the hotkey belongs to another coldkey", "sign with the coldkey that owns it", "NonAssociatedColdKey", nil},
	CodeNotSubnetOwner: {"only the subnet's owner may do this", "sign with the owner's key, which the genesis names", "BadOrigin", nil},
	CodePrice:          {"a registration costs more than the limit that was given", "wait until it is cheaper, or raise the limit", "RegistrationPriceLimitExceeded", nil},
	CodeCommitReveal:   {"weights must be committed on this network", "use a client that commits (the validator does)", "CommitRevealEnabled", nil},
	CodeNoCommitReveal: {"weights are set in the open on this network", "use a client that sets them", "CommitRevealDisabled", nil},
	CodeVersionKey:     {"the validator's version is older than the network demands", "install the newest release", "IncorrectWeightVersionKey", nil},
	CodeCommitVersion:  {"the commitment has another form than the network's", "install the newest release", "IncorrectCommitRevealVersion", nil},
	CodeCommits:        {"too many commitments of this hotkey wait to be revealed", "wait for the next epoch", "TooManyUnrevealedCommits", chain.ErrRateLimited},
	CodeRound:          {"the round at which the commitment opens is not in its reveal epoch", "sign anew", "InvalidRevealRound", nil},
	CodeCommit:         {"the commitment has no possible length", "use the release that the network runs", "", nil},
	CodeFewWeights:     {"the weight row has too few entries", "weigh more neurons", "WeightVecLengthIsLow", nil},
	CodeMinStake:       {"the stake is too low to set weights", "stake more on the hotkey", "NotEnoughStakeToSetWeights", nil},
	CodeAmount:         {"the amount is too low", "a stake has min_stake at least: see sn3 chain params", "AmountTooLow", nil},
	CodeStake:          {"the stake is lower than that", "see sn3 chain hotkey for what there is", "NotEnoughStakeToWithdraw", chain.ErrFunds},
	CodeUnbonding:      {"too many withdrawals of this account are on their way", "wait for one to end", "", chain.ErrRateLimited},
	CodeTake:           {"the take is beyond the network's limits", "give a lower one", "DelegateTakeTooHigh", nil},
	CodeParam:          {"there is no such parameter, or the value is beyond its bounds", "see sn3 chain params", "InvalidValue", nil},
	CodeValidator:      {"the set of block makers cannot be changed so", "see sn3 chain validators", "", nil},
	CodeBeacon:         {"a beacon key cannot be made so", "one at a time, by validators with a beacon member, for a round far enough ahead: see chaind status and docs/chain.md", "", nil},
	CodeUpgrade:        {"the rules cannot be upgraded so", "name a higher version and a block far enough ahead", "", nil},
	CodeDuplicate:      {"the weight row names a neuron twice", "uids must be taken seats, ascending", "DuplicateUids", nil},
	CodeMaxWeight:      {"one entry of the weight row has too large a share", "spread the weights", "MaxWeightExceeded", nil},
	CodeMember:         {"the line's member card is not one, not its own, or another validator's", "copy the whole line that chaind status prints", "", nil},
	CodeNoHotkey:       {"no such hotkey has ever registered", "check the hotkey, or register it: sn3 register", "HotKeyAccountNotExists", chain.ErrNotRegistered},
	CodeUnavailable:    {"the node does not take transactions now", "it is full, or catches up (chaind status tells): try again in a minute, or name another node", "", chain.ErrUnavailable},
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

// Name is the error's name on Subtensor; "" where it has none.
func (e *TxError) Name() string { return codeTexts[e.Code].name }

// Unwrap is the sentinel of package chain that the code stands for, if any.
func (e *TxError) Unwrap() error { return codeTexts[e.Code].is }

// Err is nil for CodeOK, else a *TxError.
func (c Code) Err() error {
	if c == CodeOK {
		return nil
	}
	return &TxError{c}
}
