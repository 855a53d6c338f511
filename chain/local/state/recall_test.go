package state

import (
	"errors"
	"testing"

	"sn3/chain"
)

// Where less is kept than the newest blocks, a machine recalls as far as that goes; what was not kept whole is damage.
func TestRecall(t *testing.T) {
	s, d, undo := machine(t), disk{}, [][]KV{}
	s.params.KeepWindows, s.run.Schedule.Length = 2, 7
	for range 40 {
		r := next(s)
		undo = append([][]KV{d.undoes(r)}, undo...)
		d.keep(t, r)
	}
	s.recent = nil
	if err := s.Recall(undo); err != nil {
		t.Fatal(err)
	}
	for b := chain.Block(20); b <= 40; b++ {
		if x, err := s.Snapshot(b); (err == nil) != (b > 40-14) && s.snapshots[b] == nil || err == nil && x.Block != b {
			t.Errorf("block %d: %+v, %v", b, x, err)
		}
	}
	seat := string(append([]byte{'s'}, make([]byte, 8)...))
	for name, e := range map[string]KV{"another key": {[]byte("a"), nil}, "half a seat": {[]byte(seat), make([]byte, neuronLen-1)}, "a seat less": {[]byte(seat), nil}, "no key": {nil, nil},
		"half a record": {append([]byte("r"), make([]byte, 32)...), make([]byte, 9)}, "a seat beyond all": {append([]byte("s\xff"), make([]byte, 7)...), nil}} {
		if err := s.Recall([][]KV{{e}}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
