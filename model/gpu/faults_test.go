package gpu

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/standin"
)

// first is a delta that keeps the first value of every chunk.
type first struct{}

func (first) Chunk(i int, idx []uint16, val []float32) int {
	idx[0], val[0] = 0, float32(i)-1.5
	return 1
}

// life is what a trainer and a judge do in these tests.
type life struct {
	model.Config
	Settings
	micro int
}

// lives are those of every plan, with all that can be recomputed and with nothing, of whole batches and of parts; the model is odd.
func lives() []life {
	return []life{{shapes["odd"], Settings{}, 0}, {shapes["odd"], Settings{Plan: memory.Lean, Recompute: memory.Selective}, 1},
		{shapes["odd"], Settings{Plan: memory.Offload, Recompute: memory.Full}, 2}}
}

func (l life) String() string {
	return fmt.Sprint(cmp.Or(l.Plan, memory.Classic), ", recomputing ", cmp.Or(l.Recompute, memory.None))
}

// lead leads the life on a card and gives the bits of all that comes out: batches that grow, and stay so that what is done again is a graph; new
// parameters, saved state, a delta that is judged.
func (l life) lead(t *testing.T, library string) (bits string, err error) {
	l.Library = library
	opt := model.Options{Precision: model.BF16, MicroBatch: l.micro, Threads: 2}
	x, err := New(l.Settings).NewTrainer(l.Config, optimizer(), opt)
	if err != nil {
		return "", err
	}
	tr := x.(*Trainer)
	tr.net.stretch = 2 // parameters come and go in many parts
	defer func() { err = errors.Join(err, tr.Close()) }()
	w := model.NewFlat(tr.net.layout)
	w.Init(7)
	if err := tr.Reset(t.Context(), w); err != nil {
		return "", err
	}
	for i, size := range [][2]int{{1, 5}, {1, 5}, {3, l.Seq}, {3, l.Seq}, {3, l.Seq}, {1, 5}} {
		b := batch(uint64(i), l.Config, size[0], size[1])
		if _, err := tr.Train(t.Context(), endless{b}, model.Budget{First: uint64(i), Steps: 1}); err != nil {
			return "", err
		}
	}
	moved := model.NewFlat(tr.net.layout)
	moved.Init(8)
	if err := tr.Rebase(t.Context(), w, moved); err != nil {
		return "", err
	}
	v := make([]float32, tr.net.layout.Params())
	if err := tr.Trained().Read(v, tr.net.layout.All()); err != nil {
		return "", err
	}
	var saved bytes.Buffer
	if err := errors.Join(tr.Save(&saved), tr.Load(bytes.NewReader(saved.Bytes()))); err != nil {
		return "", err
	}
	y, err := New(l.Settings).NewJudge(l.Config, opt)
	if err != nil {
		return "", err
	}
	j := y.(*Judge)
	defer func() { err = errors.Join(err, j.Close()) }()
	if err := j.Reset(t.Context(), w); err != nil {
		return "", err
	}
	b := batch(3, l.Config, 3, 7)
	losses, err := j.Losses(t.Context(), first{}, 0.1, [][]model.Batch{{b, b, b}})
	return fmt.Sprintf("%x %x %x", v, saved.Bytes(), losses), err
}

// work is the life with the plan classic.
func work(t *testing.T, library string, c model.Config) (bits string, err error) {
	return life{c, Settings{}, 2}.lead(t, library)
}

// Blocks and warps in any order, streams at once or late: the bits of training and judging are the same, and nothing stays on the card.
func TestOrders(t *testing.T) {
	for _, l := range append(lives(), life{shapes["tied"], Settings{}, 2}) {
		var want string
		for _, o := range []string{"forward 1 0", "reverse 1 0", "random 1 0", "forward 1 1", "random 2 1"} {
			card := standin.Load(t)
			for i, name := range []string{"order", "seed", "late"} {
				card.Set(t, name, strings.Fields(o)[i])
			}
			got, err := l.lead(t, card.Path)
			if err != nil {
				t.Fatalf("%v, %s: %v", l, o, err)
			}
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%v: other bits with blocks %s", l, o)
			}
			if standin.Real() {
				continue
			}
			if left := card.Report(t).Left(); left != "" {
				t.Errorf("left on the card: %s", left)
			}
		}
	}
}

// Without memory at the k-th allocation, whichever, the error says so, and nothing stays on the card.
func TestOutOfMemoryAtEveryAllocation(t *testing.T) {
	for _, l := range lives() {
		card := standin.Load(t)
		if _, err := l.lead(t, card.Path); err != nil {
			t.Fatalf("%v: %v", l, err)
		}
		asked := card.Report(t).Asked
		if asked < 5 {
			t.Fatalf("%v: only %d allocations", l, asked)
		}
		for k := range asked {
			card := standin.Load(t)
			card.Set(t, "oom", fmt.Sprint(k+1))
			_, err := l.lead(t, card.Path)
			if cuda.ErrorCode(err) != cuda.OutOfMemory || !strings.Contains(err.Error(), "bytes of the card, on which ") && !strings.Contains(err.Error(), "bytes of pinned memory; ") {
				t.Errorf("%v: allocation %d: %v", l, k+1, err)
			}
			if left := card.Report(t).Left(); left != "" {
				t.Errorf("%v: allocation %d: left on the card: %s", l, k+1, left)
			}
		}
	}
}

// Every function of the driver that fails, at its first, last or a middle call, is an error that names it, with offload also where the context is
// lost with it; it never hangs or crashes.
func TestEveryCallOfTheDriverCanFail(t *testing.T) {
	for which, l := range lives() {
		card := standin.Load(t)
		if _, err := l.lead(t, card.Path); err != nil {
			t.Fatalf("%v: %v", l, err)
		}
		for name, n := range card.Report(t).Calls {
			if strings.HasPrefix(name, "cuGetError") || strings.HasPrefix(name, "sn3") || name == "cuFuncGetParamInfo" { // its failure says that there are no more
				continue
			}
			at := []int64{1, n}
			if which > 0 { // most of a life is the same with every plan
				at = []int64{n/2 + 1}
			}
			for _, k := range slices.Compact(at) {
				card := standin.Load(t)
				card.Set(t, "fail", fmt.Sprintf("%s:%d:719", name, k))
				card.Set(t, "lost", fmt.Sprint(which/2))
				card.Set(t, "late", fmt.Sprint(which/2))
				_, err := l.lead(t, card.Path)
				if e, ok := errors.AsType[*cuda.Error](err); !ok || e.Call != name || e.Code != cuda.LaunchFailed {
					t.Errorf("%v: call %d of %d of %s: %v", l, k, n, name, err)
				}
			}
		}
	}
}
