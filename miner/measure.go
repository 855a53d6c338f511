package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
)

// What is measured: copies and square products of growing size, until one takes long enough to be believed; of each the median of some,
// after one that is not counted.
const (
	leastCopy    = 1 << 20
	mostCopy     = 256 << 20
	leastSide    = 128
	mostSide     = 8192
	longEnough   = 2 * time.Millisecond
	measureTimes = 5
)

// speed is a rate that was measured.
type speed struct {
	What  string  `json:"what"`
	Size  int64   `json:"size"` // bytes of a copy, side of a product
	Rate  float64 `json:"rate"` // GB/s of a copy, TFLOP/s of a product
	Times int     `json:"times"`
}

// join writes rates for people.
func join(list []speed) string {
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%.3g %s", s.Rate, s.What))
	}
	return strings.Join(out, ", ")
}

// measure finds out how much of a card is free, how fast it copies, and how fast it multiplies, with kernels of ours and
// with cuBLASLt.
func (f *cardFindings) measure(driver *cuda.Driver) (err error) {
	device, err := driver.Start(f.Number)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	return device.Do(func(c *cuda.Context) error {
		free, _, err := c.Memory()
		if err != nil {
			return err
		}
		f.Free = &free
		if f.Copies, err = copySpeeds(c); err != nil {
			return err
		}
		if f.Products, err = productSpeeds(c); err != nil {
			return err
		}
		return f.measureFast(c)
	})
}

// direction is from where to where a copy goes.
type direction string

const (
	toCard   direction = "to the card"
	fromCard direction = "from it"
	onCard   direction = "on it (each byte read and written)"
)

// copySpeeds measures copies to the card, from it and on it.
func copySpeeds(c *cuda.Context) (out []speed, err error) {
	for _, d := range []direction{toCard, fromCard, onCard} {
		var last speed
		for bytes := int64(leastCopy); ; bytes *= 4 {
			took, err := copyTime(c, d, bytes)
			if cuda.ErrorCode(err) == cuda.OutOfMemory && last.Size > 0 {
				break // the card is small or full: the last size has to do
			}
			if err != nil {
				return out, err
			}
			last = speed{string(d), bytes, float64(bytes) / took.Seconds() / 1e9, measureTimes}
			if took >= longEnough || bytes >= mostCopy {
				break
			}
		}
		out = append(out, last)
	}
	return out, nil
}

// copyTime is how long a copy of so many bytes takes; the host's are pinned.
func copyTime(c *cuda.Context, d direction, bytes int64) (took time.Duration, err error) {
	room, err := c.Alloc(2 * bytes)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Free(room)) }()
	if err := c.Memset(room, 0, 2*bytes); err != nil {
		return 0, err
	}
	host, err := c.Pin(bytes)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.FreePinned(host)) }()
	values := cuda.Slice[uint8](host)
	return usual(c, func() error {
		switch d {
		case toCard:
			return cuda.PutAsync(c, room, values)
		case fromCard:
			return cuda.GetAsync(c, values, room)
		}
		return c.Copy(room.Add(bytes), room, bytes)
	})
}

// productSpeeds measures the products of our kernels.
func productSpeeds(c *cuda.Context) (out []speed, err error) {
	info := c.Info()
	module, err := c.Load(kernels.Image(info.Major, info.Minor))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, module.Unload()) }()
	const name = "gemm_nt_bf16"
	k, ok := kernels.Named(name)
	if !ok {
		return nil, errors.New("this build has no kernel " + name)
	}
	f, err := module.Func(k)
	if err != nil {
		return nil, err
	}
	return growing(c, "our "+name, func(side int, a, b, out cuda.Ptr) error {
		blocks := (side + 127) / 128
		return c.Launch(f, [3]int{blocks, blocks, 1}, out, a, b, side, side, side, side, side, side, 0)
	})
}

// productTime is how long a product of that size takes; the values do not matter, but zeros would spare the card power.
func productTime(c *cuda.Context, side int, multiply func(side int, a, b, out cuda.Ptr) error) (took time.Duration, err error) {
	bytes := int64(side) * int64(side) * 2
	room, err := c.Alloc(3 * bytes)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Free(room)) }()
	if err := c.Memset(room, 0x3C, 3*bytes); err != nil {
		return 0, err
	}
	return usual(c, func() error { return multiply(side, room.Add(bytes), room.Add(2*bytes), room) })
}

// usual is the median of the times that some work took on the device, after a first time that is not counted.
func usual(c *cuda.Context, work func() error) (took time.Duration, err error) {
	from, err := c.NewEvent()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.FreeEvent(from)) }()
	to, err := c.NewEvent()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.FreeEvent(to)) }()
	if err := work(); err != nil {
		return 0, err
	}
	var times [measureTimes]time.Duration
	for i := range times {
		if err := errors.Join(c.Record(from), work(), c.Record(to), c.SyncEvent(to)); err != nil {
			return 0, err
		}
		if times[i], err = c.Between(from, to); err != nil {
			return 0, err
		}
	}
	slices.Sort(times[:])
	return max(times[measureTimes/2], 1), nil
}
