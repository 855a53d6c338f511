package state

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local/beacon"
)

// Keys of the stored state: a letter and an id of fixed length, numbers big-endian, so that keys sort as ids do. Values are
// in the binary forms of codec.go, except beacons, which are the signature's bytes, and the app hash.
const (
	metaKey    = "m"
	paramsKey  = "q"
	genesisKey = "g" // hash of the genesis
	appHashKey = "h" // not in the tree: its root

	validatorsKey = "v" // block at which the set changed last
	makingKey     = "d" // of a beacon key
)

// Errors of Restore.
var (
	// ErrDamaged: the stored entries are not what a machine of this version wrote.
	ErrDamaged = errors.New("state: stored entries are damaged")
	// ErrVersion: the stored entries were written by another version.
	ErrVersion = errors.New("state: stored by another version")
)

func (s *State) touch(key string) { s.dirty[key] = true }

func accountKey(k chain.Coldkey) string               { return "a" + string(k[:]) }
func historyKey(b chain.Block) string                 { return "c" + number(uint64(b)) }
func hotkeyKey(h chain.Hotkey) string                 { return "o" + string(h[:]) }
func unbondingKey(k chain.Coldkey) string             { return "u" + string(k[:]) }
func shareKey(k chain.Coldkey, h chain.Hotkey) string { return "n" + string(k[:]) + string(h[:]) }
func commitKey(h chain.Hotkey) string                 { return "t" + string(h[:]) }
func recordKey(h chain.Hotkey) string                 { return "r" + string(h[:]) }
func seatKey(uid int) string                          { return "s" + number(uint64(uid)) }
func snapshotKey(b chain.Block) string                { return "p" + number(uint64(b)) }
func windowKey(w chain.Window) string                 { return "w" + number(uint64(w)) }
func validatorKey(k [32]byte) string                  { return "v" + string(k[:]) }
func roundKey(r chain.Round) string                   { return "b" + number(uint64(r)) }
func keyKey(from chain.Round) string                  { return "k" + number(uint64(from)) }
func dealingKey(id dealingID) string {
	return "e" + number(uint64(id.from)) + string([]byte{id.dealer})
}
func number(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }
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
		return encodeMeta(s.meta)
	case 'q':
		return encodeParams(s.params, s.meta.Rules)
	case 'g':
		return slices.Clone(s.genHash[:])
	case 'a':
		if x, ok := s.accounts[chain.Coldkey([]byte(key[1:]))]; ok {
			return encodeAccount(x)
		}
	case 'o':
		return encodeHotkey(s.hotkeys[chain.Hotkey([]byte(key[1:]))])
	case 'n':
		if n := s.shares[chain.Coldkey([]byte(key[1:33]))][chain.Hotkey([]byte(key[33:]))]; n > 0 {
			return encodeShares(n)
		}
	case 'u':
		if list := s.unbonding[chain.Coldkey([]byte(key[1:]))]; len(list) > 0 {
			return encodeUnbonding(list)
		}
	case 'c':
		if list := s.journal.of[chain.Block(n)]; len(list) > 0 {
			return encodeHistory(list)
		}
	case 'r':
		if x, ok := s.records[chain.Hotkey([]byte(key[1:]))]; ok {
			return appendPublished(nil, x)
		}
	case 't':
		if c := s.commits[chain.Hotkey([]byte(key[1:]))]; len(c) > 0 {
			return encodeCommits(c)
		}
	case 's':
		return encodeSeat(s.seats[n])
	case 'p':
		if x := s.snapshots[chain.Block(n)]; x != nil {
			return encodeSnapshot(x)
		}
	case 'w':
		if x, ok := s.selections[chain.Window(n)]; ok {
			return encodeSelection(x)
		}
	case 'b':
		return s.beacons[chain.Round(n)]
	case 'd':
		return encodeMaking(s.tried, s.making)
	case 'e':
		return s.dealings[dealingID{chain.Round(binary.BigEndian.Uint64([]byte(key[1:]))), key[9]}]
	case 'k':
		if k := s.keyAt(chain.Round(n)); k.From == chain.Round(n) {
			return k.Encode()
		}
	case 'v':
		if key == validatorsKey {
			return []byte(number(uint64(s.validatorsAt)))
		}
		if v, ok := s.validators[[32]byte([]byte(key[1:]))]; ok {
			return encodeValidator(v)
		}
	}
	return nil
}

