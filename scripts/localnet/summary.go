package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sort"
	"strings"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/node"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model/data"
	"sn3/scripts/localnet/netdir"
)

// Conditions of the exit status (the README's table says the same).
const (
	bigramFrom = 24 // windows from which the loss must be below the bigram model's
	order0From = 8  // windows from which it must be below order-0's

	finalTokens  = 256 << 10 // that the final loss is measured on
	promptTokens = 8
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
	FinalLoss float64           `json:"final_loss"` // of the newest checkpoint, on the same held-out samples as the baselines, nats per byte
	TokenLoss float64           `json:"final_loss_per_token"`
	Final     chain.Window      `json:"final_window"`
	Samples   map[string]string `json:"samples"`
	Failures  []string          `json:"failures"`
}

// WindowSummary is one window.
type WindowSummary struct {
	Window       chain.Window       `json:"window"`
	Block        chain.Block        `json:"block"`
	Loss         float64            `json:"held_out_loss"` // on the small fixed set, nats per byte
	TokenLoss    float64            `json:"held_out_loss_per_token"`
	Winners      []string           `json:"winners"`
	Bytes        map[string]int64   `json:"payload_bytes"`
	Ratio        float64            `json:"payload_ratio"`
	TokensPerSec float64            `json:"tokens_per_second"`
	EarlySteps   int                `json:"early_steps"`
	Scores       map[string]float64 `json:"scores"`
	Root         string             `json:"root"`
	Nodes        int                `json:"nodes"` // how many applied it
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

func newSummary(n *network) *Summary {
	return &Summary{Version: proc.Version, Network: n.set.Network, Settings: n.set, Run: n.run, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Windows: []WindowSummary{}, Hotkeys: []HotkeySummary{}, Samples: map[string]string{}, Failures: []string{}}
}

// finite replaces what JSON cannot hold: a model that went astray has a loss of NaN, and the summary must say so.
func (s *Summary) finite() {
	if math.IsNaN(s.FinalLoss) || math.IsInf(s.FinalLoss, 0) {
		s.Failures = append(s.Failures, fmt.Sprintf("the final loss is %v", s.FinalLoss))
		s.FinalLoss, s.TokenLoss = 0, 0
	}
}

// ErrVerdict: the network ran, but not as it should.
var ErrVerdict = errors.New("the network did not do what it should")

// summarise writes summary.json and the pictures, prints the summary, and says whether the run was good.
func (n *network) summarise(ctx context.Context, ended error) (verdict, err error) {
	s := newSummary(n)
	w := newWatch(n)
	w.out, w.next = voice{json: slog.New(slog.DiscardHandler)}, 0 // everything was said when it happened
	if err := w.read(); err != nil {
		return nil, err
	}
	n.windowsInto(s, w)
	n.networkInto(ctx, s)
	s.finite()
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
	if n.out.json != nil {
		n.out.json.Info("summary", "file", n.dir.Path("summary.json"), "final_loss", s.FinalLoss, "failures", s.Failures)
	} else {
		n.print(s)
	}
	if len(s.Failures) > 0 && ended == nil {
		return fmt.Errorf("%w: %s", ErrVerdict, strings.Join(s.Failures, "; ")), nil
	}
	return nil, nil
}

// networkInto asks chain and S3, started again for as long as it takes, the chain paused. What cannot be asked is a failure of
// the run; the rest of the summary stands.
func (n *network) networkInto(ctx context.Context, s *Summary) {
	srv, err := netdir.StartServers(ctx, n.dir, n.lock, n.rt, n.set.Nodes, true)
	if err != nil {
		s.Failures = append(s.Failures, "the chain cannot be asked: "+err.Error())
		return
	}
	defer srv.Close()
	if err := n.hotkeysInto(ctx, s, srv); err != nil {
		s.Failures = append(s.Failures, "the chain cannot be asked: "+err.Error())
	}
	if len(s.Windows) == 0 {
		return
	}
	if err := n.lossInto(ctx, s, srv); err != nil {
		s.Failures = append(s.Failures, "no final loss: "+err.Error())
	}
}

// windowsInto takes the windows that were shown, and later ones that all nodes applied before they were stopped.
func (n *network) windowsInto(s *Summary, w *watch) {
	var order []chain.Window
	for win := range w.rows {
		order = append(order, win)
	}
	sort.Slice(order, func(i, j int) bool { return order[i] < order[j] })
	for _, win := range order {
		if r := w.rows[win]; len(r.Roots) > 0 && (win < n.shown || len(r.Roots) == len(w.tails)) {
			s.Windows = append(s.Windows, n.window(r, len(w.tails)))
		}
	}
}

// window is what is known of a window, with names.
func (n *network) window(r *row, nodes int) WindowSummary {
	names := n.names()
	_, agreed := r.agreed(nodes)
	x := WindowSummary{Window: r.Window, Block: r.Block, Loss: r.Loss / n.bytesPerToken(), TokenLoss: r.Loss, Bytes: r.Bytes, Ratio: r.Ratio,
		TokensPerSec: float64(r.Tokens) / (float64(n.run.Schedule.Length) * n.blockTime().Seconds()),
		EarlySteps:   r.Early, Scores: map[string]float64{}, Root: r.root().String(), Nodes: len(r.Roots), Agreed: agreed, Winners: []string{}}
	for _, h := range r.Winners {
		x.Winners = append(x.Winners, name(names, h.String()))
	}
	for h, v := range r.Scores {
		x.Scores[name(names, h)] = v
	}
	return x
}

// bytesPerToken is the text behind a held-out token on average; networks of older builds had bytes only.
func (n *network) bytesPerToken() float64 {
	if n.set.BytesPerToken > 0 {
		return n.set.BytesPerToken
	}
	return 1
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

func (n *network) hotkeysInto(ctx context.Context, s *Summary, srv *netdir.Servers) error {
	client, err := dial(srv.Chain)
	if err != nil {
		return err
	}
	meta, err := node.Head(ctx, client)
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
