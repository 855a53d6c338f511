package node

import (
	"errors"
	"net"
	"testing"
)

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
	const id = "0123456789012345678901234567890123456789@"
	inside, outside := []string{"10.0.0.1/8", "fe80::1/64", "127.0.0.1/8"}, []string{"127.0.0.1/8", "8.8.4.4/24"}
	for _, c := range []struct {
		n       Net
		machine []string // nil: it cannot be asked
		want    bool
	}{{Net{Listen: "127.0.0.1:0"}, outside, false}, {Net{Listen: "10.1.2.3:7000"}, outside, false}, {Net{Listen: "8.8.8.8:7000"}, inside, true},
		{Net{Listen: "0.0.0.0:7000", External: "192.168.1.2:7000"}, outside, false}, {Net{Listen: "127.0.0.1:7000", External: "chain.example.org:7000"}, inside, true},
		{Net{Listen: "0.0.0.0:7000", External: "8.8.8.8:7000", Peers: []string{id + "10.0.0.2:7000"}}, inside, true},
		{Net{Listen: "0.0.0.0:7000"}, inside, false}, {Net{Listen: "[::]:7000"}, inside, false}, {Net{Listen: "0.0.0.0:7000"}, outside, true}, {Net{Listen: "0.0.0.0:7000"}, nil, true},
		{Net{Listen: "0.0.0.0:7000", Peers: []string{id + "10.0.0.2:7000"}}, outside, false}, {Net{Listen: "0.0.0.0:7000", Peers: []string{id + "8.8.8.8:7000", id + "[::1]:7000"}}, outside, false},
		{Net{Listen: "0.0.0.0:7000", Peers: []string{id + "8.8.8.8:7000"}}, inside, true}, {Net{Listen: "0.0.0.0:7000", Peers: []string{id + "chain.example.org:7000"}}, inside, true}} {
		machine := func() (out []net.Addr, err error) {
			if c.machine == nil {
				return nil, errors.New("not told")
			}
			for _, s := range c.machine {
				ip, n, err := net.ParseCIDR(s)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, &net.IPNet{IP: ip, Mask: n.Mask})
			}
			return out, nil
		}
		if got := c.n.strict(machine); got != c.want {
			t.Errorf("%+v on %v: %v", c.n, c.machine, got)
		}
	}
}
