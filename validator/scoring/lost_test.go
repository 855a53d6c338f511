package scoring

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"sn3/chain"
)

// A validator whose committed weights the chain dropped says so, once it has committed any.
func TestLostWeightsAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		weighed chain.Block
		reason  string
		err     error
		told    bool
	}{"dropped": {7, "too old", nil, true}, "counted": {7, "", nil, false}, "none yet": {0, "too old", nil, false}, "nobody answers": {7, "too old", errors.New("away"), false}} {
		var log bytes.Buffer
		v := &Validator{cfg: Config{Book: &Book{Weighed: c.weighed}, Log: slog.New(slog.NewTextHandler(&log, nil)), Dropped: func(_ context.Context, since chain.Block) (string, error) {
			if since != c.weighed {
				t.Errorf("%s: asked since block %d", name, since)
			}
			return c.reason, c.err
		}}}
		v.lost(t.Context())
		if strings.Contains(log.String(), "too old") != c.told {
			t.Errorf("%s: logged %q", name, log.String())
		}
	}
}
