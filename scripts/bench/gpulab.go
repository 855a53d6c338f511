package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/roofline"
)

// GPUKernel is how long a kernel took, all its launches together.
type GPUKernel struct {
	Kernel  string  `json:"kernel"`
	Calls   int     `json:"calls"`
	Seconds float64 `json:"seconds"` // of all calls; of one where the call was repeated, the median
	Share   float64 `json:"share,omitempty"`
	FLOP    float64 `json:"flop,omitempty"` // of all calls
	Bytes   float64 `json:"bytes"`
	Rate    float64 `json:"rate"` // TFLOP/s or GB/s
	Unit    string  `json:"unit"`
	OfSheet float64 `json:"of_sheet,omitempty"`
	OfCopy  float64 `json:"of_copy,omitempty"`         // of the speed of a copy in the same run
	Over    float64 `json:"over_prediction,omitempty"` // its time over the predicted one
}

// rated fills in the speed.
func (k GPUKernel) rated(sheet roofline.Card, predicted float64) GPUKernel {
	k.Rate, k.Unit = k.Bytes/k.Seconds/1e9, "GB/s"
	if k.FLOP > 0 {
		k.Rate, k.Unit = k.FLOP/k.Seconds/1e12, "TFLOP/s"
	}
	if sheet.Name != "" {
		k.OfSheet = k.Bytes / k.Seconds / sheet.Bytes
		if k.FLOP > 0 {
			k.OfSheet = k.FLOP / k.Seconds / sheet.FLOPs
		}
	}
	if predicted > 0 {
		k.Over = k.Seconds / predicted
	}
	if math.IsInf(k.Rate, 0) || math.IsNaN(k.Rate) { // nothing took no time
		k.Rate, k.OfSheet = 0, 0
	}
	return k
}

// lab is the card without the engine: kernels launched one by one.
type lab struct {
	*cuda.Context
	g      *gpuBench
	module *cuda.Module
	ptrs   []cuda.Ptr
}

// on opens the card, does f, and gives back what f allocated.
func (g *gpuBench) on(f func(x *lab) error) error {
	d, err := cuda.Open()
	if err != nil {
		return err
	}
	dev, err := d.Start(g.info.Ordinal)
	if err != nil {
		return err
	}
	err = dev.Do(func(c *cuda.Context) error {
		x := &lab{Context: c, g: g}
		if x.module, err = c.Load(kernels.Image(g.info.Major, g.info.Minor)); err != nil {
			return err
		}
		err := f(x)
		for _, p := range x.ptrs {
			err = errors.Join(err, c.Free(p))
		}
		return errors.Join(err, x.module.Unload())
	})
	return errors.Join(err, dev.Close())
}

// room allocates bytes for as long as the lab is open.
func (x *lab) room(bytes int64) (cuda.Ptr, error) {
	p, err := x.Alloc(bytes)
	if err == nil {
		x.ptrs = append(x.ptrs, p)
	}
	return p, err
}

// noise allocates n values and fills them with numbers around 0, some much larger than most.
func (x *lab) noise(n int64) (cuda.Ptr, error) {
	p, err := x.room(4 * n)
	if err != nil {
		return 0, err
	}
	r := rand.New(rand.NewPCG(uint64(len(x.ptrs)), 1))
	piece := make([]float32, min(n, 1<<20))
	for i := range piece {
		piece[i] = float32(1e-3 * r.NormFloat64() * math.Exp(0.7*r.NormFloat64()))
	}
	for at := int64(0); at < n; at += int64(len(piece)) {
		if err := cuda.Put(x.Context, p.Add(4*at), piece[:min(int64(len(piece)), n-at)]); err != nil {
			return 0, err
		}
	}
	return p, nil
}

func put[T cuda.Value](x *lab, v []T, bytes int64) (cuda.Ptr, error) {
	p, err := x.room(bytes * int64(len(v)))
	if err != nil {
		return 0, err
	}
	return p, cuda.Put(x.Context, p, v)
}

// kernel is a function that launches one with a grid.
func (x *lab) kernel(name string, grid [3]int, args ...any) (func() error, error) {
	k, ok := kernels.Named(name)
	if !ok {
		return nil, fmt.Errorf("there is no kernel %s", name)
	}
	f, err := x.module.Func(k)
	if err != nil {
		return nil, err
	}
	return func() error { return x.Launch(f, grid, args...) }, nil
}

// long is how long a timed stretch should be: many times what events add to it.
const long = 5 * time.Millisecond

// time is the median of the seconds that f takes on the card, made as often in a row as fills a stretch.
func (x *lab) time(f func() error) (float64, error) {
	from, err := x.NewEvent()
	if err != nil {
		return 0, err
	}
	to, err := x.NewEvent()
	if err != nil {
		return 0, errors.Join(err, x.FreeEvent(from))
	}
	took, err := x.stretches(from, to, f)
	return took, errors.Join(err, x.FreeEvent(from), x.FreeEvent(to))
}

func (x *lab) stretches(from, to *cuda.Event, f func() error) (float64, error) {
	once := func(times int) (float64, error) {
		err := x.Record(from)
		for range times {
			err = errors.Join(err, f())
		}
		if err := errors.Join(err, x.Record(to), x.SyncEvent(to)); err != nil {
			return 0, err
		}
		d, err := x.Between(from, to)
		return d.Seconds() / float64(times), err
	}
	first, err := once(1)
	if err != nil {
		return 0, err
	}
	times := max(1, min(1000, int(long.Seconds()/max(first, 1e-6))))
	var all []float64
	for range x.g.rounds {
		s, err := once(times)
		if err != nil {
			return 0, err
		}
		all = append(all, s)
	}
	return median(all), nil
}
