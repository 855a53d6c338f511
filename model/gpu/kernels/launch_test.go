package kernels_test

import (
	"fmt"
	"slices"
	"unsafe"

	"sn3/model/gpu/cuda"
	"sn3/model/kern"
)

// exec launches a kernel with a grid of blocks in x. Slices among the arguments are copied to the card and, after the launch, back; the
// same slice twice is the same memory. That is done in every order of blocks and warps, each time with what the slices had at first:
// the bits must not depend on the order.
func (b *bench) exec(kernel string, blocks int, args ...any) {
	b.Helper()
	var was, first [][]byte
	for _, a := range args {
		was = append(was, slices.Clone(raw(a)))
	}
	b.orders(func(order string) {
		b.Helper()
		for i, a := range args {
			copy(raw(a), was[i])
		}
		b.must(func(r *runner) error { return r.exec(kernel, blocks, args) })
		for i, a := range args {
			if len(first) < len(args) {
				first = append(first, slices.Clone(raw(a)))
			} else if !slices.Equal(raw(a), first[i]) {
				b.Fatalf("%s: the bits of argument %d are others with blocks %s", kernel, i, order)
			}
		}
	})
}

// exec is one launch.
func (r *runner) exec(kernel string, blocks int, args []any) error {
	at := map[*byte]cuda.Ptr{}
	given := slices.Clone(args)
	for i, a := range args {
		s := raw(a)
		if s == nil {
			continue
		}
		p, ok := at[unsafe.SliceData(s)]
		if !ok {
			p = put(r, s)
			at[unsafe.SliceData(s)] = p
		}
		given[i] = p
	}
	if err := r.launch(kernel, [3]int{blocks, 1, 1}, given...); err != nil {
		return fmt.Errorf("%s with %d blocks: %w", kernel, blocks, err)
	}
	for i, a := range args {
		if s := raw(a); s != nil {
			copy(s, get[byte](r, given[i].(cuda.Ptr), len(s)))
		}
	}
	return nil
}

// raw is the memory of a slice, nil of what is none.
func raw(a any) []byte {
	switch s := a.(type) {
	case []float32:
		return view(s)
	case []kern.BF16:
		return view(s)
	case []int32:
		return view(s)
	case []int64:
		return view(s)
	case []uint64:
		return view(s)
	case []byte:
		return s
	}
	return nil
}

func view[T any](s []T) []byte {
	var v T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(v)))
}
