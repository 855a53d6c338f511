package ledger

import (
	"testing"

	"sn3/chain/local"
)

// Of each class the newest events are kept, and none crowds out another.
func TestForget(t *testing.T) {
	list := []local.Event{{Kind: local.EventRegistered, Block: 1}, {Kind: local.EventStaked, Block: 2}}
	most := local.EventsFrequent.Kept()
	for i := range most + 3 {
		list = forget(append(list, local.Event{Kind: local.EventEpoch, Block: 3, Score: uint16(i)}))
	}
	if len(list) != 2+most || list[0].Block != 1 || list[1].Block != 2 || list[2].Score != 3 {
		t.Errorf("%d events, beginning with %+v", len(list), list[:3])
	}
}
