package gradients

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"testing"

	"sn3/chain"
	"sn3/model"
)

// goldenRoot is the state after three fixed outer steps, made from integers alone. It must be the same under every GOAMD64
// and on every platform: a fused multiply-add in the aggregation changes it.
const goldenRoot = "c4833dbf66a74d9e2569f30af4a7bcbed8aef5fb92a08632e462da5ef62fa0a2"

const goldenTransition = "67a5c987dbd0494dc01b29e8e1a2a3f567ad7176f2b52e8447c29967a9fa9224"

func TestGoldenOuterSteps(t *testing.T) {
	l := tiny(t)
	theta := model.NewFlat(l)
	theta.Init(42)
	twin := append([]float32(nil), theta.Data...)
	fused := append([]float32(nil), theta.Data...)
	var root chain.Hash
	for step := range 3 {
		var parts []*Payload
		for r := range 5 {
			parts = append(parts, fixed(l, 128<<step, uint64(10*step+r)))
		}
		var err error
		if root, err = OuterStep(theta, parts, 1.7, 2); err != nil {
			t.Fatal(err)
		}
		naiveStep(l, twin, parts, func(sum, a, b float32) float32 { x := a * b; return float32(x) + sum })
		naiveStep(l, fused, parts, func(sum, a, b float32) float32 {
			return float32(math.FMA(float64(a), float64(b), float64(sum)))
		})
	}
	differ := 0
	for i := range twin {
		if twin[i] != theta.Data[i] {
			t.Fatalf("value %d: %v, the naive twin has %v", i, theta.Data[i], twin[i])
		}
		if fused[i] != twin[i] {
			differ++
		}
	}
	if differ == 0 {
		t.Error("fusing would go unnoticed: the test proves nothing")
	}
	if again, err := Root(theta); err != nil || again != root || naiveRoot(l, theta.Data) != root {
		t.Fatalf("Root gives %s (%v), OuterStep gave %s, the naive twin %s", again, err, root, naiveRoot(l, theta.Data))
	}
	if root.String() != goldenRoot {
		t.Fatalf("root %s, want %s", root, goldenRoot)
	}
}

// naiveStep is the outer step over whole vectors; mad is how a product is added to a sum.
func naiveStep(l *model.Layout, theta []float32, parts []*Payload, mad func(sum, a, b float32) float32) {
	norms := make([]float64, len(parts))
	for i, p := range parts {
		norms[i] = p.Norm()
	}
	clip := Clips(norms)
	sum := make([]float32, len(theta))
	for i, p := range parts {
		for at, v := range dense(l, p) {
			if v != 0 {
				sum[at] = mad(sum[at], clip[i], v)
			}
		}
	}
	for i := range theta {
		theta[i] = mad(theta[i], -1.7, sum[i]/float32(len(parts)))
	}
}

// naiveRoot builds the Merkle tree from docs/FORMAT.md over one byte string.
func naiveRoot(l *model.Layout, v []float32) chain.Hash {
	var level [][32]byte
	for from := 0; from < l.Chunks(); from += 64 {
		a, b := l.Span(model.ChunkRange{From: from, To: min(from+64, l.Chunks())})
		leaf := binary.BigEndian.AppendUint64([]byte("sn3/leaf/1"), uint64(from/64))
		for _, x := range v[a:b] {
			leaf = binary.LittleEndian.AppendUint32(leaf, math.Float32bits(x))
		}
		level = append(level, sha256.Sum256(leaf))
	}
	for len(level) > 1 {
		var up [][32]byte
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				up = append(up, level[i])
				continue
			}
			up = append(up, sha256.Sum256(append(append([]byte("sn3/node/1"), level[i][:]...), level[i+1][:]...)))
		}
		level = up
	}
	hash := l.Hash()
	return sha256.Sum256(append(append([]byte("sn3/root/1"), hash[:]...), level[0][:]...))
}

// A tree of many leaves, an odd number on two levels, against the naive one; and every value counts.
func TestRootAgainstNaive(t *testing.T) {
	l := layoutOf(t, model.Config{Vocab: 64 * 700, Width: 2, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 2, Seq: 4, Tied: true})
	theta := model.NewFlat(l)
	theta.Init(1)
	root, err := Root(theta)
	if err != nil || root != naiveRoot(l, theta.Data) {
		t.Fatalf("%d chunks: %s, the naive twin has %s (%v)", l.Chunks(), root, naiveRoot(l, theta.Data), err)
	}
	for _, at := range []int{0, 64*2*64 - 1, 64 * 2 * 64, l.Params() - 1} {
		old := theta.Data[at]
		theta.Data[at] = math.Float32frombits(math.Float32bits(old) ^ 1)
		if again, err := Root(theta); err != nil || again == root {
			t.Errorf("value %d does not count (%v)", at, err)
		}
		theta.Data[at] = old
	}
}

func TestGoldenTransition(t *testing.T) {
	sel := chain.Selection{Window: 3, Winners: []chain.Winner{{Candidate: chain.Candidate{UID: 4, Hotkey: chain.Hotkey{1}, Digest: chain.Hash{2}}, Score: 9000}}}
	got := Transition(chain.Hash{7}, 3, sel, chain.Hash{8})
	if got.String() != goldenTransition {
		t.Errorf("transition %s, want %s", got, goldenTransition)
	}
	other := sel
	other.Winners = append([]chain.Winner(nil), sel.Winners...)
	other.Winners[0].Digest[0] = 3
	none := chain.Selection{Window: 3}
	seen := map[chain.Hash]bool{got: true}
	for _, h := range []chain.Hash{Transition(chain.Hash{7}, 3, other, chain.Hash{8}), Transition(chain.Hash{7}, 3, none, chain.Hash{8}),
		Transition(chain.Hash{6}, 3, sel, chain.Hash{8}), Transition(chain.Hash{7}, 4, sel, chain.Hash{8}), Transition(chain.Hash{7}, 3, sel, chain.Hash{9})} {
		if seen[h] {
			t.Error("two transitions share a root")
		}
		seen[h] = true
	}
}
