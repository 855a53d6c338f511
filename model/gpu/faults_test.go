package gpu

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
)

// first is a delta that keeps the first value of every chunk.
type first struct{}

func (first) Chunk(i int, idx []uint16, val []float32) int {
	idx[0], val[0] = 0, float32(i)-1.5
	return 1
}

// work trains two steps of growing batches and judges a delta on a card, and gives the bits of all that comes out.
func work(t *testing.T, library string, c model.Config) (bits string, err error) {
	opt := model.Options{Precision: model.BF16, MicroBatch: 2}
	x, err := New(Settings{Library: library}).NewTrainer(c, optimizer(), opt)
	if err != nil {
		return "", err
	}
	tr := x.(*Trainer)
	defer func() { err = errors.Join(err, tr.Close()) }()
	l, err := model.NewLayout(c)
	if err != nil {
		return "", err
	}
	w := model.NewFlat(l)
	w.Init(7)
	if err := tr.Reset(t.Context(), w); err != nil {
		return "", err
	}
	for i, b := range []model.Batch{batch(1, c, 1, 5), batch(2, c, 3, c.Seq)} {
		if _, err := tr.Train(t.Context(), endless{b}, model.Budget{First: uint64(i), Steps: 1}); err != nil {
			return "", err
		}
	}
	v := make([]float32, l.Params())
	if err := tr.Trained().Read(v, model.ChunkRange{To: l.Chunks()}); err != nil {
		return "", err
	}
	if err := tr.Save(io.Discard); err != nil {
		return "", err
	}
	y, err := New(Settings{Library: library}).NewJudge(c, opt)
	if err != nil {
		return "", err
	}
	j := y.(*Judge)
	defer func() { err = errors.Join(err, j.Close()) }()
	if err := j.Reset(t.Context(), w); err != nil {
		return "", err
	}
	losses, err := j.Losses(t.Context(), first{}, 0.1, [][]model.Batch{{batch(3, c, 3, 7)}})
	return fmt.Sprintf("%x %x", v, losses), err
}

// Blocks and warps in any order, streams at once or late: the bits of training and judging are the same, and nothing stays on the card.
func TestOrders(t *testing.T) {
	for _, name := range []string{"tied", "odd"} {
		var want string
		for _, o := range []string{"forward 1 0", "reverse 1 0", "random 1 0", "random 2 0", "forward 1 1", "random 3 1"} {
			card := standin.Load(t)
			for i, name := range []string{"order", "seed", "late"} {
				card.Set(t, name, strings.Fields(o)[i])
			}
			got, err := work(t, card.Path, shapes[name])
			if err != nil {
				t.Fatalf("%s, %s: %v", name, o, err)
			}
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s: other bits with blocks %s", name, o)
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
	card := standin.Load(t)
	if _, err := work(t, card.Path, shapes["odd"]); err != nil {
		t.Fatal(err)
	}
	asked := card.Report(t).Asked
	if asked < 5 {
		t.Fatalf("only %d allocations", asked)
	}
	for k := range asked {
		card := standin.Load(t)
		card.Set(t, "oom", fmt.Sprint(k+1))
		_, err := work(t, card.Path, shapes["odd"])
		if cuda.ErrorCode(err) != cuda.OutOfMemory || !strings.Contains(err.Error(), "bytes of the card, on which ") && !strings.Contains(err.Error(), "bytes of pinned memory; ") {
			t.Errorf("allocation %d: %v", k+1, err)
		}
		if left := card.Report(t).Left(); left != "" {
			t.Errorf("allocation %d: left on the card: %s", k+1, left)
		}
	}
}

// Every function of the driver that fails, at its first, middle or last call, is an error that names it; it never hangs or crashes.
func TestEveryCallOfTheDriverCanFail(t *testing.T) {
	c := shapes["odd"]
	card := standin.Load(t)
	if _, err := work(t, card.Path, c); err != nil {
		t.Fatal(err)
	}
	for name, n := range card.Report(t).Calls {
		if strings.HasPrefix(name, "cuGetError") || strings.HasPrefix(name, "sn3") || name == "cuFuncGetParamInfo" { // its failure says that there are no more
			continue
		}
		at := []int64{1, n/2 + 1, n}
		for _, k := range slices.Compact(at) {
			card := standin.Load(t)
			card.Set(t, "fail", fmt.Sprintf("%s:%d:719", name, k))
			_, err := work(t, card.Path, c)
			if e, ok := errors.AsType[*cuda.Error](err); !ok || e.Call != name || e.Code != cuda.LaunchFailed {
				t.Errorf("call %d of %d of %s: %v", k, n, name, err)
			}
		}
	}
}
