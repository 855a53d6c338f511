package gradients

import (
	"fmt"

	"sn3/model"
)

// Pack makes a payload, and its bytes, of chunks that something else has compressed, a device for one: chunk says what chunk i sends, as
// Payload.Symbols does. What no receiver would take is an error.
func (c *Codec) Pack(k int, chunk func(i int) (idx []uint16, codes []byte, scale byte)) (*Payload, []byte, error) {
	if k < 1 || k > model.ChunkSize {
		return nil, nil, fmt.Errorf("pack payload: k %d is not in 1..%d", k, model.ChunkSize)
	}
	n := c.layout.Chunks()
	p := &Payload{codec: c, k: k, start: make([]int, 1, n+1), scales: make([]byte, n)}
	for i := range n {
		idx, codes, scale := chunk(i)
		real := c.layout.Chunk(i).Len
		if err := sendable(symbols{idx, codes, scale}, real, Keep(k, real)); err != nil {
			return nil, nil, fmt.Errorf("pack payload: chunk %d: %w", i, err)
		}
		p.idx, p.codes = append(p.idx, idx...), append(p.codes, codes...)
		p.start = append(p.start, len(p.idx))
		if len(idx) > 0 {
			p.scales[i] = scale
		}
	}
	p.norm = p.measure()
	raw, err := p.bytes(c.compute)
	p.size = int64(len(raw))
	return p, raw, err
}

// sendable says why a chunk of real values, of which keep may be sent, cannot be coded, or would not decode.
func sendable(s symbols, real, keep int) error {
	if len(s.idx) > keep || len(s.idx) != len(s.codes) {
		return fmt.Errorf("%d indices with %d codes, at most %d", len(s.idx), len(s.codes), keep)
	}
	large := byte(1)
	for j, x := range s.idx {
		if int(x) >= real || j > 0 && x <= s.idx[j-1] {
			return fmt.Errorf("index %d at place %d does not ascend below %d", x, j, real)
		}
		if s.codes[j] > 3 {
			return fmt.Errorf("code %d at place %d", s.codes[j], j)
		}
		large &= s.codes[j]
	}
	if len(s.idx) > 0 && large == 1 && int(s.scale)+octave < len(scales) {
		return fmt.Errorf("only large values of scale %d, which is written an octave higher", s.scale)
	}
	return nil
}
