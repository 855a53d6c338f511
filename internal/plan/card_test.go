package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sn3/internal/preset"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/gpu/memory"
)

// card is one of so many bytes that shall hold a preset.
func card(t *testing.T, name string, bytes int64, r memory.Request) Card {
	t.Helper()
	run, err := preset.Run(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.Model, r.Ranks = spec.Config(run.Model), 1
	return Card{Name: "card 0, a test's", Request: r, Memory: bytes, Allowed: bytes / 10 * 9}
}

// What is printed of a card adds up to what the engine allocates, and is named.
func TestCard(t *testing.T) {
	c := card(t, "160m", 24e9, memory.Request{Plan: memory.Lean, Recompute: memory.Selective, MicroBatch: 4})
	if c.Size() != c.Request.Arena().Size || Sum(c.Parts()) != c.Size() {
		t.Errorf("parts of %d bytes, %d are allocated", Sum(c.Parts()), c.Size())
	}
	var b strings.Builder
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"card 0, a test's: plan lean, recompute selective, micro-batch 4\n", "moments", "in all, allocated once", GB(c.Size()) + " of 21.60 GB: 90 % of 24.00 GB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	c.Request.Judge = true
	if c.Words() != "micro-batch 4" {
		t.Error(c.Words())
	}
}

// A refusal names what one card can change, and no more cards.
func TestCardTooSmall(t *testing.T) {
	for _, c := range []struct {
		preset string
		bytes  int64
		want   string
	}{
		{"160m", 8e9, "it fits with --micro-batch "},
		{"1b", 24e9, "it fits with --micro-batch 2 and --gpu-plan lean"},
		{"1b", 16e9, "--gpu-plan "},
		{"8b", 24e9, "no setting makes it fit on one card"},
		{"70b", 24e9, "no setting makes it fit on one card"},
	} {
		x := card(t, c.preset, c.bytes, memory.Request{Plan: memory.Classic, Recompute: memory.None, MicroBatch: 16})
		large, ok := errors.AsType[*memory.TooLarge](x.Request.Check(x.Allowed))
		if !ok {
			t.Fatalf("%s fits %d bytes", c.preset, c.bytes)
		}
		err := fmt.Errorf("start: %w", &CardTooSmall{Card: x, Err: large})
		if s := err.Error(); !strings.Contains(s, c.want) || strings.Contains(s, "such cards") || !strings.Contains(s, "plan classic, recompute none, micro-batch 16 needs ") {
			t.Errorf("%s in %d bytes: %s, want %q", c.preset, c.bytes, s, c.want)
		}
		if again, ok := errors.AsType[*memory.TooLarge](err); !ok || again != large {
			t.Error("the card's refusal is not in it")
		}
	}
}

// What the host of a card lacks is not made up for by presets as they would be on the CPU.
func TestHostOfACardIsTooSmall(t *testing.T) {
	r := request(t, "1b")
	r.Host = func(c model.Config) model.Need { // offload
		return memory.Request{Model: c, Plan: memory.Offload, Recompute: memory.None, Ranks: 1, MicroBatch: 1}.HostNeed()
	}
	p := Make(r)
	err := p.Check(Machine{Memory: Sum(p.Memory) / 3, Disk: Unknown})
	if err == nil || !strings.Contains(err.Error(), "the largest preset that fits is 160m") {
		t.Error(err)
	}
}

func TestGB(t *testing.T) {
	for n, want := range map[int64]string{0: "0.0 KB", 1234: "1.2 KB", 33_600_000: "33.6 MB", 150_000_000: "0.15 GB", 43_890_000_000: "43.89 GB"} {
		if got := GB(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
