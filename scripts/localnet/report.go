package main

import (
	"context"
	"fmt"
	"image/color"
	"sort"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
)

func dial(addr string) (*local.Client, error) {
	b, err := local.Dial(addr)
	if err != nil {
		return nil, err
	}
	return local.NewClient(b, nil), nil
}

// checkpoints are the windows of the checkpoints in a bucket, ascending.
func checkpoints(ctx context.Context, b *storage.Bucket) []chain.Window {
	page, err := b.List(ctx, "checkpoint/", "", 1000)
	if err != nil {
		return nil
	}
	var out []chain.Window
	for _, o := range page {
		rest, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, "checkpoint/"), "/manifest.json")
		if w, err := strconv.ParseUint(rest, 10, 62); ok && err == nil {
			out = append(out, chain.Window(w))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// heldOut is the mean loss of weights on a set, in nats per token.
func heldOut(ctx context.Context, c model.Config, w *model.Flat, set []model.Batch) (float64, error) {
	j, err := cpu.New("").NewJudge(c, model.Options{Threads: 2})
	if err != nil {
		return 0, err
	}
	if err := j.Reset(ctx, w); err != nil {
		return 0, err
	}
	l, err := j.Losses(ctx, nil, 0, [][]model.Batch{set})
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, x := range l[0] {
		sum += x
	}
	return sum / float64(len(l[0])), nil
}

// plots draws loss.png and scores.png.
func plots(d netdir.Dir, s *Summary) error {
	if len(s.Windows) == 0 {
		return nil
	}
	if err := lossPlot(d.Path("loss.png"), s); err != nil {
		return fmt.Errorf("draw loss.png: %w", err)
	}
	if err := scorePlot(d.Path("scores.png"), s); err != nil {
		return fmt.Errorf("draw scores.png: %w", err)
	}
	return nil
}

var palette = []color.RGBA{{31, 119, 180, 255}, {255, 127, 14, 255}, {44, 160, 44, 255}, {214, 39, 40, 255}, {148, 103, 189, 255}, {140, 86, 75, 255}}

func line(p *plot.Plot, name string, pts plotter.XYs, i int, dashed bool) error {
	l, err := plotter.NewLine(pts)
	if err != nil {
		return err
	}
	l.Color, l.Width = palette[i%len(palette)], vg.Points(1.5)
	if round := i / len(palette); dashed || round > 0 { // colours again, with other dashes
		l.Dashes = []vg.Length{vg.Points(5), vg.Points(4) * vg.Length(1+round)}
	}
	p.Add(l)
	if i < maxLegend {
		p.Legend.Add(name, l)
	}
	return nil
}

// maxLegend is how many names fit into the legend.
const maxLegend = 24

// frame is an empty plot with its legend inside the upper right corner.
func frame(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs, p.Legend.Padding = true, -vg.Points(6), -vg.Points(6), vg.Points(2)
	p.X.Padding = vg.Points(6)
	p.Add(plotter.NewGrid())
	return p
}

func lossPlot(path string, s *Summary) error {
	p := frame("Held-out loss of "+s.Network, "window", "nats per byte")
	var pts plotter.XYs
	for _, w := range s.Windows {
		if w.Loss > 0 {
			pts = append(pts, plotter.XY{X: float64(w.Window), Y: w.Loss})
		}
	}
	if len(pts) == 0 {
		return nil
	}
	if err := line(p, "model", pts, 0, false); err != nil {
		return err
	}
	end := max(pts[len(pts)-1].X, 1)
	for i, b := range []struct {
		name string
		y    float64
	}{{"order-0", s.Baselines.Order0}, {"bigram", s.Baselines.Bigram}, {"order-2", s.Baselines.Order2}} {
		if b.y > 0 {
			if err := line(p, b.name, plotter.XYs{{X: 0, Y: b.y}, {X: end, Y: b.y}}, i+1, true); err != nil {
				return err
			}
		}
	}
	return p.Save(7*vg.Inch, 4.5*vg.Inch, path)
}

func scorePlot(path string, s *Summary) error {
	p := frame("Score per miner", "window", "held-out gain of the trial step, nats per token")
	series := map[string]plotter.XYs{}
	for _, w := range s.Windows {
		for name, v := range w.Scores {
			if v > 0 { // 8192 is no gain, 2^14 a nat (DESIGN §11)
				series[name] = append(series[name], plotter.XY{X: float64(w.Window), Y: (v - 8192) / (1 << 14)})
			}
		}
	}
	var names []string
	for n := range series {
		names = append(names, n)
	}
	if len(names) == 0 {
		return nil
	}
	sort.Strings(names)
	for i, n := range names {
		if err := line(p, n, series[n], i, false); err != nil {
			return err
		}
	}
	return p.Save(7*vg.Inch, 4.5*vg.Inch, path)
}
