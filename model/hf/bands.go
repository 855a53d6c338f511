package hf

import (
	"iter"

	"sn3/model"
)

// band is the smallest part of a tensor that is contiguous both row-major and in chunk order: 64 rows of a matrix, one run of
// a vector.
type band struct {
	tensor model.Tensor
	chunks model.ChunkRange
	at     int // first element within the tensor, row-major
	len    int
}

// bands yields the bands of a layout, in the order of both its tensors and its chunks.
func bands(l *model.Layout) iter.Seq[band] {
	return func(yield func(band) bool) {
		chunk := 0
		for _, t := range l.Tensors() {
			for at := 0; at < t.Len(); {
				b := band{tensor: t, chunks: model.ChunkRange{From: chunk}, at: at}
				size := l.Chunk(chunk).Len
				if len(t.Shape) == 2 {
					size = l.Chunk(chunk).Rows * t.Shape[1]
				}
				for ; b.len < size; chunk++ {
					b.len += l.Chunk(chunk).Len
				}
				b.chunks.To = chunk
				if !yield(b) {
					return
				}
				at += b.len
			}
		}
	}
}

// runs calls fn for every run of n values that lies at chunk in the band's values in chunk order, at row in row-major order.
func (b band) runs(l *model.Layout, fn func(chunk, row, n int)) {
	start, _ := l.Span(b.chunks)
	for i := b.chunks.From; i < b.chunks.To; i++ {
		c := l.Chunk(i)
		for r := range c.Rows {
			fn(c.Start-start+r*c.Cols, c.Off-b.tensor.Off-b.at+r*c.Stride, c.Cols)
		}
	}
}
