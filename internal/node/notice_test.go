package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"sn3/chain/local/quorum"
	"sn3/internal/events"
)

// The diary says once what each change among the chain's nodes was: which one is followed, who is set aside, and that
// signing pauses and goes on.
func TestNotices(t *testing.T) {
	var log bytes.Buffer
	var diary []events.Event
	n := &Node{Log: slog.New(slog.NewTextHandler(&log, nil)), Events: func(e events.Event) { diary = append(diary, e) }}
	for _, x := range []struct {
		notice quorum.Notice
		kind   events.Kind
		level  string
		text   string
	}{
		{quorum.Notice{Kind: quorum.Followed, Endpoint: "b:2", Reason: "a:1: it does not answer"}, events.Endpoint, "WARN", "following chain node b:2 instead of a:1: it does not answer"},
		{quorum.Notice{Kind: quorum.Aside, Endpoint: "a:1", Reason: "it lies"}, events.Endpoint, "WARN", "chain node a:1 is set aside: it lies"},
		{quorum.Notice{Kind: quorum.Back, Endpoint: "a:1", Reason: "it agrees"}, events.Endpoint, "INFO", "chain node a:1 counts again: it agrees"},
		{quorum.Notice{Kind: quorum.Stale, Endpoint: "a:1", Reason: "is behind"}, events.Endpoint, "WARN", "chain node a:1 is behind"},
		{quorum.Notice{Kind: quorum.Caught, Endpoint: "a:1", Reason: "has caught up"}, events.Endpoint, "INFO", "chain node a:1 has caught up"},
		{quorum.Notice{Kind: quorum.Disputed, Reason: "they disagree"}, events.Waiting, "WARN", "they disagree"},
		{quorum.Notice{Kind: quorum.Settled, Reason: "they agree again"}, events.Resumed, "INFO", "they agree again"},
	} {
		log.Reset()
		diary = nil
		n.notice(x.notice)
		if len(diary) != 1 || diary[0].Kind != x.kind || diary[0].Reason != x.text {
			t.Errorf("%s: diary %+v", x.notice.Kind, diary)
		}
		if got := log.String(); !strings.Contains(got, x.level) || !strings.Contains(got, x.text) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: log %s", x.notice.Kind, got)
		}
	}
}
