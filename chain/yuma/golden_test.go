package yuma

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// ran runs an epoch and keeps the intermediate values.
func ran(t testing.TB, what string, in Input) *epoch {
	t.Helper()
	if err := in.check(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	e := &epoch{in: in, n: len(in.RegisteredAt)}
	e.run()
	return e
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// stored compares every vector that the chain stores.
func stored(t testing.TB, what string, got Output, w jsonOut) {
	t.Helper()
	equal(t, what+": active", got.Active, w.Active)
	equal(t, what+": stake weight", got.StakeWeight, w.StakeWeight)
	equal(t, what+": consensus", got.Consensus, w.Consensus)
	equal(t, what+": incentive", got.Incentive, w.Incentive)
	equal(t, what+": dividends", got.Dividends, w.Dividends)
	equal(t, what+": validator trust", got.VTrust, w.VTrust)
	equal(t, what+": permits", got.Permit, w.Permit)
	equal(t, what+": emission", got.Emission, w.Emission)
	equal(t, what+": bonds", got.Bonds, entries(w.Bonds))
}

// olderValues compares what only the runtime of 293 stores or pays: these are no output of ours, but follow from it.
func olderValues(t testing.TB, what string, e *epoch, w jsonOut) {
	t.Helper()
	equal(t, what+": rank", e.out.Incentive, w.Rank)
	trust := e.w.times(e.a)
	for j, pre := range trust {
		trust[j] = e.rank[j].div(pre)
	}
	equal(t, what+": trust", proportions(trust), w.Trust)
	equal(t, what+": pruning scores", maxUpscale(e.share), w.Pruning)
	equal(t, what+": payout", payout(e), w.AlphaDelta)
}

// least fails where fewer cases are found than there are.
func least(t testing.TB, what string, found int, whole bool, all, committed int) {
	t.Helper()
	want := committed
	if whole {
		want = all
	}
	if found < want {
		t.Errorf("only %d %s were found of %d", found, what, want)
	}
	t.Logf("%d %s, every value equal", found, what)
}

// Every epoch of the real runtime, every value; and under the newer rules where they are said to give the same.
func TestGoldenEpochs(t *testing.T) {
	cases, whole := epochCases(t)
	same := 0
	for _, c := range cases {
		e := ran(t, c.Name, c.In.input(c.Params))
		stored(t, c.Name, e.out, c.Out)
		olderValues(t, c.Name, e, c.Out)
		if c.Same425 {
			stored(t, c.Name+" by 425", ran(t, c.Name, c.In.input425(c.Params)).out, c.Out)
			same++
		}
	}
	least(t, "epochs", len(cases), whole, 550, 219)
	least(t, "epochs under the rules of 425", same, whole, 508, 214)
}

// Several epochs in a row: bonds and permits are carried over from our own outputs.
func TestGoldenTraces(t *testing.T) {
	dir, whole := vectors(t)
	if !whole {
		t.Skip("the traces are not among the committed vectors; set GOLDEN=<folder> to run this test")
	}
	var set struct{ Traces []jsonTrace }
	readJSON(t, filepath.Join(dir, "traces.json.gz"), &set)
	steps := 0
	for _, tr := range set.Traces {
		p, in := tr.Params, tr.Initial
		for _, s := range tr.Epochs {
			s.apply(t, &p, &in)
			e := ran(t, tr.Name, in.input(p))
			stored(t, tr.Name, e.out, s.Out)
			olderValues(t, tr.Name, e, s.Out)
			if tr.Same425 {
				stored(t, tr.Name+" by 425", ran(t, tr.Name, in.input425(p)).out, s.Out)
			}
			in.Permit, in.Bonds = e.out.Permit, jsonRows(e.out.Bonds)
			steps++
		}
	}
	least(t, "traces", len(set.Traces), whole, 26, 0)
	least(t, "epochs of traces", steps, whole, 262, 0)
}

// The rules of 425. Each of its switches must matter in some case: without it a value differs.
func TestGolden425(t *testing.T) {
	dir, whole := vectors(t)
	var set struct{ Cases []jsonCase }
	readJSON(t, filepath.Join(dir, "derived-425.json.gz"), &set)
	switches := map[string]func(*Input){
		"the owner":           func(in *Input) { in.Owner = -1 },
		"the mask of commits": func(in *Input) { in.EarliestCommit = nil },
		"the last epoch":      func(in *Input) { in.LastEpoch = 0 },
		"the rules":           func(in *Input) { in.Rules = Spec293 },
	}
	matters := map[string]int{}
	for _, c := range set.Cases {
		in := c.In.input425(c.Params)
		e := ran(t, c.Name, in)
		stored(t, c.Name, e.out, c.Out)
		for name, off := range switches {
			without := in
			off(&without)
			if !reflect.DeepEqual(ran(t, c.Name, without).out, e.out) {
				matters[name]++
			}
		}
	}
	for name := range switches {
		if matters[name] < 10 {
			t.Errorf("%s matters in %d cases only", name, matters[name])
		}
	}
	least(t, "derived epochs", len(set.Cases), whole, 81, 81)
}

type jsonCells [][][2]int64

func cells(m matrix) jsonCells {
	out := make(jsonCells, len(m.ends))
	for i := range out {
		out[i] = [][2]int64{}
		for _, c := range m.row(i) {
			out[i] = append(out[i], [2]int64{int64(c.at), int64(c.v)})
		}
	}
	return out
}

func bitsOf(v []fixed) []int64 {
	out := make([]int64, len(v))
	for i, x := range v {
		out[i] = int64(x)
	}
	return out
}

// Every step of some epochs in units of 2^-32.
func TestGoldenIntermediates(t *testing.T) {
	dir, whole := vectors(t)
	var set struct {
		Cases []struct {
			Name  string
			Steps map[string]json.RawMessage
		}
	}
	readJSON(t, filepath.Join(dir, "intermediates.json"), &set)
	known, _ := epochCases(t)
	found, values := 0, 0
	for _, c := range set.Cases {
		at := slices.IndexFunc(known, func(k jsonCase) bool { return k.Name == c.Name })
		if at < 0 {
			if whole {
				t.Errorf("no epoch is called %s", c.Name)
			}
			continue
		}
		e := ran(t, c.Name, known[at].In.input(known[at].Params))
		for step, raw := range c.Steps {
			values += sameStep(t, c.Name+": "+step, e, step, raw)
		}
		found++
	}
	least(t, "epochs with all steps", found, whole, 13, 10)
	least(t, "steps", values, whole, 13*15, 10*15)
}

func sameStep(t *testing.T, what string, e *epoch, step string, raw json.RawMessage) int {
	t.Helper()
	vectors := map[string][]fixed{"stake": e.s, "active_stake": e.a, "consensus": e.cons, "validator_trust": e.trust,
		"preranks": e.w.times(e.a), "ranks_before_normalisation": e.rank, "incentive": e.inc, "dividends": e.div, "emission_share": e.share}
	matrices := map[string]matrix{"weights": e.w, "clipped_weights": e.clip, "weights_for_bonds": e.forBonds, "bonds_masked": e.old, "ema_bonds": e.bonds}
	var err error
	if v, ok := vectors[step]; ok {
		var want []int64
		err = json.Unmarshal(raw, &want)
		equal(t, what, bitsOf(v), want)
	} else if m, ok := matrices[step]; ok {
		var want jsonCells
		err = json.Unmarshal(raw, &want)
		equal(t, what, cells(m), want)
	} else if step == "kappa" {
		var want int64
		err = json.Unmarshal(raw, &want)
		equal(t, what, int64(proportionOf(e.in.Kappa)), want)
	} else {
		t.Errorf("%s is not known", what)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 1
}
