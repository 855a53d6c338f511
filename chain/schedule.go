package chain

import "fmt"

// Phase is a boundary of a window (DESIGN §4).
type Phase uint8

// The phases of a window in order of their boundaries.
const (
	PhaseSeed     Phase = iota // beacon value that fixes the data assignment
	PhaseStart                 // miners train from here
	PhaseDeadline              // after End: records published by here count
	PhaseScoreBy               // votes published by here count
	PhaseSelect                // chain.Select runs on what was final at ScoreBy
	PhaseApply                 // every node should have applied the outer step by here
	phases
)

var phaseNames = [phases]string{"seed", "start", "deadline", "score-by", "select", "apply"}

// String is the phase's name in logs.
func (p Phase) String() string {
	if p >= phases {
		return fmt.Sprintf("phase(%d)", uint8(p))
	}
	return phaseNames[p]
}

// ScheduleParams are the numbers of a Schedule, in blocks. Deadline, ScoreBy, Select and Apply count from End(w).
type ScheduleParams struct {
	First    Block `json:"first"`    // Start(0)
	Length   Block `json:"length"`   // blocks per window
	Lead     Block `json:"lead"`     // Seed(w) = Start(w) - Lead
	Deadline Block `json:"deadline"` // Deadline(w) = End(w) + Deadline
	ScoreBy  Block `json:"score_by"`
	Select   Block `json:"select"`
	Apply    Block `json:"apply"`
}

// Validate refuses a schedule whose phases are out of order or whose Apply(w) is not before End(w+1).
func (p ScheduleParams) Validate() error {
	switch {
	case p.Length == 0:
		return fmt.Errorf("schedule: length is 0 blocks")
	case p.Lead == 0 || p.Lead > p.First:
		return fmt.Errorf("schedule: lead %d must be between 1 and first %d", p.Lead, p.First)
	case p.Lead >= p.Length:
		return fmt.Errorf("schedule: lead %d must be shorter than a window of %d", p.Lead, p.Length)
	case !(0 < p.Deadline && p.Deadline < p.ScoreBy && p.ScoreBy < p.Select && p.Select < p.Apply):
		return fmt.Errorf("schedule: want 0 < deadline < score_by < select < apply, got %d %d %d %d",
			p.Deadline, p.ScoreBy, p.Select, p.Apply)
	case p.Apply >= p.Length:
		return fmt.Errorf("schedule: apply %d must be before the end of the next window, %d", p.Apply, p.Length)
	case p.First > 1<<40 || p.Length > 1<<32:
		return fmt.Errorf("schedule: first %d or length %d is beyond any use", p.First, p.Length)
	}
	return nil
}

// Schedule maps windows and phases to blocks and back. It is pure arithmetic.
type Schedule struct{ p ScheduleParams }

// NewSchedule checks p.
func NewSchedule(p ScheduleParams) (Schedule, error) { return Schedule{p}, p.Validate() }

// Params returns the numbers the schedule was made from.
func (s Schedule) Params() ScheduleParams { return s.p }

// At is the block of w's boundary ph. Windows beyond 2^20 years of blocks are not supported.
func (s Schedule) At(w Window, ph Phase) Block {
	start := s.p.First + Block(w)*s.p.Length
	end := start + s.p.Length
	switch ph {
	case PhaseSeed:
		return start - s.p.Lead
	case PhaseStart:
		return start
	case PhaseDeadline:
		return end + s.p.Deadline
	case PhaseScoreBy:
		return end + s.p.ScoreBy
	case PhaseSelect:
		return end + s.p.Select
	}
	return end + s.p.Apply
}

// End is the first block after w's training: Start(w+1).
func (s Schedule) End(w Window) Block { return s.At(w+1, PhaseStart) }

// Round is the beacon round of w's boundary; on the local chain the height of the boundary.
func (s Schedule) Round(w Window, ph Phase) Round { return Round(s.At(w, ph)) }

// Training is the window whose training interval [Start, End) holds b; false before the first.
func (s Schedule) Training(b Block) (Window, bool) {
	if b < s.p.First {
		return 0, false
	}
	return Window((b - s.p.First) / s.p.Length), true
}

// Locate is the last boundary at or before b, over all windows; at a tie Start(w+1) wins, then the later window.
// Before the first Seed it answers (0, PhaseSeed).
func (s Schedule) Locate(b Block) (Window, Phase) {
	cur, ok := s.Training(b)
	if !ok {
		return 0, PhaseSeed
	}
	best, bw, bp := s.At(cur, PhaseStart), cur, PhaseStart
	consider := func(w Window, ph Phase) {
		if at := s.At(w, ph); at <= b && at > best {
			best, bw, bp = at, w, ph
		}
	}
	consider(cur+1, PhaseSeed)
	if cur > 0 {
		for ph := PhaseDeadline; ph <= PhaseApply; ph++ {
			consider(cur-1, ph)
		}
	}
	return bw, bp
}

// Selected is the newest window whose Select boundary is at or before b; false before the first.
func (s Schedule) Selected(b Block) (Window, bool) {
	first := s.At(0, PhaseSelect)
	if b < first {
		return 0, false
	}
	return Window((b - first) / s.p.Length), true
}
