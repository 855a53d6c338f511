package node

import "testing"

// A node keeps the port that was chosen for it, and takes another one only where that is gone.
func TestPortIsKept(t *testing.T) {
	home := t.TempDir()
	if err := WriteNet(home, DefaultNet()); err != nil {
		t.Fatal(err)
	}
	start := func(n Net) Net {
		t.Helper()
		n, err := settle(home, n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	read := func() Net {
		t.Helper()
		n, err := ReadNet(home)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := start(read())
	if again := start(read()); again.Listen != first.Listen || again.Port == 0 {
		t.Errorf("first %s, then %s", first.Listen, again.Listen)
	}
	l, err := listen(first.Listen)
	if err != nil {
		t.Fatal(err)
	}
	other := start(read())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if other.Listen == first.Listen || read().Port != other.Port {
		t.Errorf("the port was taken: %s, kept %d", other.Listen, read().Port)
	}
	if n := start(Net{Listen: "127.0.0.1:7000", Peers: []string{"for this run"}}); n.Listen != "127.0.0.1:7000" || len(read().Peers) != 0 {
		t.Errorf("a fixed port: %+v, kept %+v", n, read())
	}
}

// Only a node at an address of the internet limits what it dials to such addresses.
func TestStrict(t *testing.T) {
	for _, c := range []struct {
		n    Net
		want bool
	}{{Net{Listen: "127.0.0.1:0"}, false}, {Net{Listen: "10.1.2.3:7000"}, false}, {Net{Listen: "0.0.0.0:7000"}, true}, {Net{Listen: "8.8.8.8:7000"}, true},
		{Net{Listen: "0.0.0.0:7000", External: "192.168.1.2:7000"}, false}, {Net{Listen: "127.0.0.1:7000", External: "chain.example.org:7000"}, true}} {
		if got := c.n.strict(); got != c.want {
			t.Errorf("%+v: %v", c.n, got)
		}
	}
}
