package chain

import "context"

// Reader reads final chain state. All methods are safe for concurrent use; errors wrap ErrPruned, ErrNotYet or
// ErrUnavailable where a caller can act on it.
type Reader interface {
	// Heads delivers final heads, contiguous and ascending, starting at or after the current head. A driver that loses
	// its node reconnects and fills the gap; the channel is closed when ctx ends.
	Heads(ctx context.Context) (<-chan Head, error)
	// Snapshot returns neurons, stake and records as of block b.
	Snapshot(ctx context.Context, b Block) (*Snapshot, error)
	// Beacon returns the verified randomness of round r; ErrNotYet before it exists.
	Beacon(ctx context.Context, r Round) ([]byte, error)
}

// Writer changes chain state for one hotkey. It is not safe to share one hotkey between two processes.
type Writer interface {
	// Publish overwrites the hotkey's one record and returns on finalized inclusion. It is idempotent: a record equal to
	// the published one is not sent again.
	Publish(ctx context.Context, r Record) (Receipt, error)
	// SetWeights replaces the hotkey's weight row; it hides plain, commit–reveal and timelocked forms.
	SetWeights(ctx context.Context, w []Weight) (Receipt, error)
}

// Registrar holds what an operator does once; never called in loops.
type Registrar interface {
	// Register burns the registration cost and takes a seat; a hotkey that has one gets the same uid back.
	Register(ctx context.Context) (UID, error)
	Transfer(ctx context.Context, to Coldkey, amount Amount) error
}

// Describer tells a joining node what it joins: the descriptor's bytes, already checked against the pinned hash.
type Describer interface {
	Describe(ctx context.Context) (*Run, error)
}

// Selector is offered by chains that compute the selection themselves; nodes compare it with their own.
type Selector interface {
	// Selection returns the selection of w; ErrNotYet before Select(w).
	Selection(ctx context.Context, w Window) (Selection, error)
}

// Verifier checks a signature by the account behind a hotkey over a domain-separated digest.
// Gossip, window files and checkpoints are signed; the chain authenticates records by itself.
type Verifier interface {
	Verify(h Hotkey, domain string, digest Hash, sig []byte) error
}

// Signer signs for one hotkey; see Verifier.
type Signer interface {
	Hotkey() Hotkey
	Sign(domain string, digest Hash) ([]byte, error)
}
