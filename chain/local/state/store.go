package state

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"sn3/chain"
)

// Keys of the stored state: a letter and an id of fixed length, numbers big-endian, so that keys sort as ids do. Values are
// JSON of fixed structs (one form per value), except beacons, which are the signature's bytes.
const (
	metaKey    = "m"
	appHashKey = "h"
)

func (s *State) touch(key string) { s.dirty[key] = true }

func accountKey(k chain.Coldkey) string { return "a" + string(k[:]) }
func recordKey(h chain.Hotkey) string   { return "r" + string(h[:]) }
func seatKey(uid int) string            { return "s" + number(uint64(uid)) }
func snapshotKey(b chain.Block) string  { return "p" + number(uint64(b)) }
func windowKey(w chain.Window) string   { return "w" + number(uint64(w)) }
func roundKey(r chain.Round) string     { return "b" + number(uint64(r)) }
func number(n uint64) string            { return string(binary.BigEndian.AppendUint64(nil, n)) }
func numberIn(key string) (uint64, bool) {
	if len(key) != 9 {
		return 0, false
	}
	return binary.BigEndian.Uint64([]byte(key[1:])), true
}

// value is the stored form of a key as it is now; nil if it is gone.
func (s *State) value(key string) []byte {
	n, _ := numberIn(key)
	switch key[0] {
	case 'm':
		return encode(s.meta)
	case 'a':
		return encode(s.accounts[chain.Coldkey([]byte(key[1:]))])
	case 'r':
		return encode(s.records[chain.Hotkey([]byte(key[1:]))])
	case 's':
		return encode(s.seats[n])
	case 'p':
		if x := s.snapshots[chain.Block(n)]; x != nil {
			return encode(x)
		}
	case 'w':
		if x, ok := s.selections[chain.Window(n)]; ok {
			return encode(x)
		}
	case 'b':
		return s.beacons[chain.Round(n)]
	}
	return nil
}

// encode is JSON of our own structs, which always encode.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

// Restore rebuilds the machine from the entries that Finalize gave out, in any order. With no entries it is New.
func Restore(g *Genesis, entries func(yield func(k, v []byte) bool)) (*State, error) {
	s, err := empty(g)
	if err != nil {
		return nil, err
	}
	seats := map[int]seat{}
	found := 0
	entries(func(k, v []byte) bool {
		found++
		err = s.load(string(k), v, seats)
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	if found == 0 {
		return New(g)
	}
	// genesis seats and accounts that were never touched are not among the entries
	fresh, err := New(g)
	if err != nil {
		return nil, err
	}
	for k, a := range fresh.accounts {
		if _, ok := s.accounts[k]; !ok {
			s.accounts[k] = a
		}
	}
	for i, x := range fresh.seats {
		if _, ok := seats[i]; !ok {
			seats[i] = x
		}
	}
	for i := range len(seats) {
		x, ok := seats[i]
		if !ok {
			return nil, fmt.Errorf("%w: seat %d is missing", errState, i)
		}
		s.seats = append(s.seats, x)
		s.byHotkey[x.Hotkey] = i
	}
	clear(s.dirty)
	return s, nil
}

func (s *State) load(key string, v []byte, seats map[int]seat) error {
	bad := func(err error) error {
		return fmt.Errorf("%w: key %s: %v", errState, hex.EncodeToString([]byte(key)), err)
	}
	if key == "" {
		return bad(nil)
	}
	n, numbered := numberIn(key)
	var err error
	switch {
	case key == metaKey:
		hash := s.meta.AppHash
		err = json.Unmarshal(v, &s.meta)
		s.meta.AppHash = hash
	case key == appHashKey && len(v) == 32:
		s.meta.AppHash = chain.Hash(v)
	case key[0] == 'a' && len(key) == 33:
		var a account
		err = json.Unmarshal(v, &a)
		s.accounts[chain.Coldkey([]byte(key[1:]))] = a
	case key[0] == 'r' && len(key) == 33:
		var p chain.Published
		err = json.Unmarshal(v, &p)
		s.records[chain.Hotkey([]byte(key[1:]))] = p
	case key[0] == 's' && numbered:
		var x seat
		err = json.Unmarshal(v, &x)
		seats[int(n)] = x
	case key[0] == 'p' && numbered:
		x := new(chain.Snapshot)
		err = json.Unmarshal(v, x)
		s.snapshots[chain.Block(n)] = x
	case key[0] == 'w' && numbered:
		var x chain.Selection
		err = json.Unmarshal(v, &x)
		s.selections[chain.Window(n)] = x
	case key[0] == 'b' && numbered:
		s.beacons[chain.Round(n)] = append([]byte(nil), v...)
	default:
		return bad(fmt.Errorf("unknown key"))
	}
	if err != nil {
		return bad(err)
	}
	return nil
}