// Restore rebuilds the machine from the entries that Finalize gave out, in any order; it keeps none of their memory. With no
// entries it is New. Errors wrap ErrDamaged or ErrVersion.
func Restore(g *Genesis, entries func(yield func(k, v []byte) bool)) (*State, error) {
	s, err := empty(g)
	if err != nil {
		return nil, err
	}
	seats := map[int]seat{}
	found := map[string]bool{}
	var root chain.Hash
	params := 0 // bytes of them
	entries(func(k, v []byte) bool {
		found[string(k[:min(len(k), 1)])] = true
		bad := s.load(string(k), v, seats)
		if bad != nil && (err == nil || errors.Is(bad, ErrVersion)) { // entries of another version look damaged, too
			err = fmt.Errorf("restore entry %s: %w", hex.EncodeToString(k), bad)
		}
		if string(k) == paramsKey {
			params = len(v)
		}
		if string(k) == appHashKey && bad == nil {
			root = chain.Hash(v)
		} else if bad == nil {
			s.tree.set(string(k), v)
		}
		return true
	})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return New(g)
	case !found[metaKey] || !found[appHashKey] || !found[genesisKey] || !found[paramsKey] || !found[makingKey]:
		return nil, fmt.Errorf("%w: height, parameters, genesis, making of beacon keys or app hash is missing", ErrDamaged)
	}
	if n := paramCount(s.meta.Rules); params != 8*n {
		return nil, fmt.Errorf("%w: parameters in %d bytes, rules of version %d have %d", ErrDamaged, params, s.meta.Rules, n)
	}
	for _, x := range paramTable {
		if x.fixed && x.get(&s.params) != x.get(&g.Params) {
			return nil, fmt.Errorf("%w: %s is not that of the genesis", ErrDamaged, x.name)
		}
	}
	if err := s.reseat(seats); err != nil {
		return nil, err
	}
	if err := s.link(); err != nil {
		return nil, err
	}
	s.findLate()
	if s.meta.AppHash = s.tree.sum(); s.meta.AppHash != root {
		return nil, fmt.Errorf("%w: they have the hash %s, not %s", ErrDamaged, s.meta.AppHash.Short(), root.Short())
	}
	if err := s.Audit(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	s.dirty = map[string]bool{}
	return s, nil
}

// reseat replaces the seats; they must be numbered without a gap and held by different hotkeys.
func (s *State) reseat(seats map[int]seat) error {
	s.seats = nil
	clear(s.byHotkey)
	for i := range len(seats) {
		x, ok := seats[i]
		if _, twice := s.byHotkey[x.Hotkey]; !ok || twice || i >= s.params.MaxSeats {
			return fmt.Errorf("%w: seat %d of %d", ErrDamaged, i, len(seats))
		}
		s.seats = append(s.seats, x)
		s.byHotkey[x.Hotkey] = i
	}
	return nil
}

func (s *State) load(key string, v []byte, seats map[int]seat) (err error) {
	n, numbered := numberIn(key)
	named := len(key) == 33
	switch {
	case key == metaKey:
		s.meta, err = decodeMeta(v)
	case key == paramsKey:
		s.params, err = decodeParams(v)
	case key == genesisKey:
		if string(v) != string(s.genHash[:]) {
			return fmt.Errorf("%w: they are of a chain with another genesis", ErrDamaged)
		}
	case key == appHashKey && len(v) == len(s.meta.AppHash):
	case named && key[0] == 'a':
		id := chain.Coldkey([]byte(key[1:]))
		s.accounts[id], err = decodeAccount(v)
	case numbered && key[0] == 'c':
		s.journal.of[chain.Block(n)], err = decodeHistory(v)
	case named && key[0] == 'o':
		id := chain.Hotkey([]byte(key[1:]))
		s.hotkeys[id], err = decodeHotkey(v)
	case len(key) == 65 && key[0] == 'n':
		var n uint64
		if n, err = decodeShares(v); err == nil {
			s.setShares(chain.Coldkey([]byte(key[1:33])), chain.Hotkey([]byte(key[33:])), n)
		}
	case named && key[0] == 'u':
		err = s.loadUnbonding(chain.Coldkey([]byte(key[1:])), v)
	case named && key[0] == 'r':
		id := chain.Hotkey([]byte(key[1:]))
		s.records[id], err = decodePublished(id, v)
	case key == validatorsKey && len(v) == 8:
		s.validatorsAt = chain.Block(binary.BigEndian.Uint64(v))
	case named && key[0] == 'v':
		s.validators[[32]byte([]byte(key[1:]))], err = decodeValidator(v)
	case named && key[0] == 't':
		id := chain.Hotkey([]byte(key[1:]))
		s.commits[id], err = decodeCommits(v)
	case numbered && key[0] == 's' && n < maxSeats:
		seats[int(n)], err = decodeSeat(int(n), v)
	case numbered && key[0] == 'p':
		s.snapshots[chain.Block(n)], err = decodeSnapshot(chain.Block(n), v)
	case numbered && key[0] == 'w':
		s.selections[chain.Window(n)], err = decodeSelection(chain.Window(n), v)
	case key == makingKey:
		s.tried, s.making, err = decodeMaking(s.gen.Network, v)
	case len(key) == 10 && key[0] == 'e':
		err = s.loadDealing(dealingID{chain.Round(binary.BigEndian.Uint64([]byte(key[1:]))), key[9]}, v)
	case numbered && key[0] == 'k':
		err = s.loadKey(chain.Round(n), v)
	case numbered && key[0] == 'b' && len(v) == beacon.SignatureLen:
		s.beacons[chain.Round(n)] = slices.Clone(v)
	default:
		return fmt.Errorf("%w: unknown key or wrong length", ErrDamaged)
	}
	if errors.Is(err, errForm) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

func (s *State) loadUnbonding(k chain.Coldkey, v []byte) error {
	list, err := decodeUnbonding(v)
	if err != nil {
		return err
	}
	for _, d := range list {
		s.enqueue(k, d)
	}
	return nil
}
