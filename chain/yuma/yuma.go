// Package yuma turns validators' weights into incentive, dividends and emission: Subtensor's epoch, bit for bit, as Yuma2
// and as Yuma3, with liquid alpha or without. Epoch is a pure function; its steps have the numbers of golden/README.md
// ("yuma"), which says in words and figures what each does. Integers only: no float, no map order, no clock. Time and
// memory grow with the number of entries in the rows, not with its square.
package yuma

import (
	"errors"
	"fmt"
)

// ErrInput: vectors of different lengths, ids out of range, or more neurons than a uid can number.
var ErrInput = errors.New("yuma: invalid input")

// maxNeurons is what a uid of 16 bits can number.
const maxNeurons = 1 << 16

// Rules says whose epoch is run. The arithmetic is the same in both; they differ in whom masks and permits spare.
type Rules uint8

const (
	// Spec425 is the newest rule set: the owner's neuron always has a permit and passes the stake threshold; weights on a
	// neuron that registered after their author's earliest unrevealed commit are dropped (Input.EarliestCommit); and stored
	// bonds are dropped on what registered since the last epoch (Input.LastEpoch), not within the last tempo.
	Spec425 Rules = iota
	// Spec293 is the runtime that the reference vectors were read out of.
	Spec293
)

// NoCommit in Input.EarliestCommit: the neuron has no unrevealed commit.
const NoCommit = ^uint64(0)

// Entry is one sparse entry: a neuron and a u16 value.
type Entry struct{ UID, Value uint16 }

// Child hands a proportion/(2^64-1) of a parent's stakes to a child.
type Child struct {
	Parent, Child int
	Proportion    uint64
}

// Params are the subnet's hyperparameters; proportions are u16 of 65535.
type Params struct {
	Rules               Rules
	Yuma3               bool
	LiquidAlpha         bool // part of Yuma3: without it the flag changes nothing
	Tempo               uint64
	Kappa               uint16
	BondsMovingAverage  uint64 // millionths; alpha of the moving average is 1 minus it
	BondsPenalty        uint16
	AlphaLow, AlphaHigh uint16 // bounds of the liquid alpha
	SigmoidSteepness    int16  // of the liquid alpha, hundredths
	ActivityCutoff      uint64
	MaxValidators       int
	StakeThreshold      uint64
	TaoWeight           uint64 // of 2^64-1
	Owner               int    // uid of the owner's hotkey; -1 if not registered
	Emission            uint64 // rao to hand out
}

// Input is the state of a subnet; all vectors have one entry per neuron.
type Input struct {
	Params
	Block                    uint64
	LastEpoch                uint64 // block of the last epoch; 0 if there was none (Spec425)
	RegisteredAt, LastUpdate []uint64
	EarliestCommit           []uint64 // block of the earliest unrevealed commit, or NoCommit; nil without commit-reveal (Spec425)
	AlphaStake, TaoStake     []uint64 // rao, before children
	Children                 []Child
	Permit                   []bool // of the previous epoch; they count in this one
	Weights, Bonds           [][]Entry
}

// Output is what the epoch stores. It shares no memory with the input.
type Output struct {
	Active                                               []bool
	StakeWeight, Consensus, Incentive, Dividends, VTrust []uint16
	Permit                                               []bool
	Emission                                             []uint64 // rao; the sum is at most Input.Emission
	Server, Validator                                    []uint64 // of Emission, for incentive and for dividends, each rounded down
	Bonds                                                [][]Entry
}

// epoch carries the intermediate values from step to step.
type epoch struct {
	in          Input
	n           int
	out         Output
	s, a        []fixed // stake, active stake
	w, clip     matrix  // normalised weights, the same clipped to consensus
	cons, trust []fixed
	rank, inc   []fixed // before and after normalisation
	forBonds    matrix  // the weights that make bonds
	old, bonds  matrix  // the stored bonds, and those to store
	div, share  []fixed
}

// Epoch runs one epoch.
func Epoch(in Input) (Output, error) {
	if err := in.check(); err != nil {
		return Output{}, err
	}
	e := &epoch{in: in, n: len(in.RegisteredAt)}
	e.run()
	return e.out, nil
}

func (e *epoch) run() {
	e.stake()
	e.activity()        // 1
	e.permits()         // 2
	e.activeStake()     // 3
	e.weights()         // 4
	e.consensus()       // 5
	e.clipped()         // 6
	e.incentive()       // 7
	e.weightsForBonds() // 8
	e.matured()         // 9
	if e.in.Yuma3 {
		e.yuma3() // 11
	} else {
		e.yuma2() // 10
	}
	e.emission()   // 12
	e.storeBonds() // 13
}

// check refuses what has no meaning. Entries whose uid no neuron has are not an error: they are dropped.
func (in *Input) check() error {
	n := len(in.RegisteredAt)
	if n > maxNeurons {
		return fmt.Errorf("%w: %d neurons, at most %d", ErrInput, n, maxNeurons)
	}
	lengths := []int{len(in.LastUpdate), len(in.AlphaStake), len(in.TaoStake), len(in.Permit), len(in.Weights), len(in.Bonds)}
	if in.EarliestCommit != nil {
		lengths = append(lengths, len(in.EarliestCommit))
	}
	for _, l := range lengths {
		if l != n {
			return fmt.Errorf("%w: vectors of %d and %d neurons", ErrInput, n, l)
		}
	}
	for _, c := range in.Children {
		if c.Parent < 0 || c.Parent >= n || c.Child < 0 || c.Child >= n {
			return fmt.Errorf("%w: child link %d -> %d of %d neurons", ErrInput, c.Parent, c.Child, n)
		}
	}
	if in.Rules > Spec293 {
		return fmt.Errorf("%w: unknown rules %d", ErrInput, in.Rules)
	}
	return nil
}

// spared says whether i is the neuron that the newer rules let pass the stake threshold and give a permit.
func (e *epoch) spared(i int) bool { return e.in.Rules == Spec425 && i == e.in.Owner }

// permitted says whether i counts as a validator in this epoch.
func (e *epoch) permitted(i int) bool { return e.in.Permit[i] || e.spared(i) }
