package plan

import (
	"fmt"
	"io"
	"text/tabwriter"

	"sn3/model/gpu/memory"
)

// Card is what a node takes of a card. sn3 plan, a miner's log and its doctor use the same words and figures for it.
type Card struct {
	Name    string         // of its kind, or as the driver names it
	Request memory.Request // plan, recomputation and micro-batch are chosen
	Memory  int64          // bytes of the card
	Allowed int64          // of them, what may be taken
}

// Parts are the regions of what is allocated once.
func (c Card) Parts() (out []Line) {
	for _, x := range c.Request.Arena().Parts() {
		out = append(out, Line(x))
	}
	return out
}

// Words name what was chosen: a validator has no plan.
func (c Card) Words() string {
	if c.Request.Judge {
		return fmt.Sprintf("micro-batch %d", c.Request.MicroBatch)
	}
	return fmt.Sprintf("plan %s, recompute %s, micro-batch %d", c.Request.Plan, c.Request.Recompute, c.Request.MicroBatch)
}

// Size is what is taken.
func (c Card) Size() int64 { return c.Request.Arena().Size }

// Of says of how much.
func (c Card) Of() string {
	return fmt.Sprintf("%s: %.0f %% of %s", GB(c.Allowed), c.percent(), GB(c.Memory))
}

func (c Card) percent() float64 { return 100 * float64(c.Allowed) / float64(max(1, c.Memory)) }

// Write prints it.
func (c Card) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%s: %s\n", c.Name, c.Words())
	for _, l := range c.Parts() {
		fmt.Fprintf(t, "  %s\t%s\t\n", pad(l.Name), GB(l.Bytes))
	}
	fmt.Fprintf(t, "  %s\t%s\t of %s\n", pad("in all, allocated once"), GB(c.Size()), c.Of())
	return t.Flush()
}

// CardTooSmall: a node that computes on one card does not fit there. More cards are no change that it could make.
type CardTooSmall struct {
	Card Card
	Err  *memory.TooLarge
}

// Error implements error. It says what to change.
func (e *CardTooSmall) Error() string {
	advice := "no setting makes it fit on one card: use a card with more memory, train a smaller model, or train on the CPU"
	if e.Err.Change != nil && e.Err.Change.Ranks == 1 {
		advice = e.Err.Advice()
	}
	return fmt.Sprintf("%s: %s needs %s, %s may be taken (%.0f %% of %s): %s", e.Card.Name, e.Card.Words(), GB(e.Err.Need), GB(e.Err.Have), e.Card.percent(), GB(e.Card.Memory), advice)
}

// Unwrap is the refusal of the card's memory.
func (e *CardTooSmall) Unwrap() error { return e.Err }

// GB writes bytes in the unit of cards.
func GB(n int64) string {
	switch {
	case n < 1e6:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	case n < 1e8:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
