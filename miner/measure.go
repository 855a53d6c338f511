package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
)

// What is measured: copies and square products of growing size, until one takes long enough to be believed; of each the best of some.
const (
	leastCopy    = 1 << 20
	mostCopy     = 256 << 20
	leastSide    = 128
	mostSide     = 8192
	longEnough   = 2 * time.Millisecond
	measureTimes = 3
)

// measure writes how fast a card copies, and multiplies with kernels of ours.
func measure(w io.Writer, driver *cuda.Driver, ordinal int) (err error) {
	device, err := driver.Start(ordinal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	return device.Do(func(c *cuda.Context) error {
		copies, err := copySpeeds(c)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "         copies, measured: %s\n", copies)
		products, err := productSpeed(c)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "         products of our kernels, measured: %s\n", products)
		return nil
	})
}

// direction is from where to where a copy goes.
type direction string

const (
	toCard   direction = "to the card"
	fromCard direction = "from it"
	onCard   direction = "on it (read, and written)"
)

// copySpeeds measures copies to the card, from it and on it.
func copySpeeds(c *cuda.Context) (string, error) {
	var out []string
	for _, d := range []direction{toCard, fromCard, onCard} {
		for bytes := int64(leastCopy); ; bytes *= 4 {
			best, err := copyTime(c, d, bytes)
			if err != nil {
				return "", err
			}
			if best >= longEnough || bytes >= mostCopy {
				out = append(out, fmt.Sprintf("%.1f GB/s %s", float64(bytes)/best.Seconds()/1e9, d))
				break
			}
		}
	}
	return strings.Join(out, ", "), nil
}

// copyTime is how long a copy of so many bytes takes; the host's are pinned.
func copyTime(c *cuda.Context, d direction, bytes int64) (best time.Duration, err error) {
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
	return fastest(c, func() error {
		switch d {
		case toCard:
			return cuda.PutAsync(c, room, values)
		case fromCard:
			return cuda.GetAsync(c, values, room)
		}
		return c.Copy(room.Add(bytes), room, bytes)
	})
}

// productSpeed measures the product of square matrices in bf16 with sums in float32.
func productSpeed(c *cuda.Context) (text string, err error) {
	info := c.Info()
	module, err := c.Load(kernels.Image(info.Major, info.Minor))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, module.Unload()) }()
	k, ok := kernels.Named("gemm_nt_bf16")
	if !ok {
		return "", errors.New("this build has no kernel gemm_nt_bf16")
	}
	f, err := module.Func(k)
	if err != nil {
		return "", err
	}
	for side := leastSide; ; side *= 2 {
		best, err := productTime(c, f, side)
		if err != nil {
			return "", err
		}
		if best >= longEnough || side == mostSide {
			return fmt.Sprintf("%.3g TFLOP/s at %d³ (gemm_nt_bf16)", 2*float64(side)*float64(side)*float64(side)/best.Seconds()/1e12, side), nil
		}
	}
}

// productTime is how long a product of that size takes; the values do not matter, but zeros would spare the card power.
func productTime(c *cuda.Context, f *cuda.Func, side int) (best time.Duration, err error) {
	bytes := int64(side) * int64(side) * 2
	room, err := c.Alloc(3 * bytes)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Free(room)) }()
	if err := c.Memset(room, 0x3C, 3*bytes); err != nil {
		return 0, err
	}
	blocks := (side + 127) / 128
	return fastest(c, func() error {
		return c.Launch(f, [3]int{blocks, blocks, 1}, room, room.Add(bytes), room.Add(2*bytes), side, side, side, side, side, side, 0)
	})
}

// fastest is the least time that some work took on the device.
func fastest(c *cuda.Context, work func() error) (best time.Duration, err error) {
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
	for range measureTimes {
		if err := errors.Join(c.Record(from), work(), c.Record(to), c.SyncEvent(to)); err != nil {
			return 0, err
		}
		d, err := c.Between(from, to)
		if err != nil {
			return 0, err
		}
		if best == 0 || d < best {
			best = max(d, 1)
		}
	}
	return best, nil
}
