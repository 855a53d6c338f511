package kernels_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sn3/model/gpu/kernels"
	"sn3/model/kern"
)

// embedCase is a table, and tokens of which some come often.
type embedCase struct {
	V, C, N    int
	ids        []int32
	order, beg []int32
}

func embedCases() (out []embedCase) {
	for i, s := range []struct{ V, C, N int }{{1, 1, 1}, {3, 5, 9}, {50, 16, 40}, {9, 2056, 5}, {300, 24, 20}} {
		r := rand.New(rand.NewPCG(uint64(i), 40))
		c := embedCase{s.V, s.C, s.N, make([]int32, s.N), make([]int32, s.N), make([]int32, s.N+1)}
		for j := range c.ids {
			if c.ids[j] = int32(r.IntN(s.V)); r.IntN(2) == 0 {
				c.ids[j] = int32(s.V - 1)
			}
		}
		kernels.Segments(c.ids, c.order, c.beg)
		out = append(out, c)
	}
	return out
}

func TestEmbed(t *testing.T) {
	b := on(t, "embed.cu")
	for _, c := range embedCases() {
		table, x := halves(41, c.V*c.C, 1), make([]kern.BF16, c.N*c.C)
		b.exec("embed", c.N, x, c.ids, table, int32(c.C))
		var want []kern.BF16
		for _, id := range c.ids {
			want = append(want, table[int(id)*c.C:(int(id)+1)*c.C]...)
		}
		same(t, fmt.Sprint("rows of a table ", c.V, c.C, c.N), x, want)
	}
}

// The gradient of the table has the bits of the CPU, which adds row by row in the order of positions.
func TestEmbedBack(t *testing.T) {
	b := on(t, "embed.cu")
	for _, c := range embedCases() {
		what := fmt.Sprint("gradient of a table ", c.V, c.C, c.N)
		dx, table := halves(42, c.N*c.C, 1), normals(43, c.V*c.C, 1)
		rounded, want := toHalves(table), slices.Clone(table)
		exact, exactHalf, size := real64(table), real64(widened(rounded)), make([]float64, len(table))
		for i, x := range table {
			size[i] = 1.01 * math.Abs(float64(x))
		}
		wide := widened(dx)
		k, _ := kern.Select("portable")
		for i, id := range c.ids {
			k.Add(want[int(id)*c.C:(int(id)+1)*c.C], wide[i*c.C:(i+1)*c.C])
			for j := range c.C {
				x := float64(wide[i*c.C+j])
				exact[int(id)*c.C+j] += x
				exactHalf[int(id)*c.C+j] += x
				size[int(id)*c.C+j] += math.Abs(x)
			}
		}
		again := slices.Clone(table)
		b.exec("embed_back", c.N, table, wide, c.ids, c.order, c.beg, int32(c.C))
		same(t, what, bitsOf(table), bitsOf(want))
		most := times(float64(c.N)*eps32, size) // one by one
		bounded(t, what+" and float64", table, exact, most)
		b.exec("embed_back_half", c.N, again, dx, c.ids, c.order, c.beg, int32(c.C))
		same(t, what+" of bf16", bitsOf(again), bitsOf(want))
		b.exec("embed_back_bf16", c.N, rounded, dx, c.ids, c.order, c.beg, int32(c.C))
		bounded(t, what+" in bf16", widened(rounded), exactHalf, half(exactHalf, most))
	}
}
