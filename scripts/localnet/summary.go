package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"sort"
	"strings"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/hf"
	"sn3/model/sample"
	"sn3/model/tokenizer"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
)

// Conditions of the exit status (the README's table says the same).
const (
	bigramFrom = 24 // windows from which the loss must be below the bigram model's
	order0From = 8  // windows from which it must be below order-0's
	finalTest  = 2048
)

// Summary is summary.json; docs/SUMMARY.md describes it.
type Summary struct {
	Version   string            `json:"version"`
	Network   string            `json:"network"`
	Settings  netdir.Settings   `json:"settings"`
	Run       *chain.Run        `json:"run"`
	Platform  string            `json:"platform"`
	Windows   []WindowSummary   `json:"windows"`
	Hotkeys   []HotkeySummary   `json:"hotkeys"`
	Baselines data.Baselines    `json:"baselines"`
	FinalLoss float64           `json:"final_loss"` // of the newest checkpoint, on the same held-out samples as the baselines
	Final     chain.Window      `json:"final_window"`
	Samples   map[string]string `json:"samples"`
	Failures  []string          `json:"failures"`
}

// WindowSummary is one window.
type WindowSummary struct {
	Window       chain.Window       `json:"window"`
	Block        chain.Block        `json:"block"`
	Loss         float64            `json:"held_out_loss"` // on the small fixed set, nats per token
	Winners      []string           `json:"winners"`
	Bytes        map[string]int64   `json:"payload_bytes"`
	Ratio        float64            `json:"payload_ratio"`
	TokensPerSec float64            `json:"tokens_per_second"`
	EarlySteps   int                `json:"early_steps"`
	Scores       map[string]float64 `json:"scores"`
	Root         string             `json:"root"`
	Agreed       bool               `json:"agreed"`
}

// HotkeySummary is one seat at the end.
type HotkeySummary struct {
	Name      string       `json:"name"`
	UID       chain.UID    `json:"uid"`
	Hotkey    chain.Hotkey `json:"hotkey"`
	Permit    bool         `json:"validator_permit"`
	Stake     chain.Amount `json:"stake"`
	Score     float64      `json:"score"`  // mean over the last windows
	Weight    float64      `json:"weight"` // newest, mean over validators, of 65535
	Incentive uint16       `json:"incentive"`
	Dividends uint16       `json:"dividends"`
	Emission  chain.Amount `json:"emission"`
	Earned    chain.Amount `json:"earned"`
	Balance   chain.Amount `json:"balance"`
}

// ErrVerdict: the network ran, but not as it should.
var ErrVerdict = errors.New("the network did not do what it should")

// summarise writes summary.json and the pictures, prints the summary, and says whether the run was good. It starts chain and
// S3 again for as long as it needs them.
func (n *network) summarise(ctx context.Context, ended error) (verdict, err error) {
	s := &Summary{Version: proc.Version, Network: n.set.Network, Settings: n.set, Run: n.run, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Samples: map[string]string{}, Failures: []string{}}
	w := newWatch(n)
	w.next = 0
	if err := w.read(); err != nil {
		return nil, err
	}
	n.windowsInto(s, w)
	srv, err := netdir.StartServers(ctx, n.dir, n.rt, n.set.Nodes)
	if err != nil {
		return nil, fmt.Errorf("sum up: %w", err)
	}
	defer srv.Close()
	if err := n.hotkeysInto(ctx, s, srv, w); err != nil {
		return nil, fmt.Errorf("sum up: %w", err)
	}
	if err := n.lossInto(ctx, s, srv); err != nil {
		s.Failures = append(s.Failures, "no final loss: "+err.Error())
	}
	n.judge(s, w)
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write summary: %w", err)
	}
	if err := replica.WriteFile(n.dir.Path("summary.json"), append(raw, '\n')); err != nil {
		return nil, err
	}
	if err := plots(n.dir, s); err != nil {
		return nil, err
	}
	n.print(s)
	if len(s.Failures) > 0 && ended == nil {
		return fmt.Errorf("%w: %s", ErrVerdict, strings.Join(s.Failures, "; ")), nil
	}
	return nil, nil
}

func (n *network) windowsInto(s *Summary, w *watch) {
	names := n.names()
	var order []chain.Window
	for win := range w.rows {
		order = append(order, win)
	}
	sort.Slice(order, func(i, j int) bool { return order[i] < order[j] })
	per := float64(n.run.Schedule.Length) * blockTime.Seconds()
	for _, win := range order {
		r := w.rows[win]
		if len(r.Roots) == 0 {
			continue
		}
		_, agreed := r.agreed(len(w.tails))
		x := WindowSummary{Window: win, Block: r.Block, Loss: r.Loss, Bytes: r.Bytes, Ratio: r.Ratio, TokensPerSec: float64(r.Tokens) / per,
			EarlySteps: r.Early, Scores: map[string]float64{}, Root: r.root().String(), Agreed: agreed, Winners: []string{}}
		for _, h := range r.Winners {
			x.Winners = append(x.Winners, name(names, h.String()))
		}
		for h, v := range r.Scores {
			x.Scores[name(names, h)] = v
		}
		s.Windows = append(s.Windows, x)
	}
}

