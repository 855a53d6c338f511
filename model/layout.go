package model

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// ChunkSize is the most values a chunk holds: a 64×64 block of a matrix or a run of a vector (DESIGN §5).
const (
	ChunkSize = 4096
	BlockSide = 64
	// LeafChunks is the number of chunks in one leaf of the state root (at most 1 MiB of f32).
	LeafChunks = 64
)

// Chunk is the unit of the protocol: an ordered list of Len <= ChunkSize real values of one tensor.
// In chunk order the model is one vector; a chunk is its elements [Start, Start+Len).
type Chunk struct {
	Start int // first element in chunk order
	Len   int
	// where the values live in the row-major vector: Rows runs of Cols values, Stride apart, from Off
	Off, Rows, Cols, Stride int
}

// ChunkRange is a contiguous range [From, To) of chunks; a Shard is one.
type ChunkRange struct{ From, To int }

// Layout cuts a model into chunks. Two nodes agree on every byte of the protocol only if their layout hashes agree.
type Layout struct {
	cfg     Config
	tensors []Tensor
	chunks  []Chunk
	params  int
	hash    [32]byte
}

// NewLayout cuts the tensors of c, in order: matrices into 64×64 blocks row-major (edge blocks are smaller, never padded),
// vectors into runs of 4096.
func NewLayout(c Config) (*Layout, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l := &Layout{cfg: c, tensors: c.Tensors()}
	for _, t := range l.tensors {
		if len(t.Shape) == 1 {
			for o := 0; o < t.Shape[0]; o += ChunkSize {
				n := min(ChunkSize, t.Shape[0]-o)
				l.add(Chunk{Off: t.Off + o, Rows: 1, Cols: n, Stride: n})
			}
			continue
		}
		rows, cols := t.Shape[0], t.Shape[1]
		for r := 0; r < rows; r += BlockSide {
			for k := 0; k < cols; k += BlockSide {
				l.add(Chunk{Off: t.Off + r*cols + k, Rows: min(BlockSide, rows-r), Cols: min(BlockSide, cols-k), Stride: cols})
			}
		}
	}
	l.hash = hashOf(l.tensors)
	return l, nil
}

func (l *Layout) add(c Chunk) {
	c.Start, c.Len = l.params, c.Rows*c.Cols
	l.params += c.Len
	l.chunks = append(l.chunks, c)
}

// LayoutHash is Layout.Hash without making the layout, whose list of chunks is long for a large model.
func LayoutHash(c Config) [32]byte { return hashOf(c.Tensors()) }

// hashOf hashes "sn3/layout/1", the chunk size and every tensor's name and shape.
func hashOf(tensors []Tensor) [32]byte {
	b := []byte("sn3/layout/1")
	b = binary.BigEndian.AppendUint32(b, ChunkSize)
	for _, t := range tensors {
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.Name)))
		b = append(b, t.Name...)
		b = append(b, byte(len(t.Shape)))
		for _, d := range t.Shape {
			b = binary.BigEndian.AppendUint64(b, uint64(d))
		}
	}
	return sha256.Sum256(b)
}

// Config is the shape the layout was made from.
func (l *Layout) Config() Config { return l.cfg }

// Tensors lists the parameters in order; do not modify.
func (l *Layout) Tensors() []Tensor { return l.tensors }

// Chunks is the number of chunks.
func (l *Layout) Chunks() int { return len(l.chunks) }

// Chunk describes chunk i.
func (l *Layout) Chunk(i int) Chunk { return l.chunks[i] }

// Params is the number of parameters.
func (l *Layout) Params() int { return l.params }

// Hash identifies the layout in payloads and manifests.
func (l *Layout) Hash() [32]byte { return l.hash }

// All is the range of every chunk.
func (l *Layout) All() ChunkRange { return ChunkRange{0, len(l.chunks)} }

// Span is the range's elements [from, to) in chunk order.
func (l *Layout) Span(c ChunkRange) (from, to int) {
	if c.From >= c.To {
		return 0, 0
	}
	last := l.chunks[c.To-1]
	return l.chunks[c.From].Start, last.Start + last.Len
}

// Gather copies chunk i out of a row-major vector of all parameters; len(dst) must be its Len.
func (l *Layout) Gather(dst, flat []float32, i int) {
	c := l.chunks[i]
	for r := 0; r < c.Rows; r++ {
		copy(dst[r*c.Cols:(r+1)*c.Cols], flat[c.Off+r*c.Stride:])
	}
}

// Scatter copies chunk i into a row-major vector of all parameters.
func (l *Layout) Scatter(flat, src []float32, i int) {
	c := l.chunks[i]
	for r := 0; r < c.Rows; r++ {
		copy(flat[c.Off+r*c.Stride:c.Off+r*c.Stride+c.Cols], src[r*c.Cols:])
	}
}

// CheckRange refuses a range outside the layout or a destination of another size than its span.
func (l *Layout) CheckRange(c ChunkRange, n int) error {
	if c.From < 0 || c.To > len(l.chunks) || c.From > c.To {
		return fmt.Errorf("layout: chunks [%d,%d) of %d", c.From, c.To, len(l.chunks))
	}
	if from, to := l.Span(c); to-from != n {
		return fmt.Errorf("layout: chunks [%d,%d) hold %d values, got room for %d", c.From, c.To, to-from, n)
	}
	return nil
}