func (n *network) names() map[string]string {
	out := map[string]string{}
	for _, x := range n.set.Nodes {
		out[x.Hotkey.String()] = x.Name
	}
	return out
}

func name(names map[string]string, hotkey string) string {
	if x := names[hotkey]; x != "" {
		return x
	}
	return hotkey[:min(8, len(hotkey))]
}

func (n *network) hotkeysInto(ctx context.Context, s *Summary, srv *netdir.Servers, w *watch) error {
	n.rt.Chain = srv.Chain
	client, err := dial(srv.Chain)
	if err != nil {
		return err
	}
	st, err := client.Status(ctx)
	if err != nil {
		return err
	}
	meta, err := client.Snapshot(ctx, st.Height)
	if err != nil {
		return err
	}
	names := n.names()
	weights := n.newestWeights()
	for _, x := range meta.Neurons {
		h := HotkeySummary{Name: name(names, x.Hotkey.String()), UID: x.UID, Hotkey: x.Hotkey, Permit: x.Permit, Stake: x.Stake, Weight: weights[x.Hotkey.String()],
			Incentive: x.Incentive, Dividends: x.Dividends, Emission: x.Emission, Earned: x.Earned, Balance: x.Balance}
		count := 0
		for i := max(0, len(s.Windows)-8); i < len(s.Windows); i++ {
			if v, ok := s.Windows[i].Scores[h.Name]; ok {
				h.Score += v
				count++
			}
		}
		h.Score /= math.Max(1, float64(count))
		s.Hotkeys = append(s.Hotkeys, h)
	}
	return nil
}

// newestWeights are the validators' last weight rows, averaged.
func (n *network) newestWeights() map[string]float64 {
	out := map[string]float64{}
	rows := 0
	for _, m := range n.nodes {
		if m.Role != "validator" {
			continue
		}
		list, err := events.NewTail(n.dir.NodePath(m.Name, "data")).Next()
		if err != nil {
			continue
		}
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].Kind == events.Weights {
				for h, v := range list[i].Scores {
					out[h] += v
				}
				rows++
				break
			}
		}
	}
	for h := range out {
		out[h] /= float64(rows)
	}
	return out
}

// lossInto measures the newest checkpoint against the count models on the same held-out samples, and lets the first and the
// newest checkpoint write something.
func (n *network) lossInto(ctx context.Context, s *Summary, srv *netdir.Servers) error {
	policy := storage.DialPolicy{Loopback: true, LocalPort: srv.S3Port}
	l, err := storage.ParseLocator(n.run.Dataset.Locator)
	if err != nil {
		return err
	}
	b, err := storage.Open(l, nil, policy)
	if err != nil {
		return err
	}
	d, err := data.Open(ctx, b, n.run.Dataset, "", n.run.Model.Seq)
	if err != nil {
		return err
	}
	seed := []byte("sn3/final/1")
	if s.Baselines, err = d.Baselines(ctx, seed, finalTest); err != nil {
		return fmt.Errorf("count models: %w", err)
	}
	l, err = storage.Local("validator-1")
	if err != nil {
		return err
	}
	own, err := storage.Open(l, nil, policy)
	if err != nil {
		return err
	}
	cfg := replica.ModelConfig(n.run)
	layout, err := model.NewLayout(cfg)
	if err != nil {
		return err
	}
	first := model.NewFlat(layout)
	first.Init(n.run.Seed)
	windows := checkpoints(ctx, own)
	if len(windows) == 0 {
		return errors.New("validator-1 has no checkpoint")
	}
	s.Final = windows[len(windows)-1]
	raw, err := own.Get(ctx, fmt.Sprintf("checkpoint/%d/model.safetensors", s.Final), int64(4*layout.Params())+1<<20)
	if err != nil {
		return err
	}
	last, err := hf.ReadModel(bytes.NewReader(raw), int64(len(raw)), cfg)
	if err != nil {
		return err
	}
	if s.FinalLoss, err = heldOut(ctx, d, cfg, last, seed); err != nil {
		return err
	}
	for key, w := range map[string]*model.Flat{"first": first, "last": last} {
		if s.Samples[key], err = write(ctx, cfg, w); err != nil {
			return err
		}
	}
	return nil
}

func write(ctx context.Context, c model.Config, w *model.Flat) (string, error) {
	g, err := sample.New(c, w)
	if err != nil {
		return "", err
	}
	tok, err := tokenizer.New("bytes")
	if err != nil {
		return "", err
	}
	const prompt = "func "
	ids, err := g.Generate(ctx, tok.Encode(nil, []byte(prompt)), sample.Options{Tokens: 160, Temperature: 0.6, Seed: 1})
	if err != nil {
		return "", err
	}
	return strings.ToValidUTF8(prompt+string(tok.Decode(nil, ids)), "�"), nil
}

// judge applies the conditions of the exit status.
func (n *network) judge(s *Summary, w *watch) {
	for _, x := range s.Windows {
		if !x.Agreed {
			s.Failures = append(s.Failures, fmt.Sprintf("nodes disagreed on window %d", x.Window))
		}
	}
	if k := len(s.Windows); k > 0 {
		if last := w.rows[s.Windows[k-1].Window]; len(last.Roots) < len(w.tails) {
			for name := range w.tails {
				if _, ok := last.Roots[name]; !ok {
					s.Failures = append(s.Failures, fmt.Sprintf("%s never applied window %d", name, last.Window))
				}
			}
		}
	}
	if len(w.diverge) > 0 {
		s.Failures = append(s.Failures, "diverged: "+strings.Join(w.diverge, ", "))
	}
	windows := len(s.Windows)
	switch {
	case windows >= bigramFrom && !(s.FinalLoss < s.Baselines.Bigram):
		s.Failures = append(s.Failures, fmt.Sprintf("held-out loss %.3f is not below the bigram model's %.3f", s.FinalLoss, s.Baselines.Bigram))
	case windows >= order0From && !(s.FinalLoss < s.Baselines.Order0):
		s.Failures = append(s.Failures, fmt.Sprintf("held-out loss %.3f is not below order-0's %.3f", s.FinalLoss, s.Baselines.Order0))
	}
	if mine := s.Windows; len(mine) == 0 || mine[len(mine)-1].Window < n.from+4 {
		return // too short for an epoch to pay by this run's ratings
	}
	earned := false
	for _, h := range s.Hotkeys {
		now := h.Earned - min(h.Earned, n.earned[h.Hotkey])
		if h.Name == "idle-1" && now > 0 {
			s.Failures = append(s.Failures, fmt.Sprintf("the idle hotkey earned %s", now))
		}
		earned = earned || strings.HasPrefix(h.Name, "miner-") && now > 0
	}
	if !earned {
		s.Failures = append(s.Failures, "no miner was paid")
	}
}

func (n *network) print(s *Summary) {
	if s.FinalLoss > 0 {
		fmt.Printf("Held-out loss after window %d: %.4f nats per byte (order-0 %.3f, bigram %.3f, order-2 %.3f)\n", s.Final, s.FinalLoss,
			s.Baselines.Order0, s.Baselines.Bigram, s.Baselines.Order2)
	}
	fmt.Printf("\n  %-12s %6s %8s %8s %10s %14s %14s\n", "", "uid", "score", "weight", "incentive", "earned", "balance")
	for _, h := range s.Hotkeys {
		fmt.Printf("  %-12s %6d %8.0f %8.0f %10.3f %14s %14s\n", h.Name, h.UID, h.Score, h.Weight, float64(h.Incentive)/65535, short(h.Earned), short(h.Balance))
	}
	for _, k := range []string{"first", "last"} {
		if t := s.Samples[k]; t != "" {
			fmt.Printf("\nThe model before its first window and after its last one (%s):\n%s\n", k, indent(t))
		}
	}
	if len(s.Failures) > 0 {
		fmt.Printf("\nNOT as it should be:\n")
		for _, f := range s.Failures {
			fmt.Printf("  - %s\n", f)
		}
	}
	dir := display(n.dir)
	fmt.Printf("\n%s has summary.json, loss.png and scores.png. Try:\n", dir)
	for _, c := range []string{"pull", "eval", "generate", "status", "why miner-1"} {
		fmt.Printf("  bin/sn3 --local %s %s\n", dir, c)
	}
}

// display is the folder as a person would type it here.
func display(d netdir.Dir) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, ok := strings.CutPrefix(string(d), wd+string(os.PathSeparator)); ok {
			return rel
		}
	}
	return string(d)
}

func short(a chain.Amount) string { return fmt.Sprintf("%.4f", float64(a)/float64(chain.RaoPerCoin)) }

func indent(s string) string { return "  | " + strings.ReplaceAll(s, "\n", "\n  | ") }
