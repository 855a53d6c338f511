package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/ledger"
	"sn3/chain/local/state"
)

// Files of a member of the beacon, readable by their owner only.
const (
	memberFile = "member.key" // from which shares are decrypted
	sharesDir  = "shares"     // one file a key, named by its first round
)

// signer is a node's part in the beacon: its shares of keys, and its words in the making of the next one. Everything but the
// member key follows from the chain, as long as the chain keeps a key's dealings; the files are for later.
type signer struct {
	member *dkg.Member // nil: the node takes no part in making keys
	dir    string      // of shares; empty: they are not kept
	log    *slog.Logger
	deal   func(*dkg.Session, *dkg.Member) (*dkg.Dealing, error)

	mu     sync.Mutex
	shares map[chain.Round]beacon.Share // by the first round of their key
	seen   map[chain.Round]bool         // keys that were looked at
	making [32]byte                     // session that what follows belongs to
	own    []byte                       // this node's dealing
	heard  map[int]bool                 // dealers whose dealing was looked at
	bad    map[int][]byte               // complaints, by dealer
}

func newSigner(member *dkg.Member, dir string, log *slog.Logger) *signer {
	return &signer{member: member, dir: dir, log: log, deal: deal, shares: map[chain.Round]beacon.Share{}, seen: map[chain.Round]bool{}}
}

func deal(s *dkg.Session, m *dkg.Member) (*dkg.Dealing, error) { return dkg.Deal(s, m, rand.Reader) }

// alone is the signer of a node whose secret is the whole key that the chain begins with.
func (s *signer) alone(secret []byte) {
	s.shares[0], s.seen[0] = beacon.Share{Secret: [beacon.SecretLen]byte(secret)}, true
}

// share is this node's share of the key that signs a round.
func (s *signer) share(keys beacon.Keys, r chain.Round) (beacon.Share, *beacon.Key, bool) {
	k, ok := keys.At(r)
	if !ok {
		return beacon.Share{}, nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.shares[k.From]
	return x, k, ok
}

// sign makes this node's partial signatures of those rounds of whose key it has a share. To sign a round twice does no harm:
// there is only one partial signature of each member.
func (s *signer) sign(keys beacon.Keys, rounds []chain.Round) (out []partial, err error) {
	for _, r := range rounds {
		x, _, ok := s.share(keys, r)
		if !ok {
			continue
		}
		p, err := beacon.PartialSign(x, r)
		if err != nil {
			return nil, err
		}
		out = append(out, partial{r, p})
	}
	return out, nil
}

// follow looks at a committed block: it takes its share of a new key, and inspects dealings. An error is one of the disk.
func (s *signer) follow(l *ledger.Ledger) error {
	for _, k := range l.BeaconKeys() {
		if err := s.take(l, k); err != nil {
			return err
		}
	}
	height, _ := l.Height()
	m := l.Making(height + 1)
	if m == nil || s.member == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enter(m)
	for dealer, raw := range m.Dealings {
		if s.heard[dealer] {
			continue
		}
		s.heard[dealer] = true
		d, err := dkg.ParseDealing(raw)
		if err != nil {
			continue
		}
		if c, err := m.Session.Inspect(d, s.member); err == nil && c != nil {
			s.bad[dealer] = append([]byte{state.SaidComplaint}, c.Encode()...)
			s.log.Warn("a member of the beacon has dealt this node a bad share; it complains", "member", dealer)
		}
	}
	return nil
}

// enter forgets what belongs to another session.
func (s *signer) enter(m *state.Making) {
	if id := m.Session.ID(); s.making != id {
		s.making, s.own, s.heard, s.bad = id, nil, map[int]bool{}, map[int][]byte{}
	}
}

// say is what this node has to say in its own block at height: its dealing, or its complaints.
func (s *signer) say(m *state.Making) (out [][]byte, err error) {
	if m == nil || s.member == nil {
		return nil, nil
	}
	me, ok := m.Session.Index(s.member.Public())
	if !ok {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enter(m)
	if m.Deals && m.Dealings[me] == nil {
		if s.own == nil {
			d, err := s.deal(m.Session, s.member)
			if err != nil {
				return nil, err
			}
			s.own = append([]byte{state.SaidDealing}, d.Encode()...)
		}
		return [][]byte{s.own}, nil
	}
	for dealer := range beacon.MaxMembers {
		if c := s.bad[dealer]; c != nil && m.Complaining && !m.Guilty[dealer] && len(out) < state.MaxSaid {
			out = append(out, c)
		}
	}
	return out, nil
}

// take gets this node's share of a key, from its file, or of the dealings that the chain keeps.
func (s *signer) take(l *ledger.Ledger, k *beacon.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[k.From] || s.member == nil {
		return nil
	}
	s.seen[k.From] = true
	me, ok := k.Index(s.member.Public())
	if !ok {
		return nil
	}
	share, err := s.read(k, me)
	if err == nil {
		s.shares[k.From] = share
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("the file of this node's share of a beacon key is of no use; it is made anew", "error", err)
	}
	if share, err = s.derive(l, k); err != nil {
		s.log.Warn("this node has no share of a beacon key: it does not sign with it", "from", k.From, "error", err)
		return nil
	}
	s.shares[k.From] = share
	if s.dir == "" {
		return nil
	}
	return writeShare(s.dir, share)
}

// derive computes the share of a key of its dealings.
func (s *signer) derive(l *ledger.Ledger, k *beacon.Key) (beacon.Share, error) {
	session, err := dkg.NewSession(l.Genesis().Network, k.From, k.Threshold, k.Members)
	if err != nil {
		return beacon.Share{}, err
	}
	var list []*dkg.Dealing
	for _, raw := range l.Dealings(k.From) {
		d, err := dkg.ParseDealing(raw)
		if err != nil {
			return beacon.Share{}, err
		}
		list = append(list, d)
	}
	if len(list) == 0 && k.From == 0 {
		return beacon.Share{}, errors.New("the key was made before the first block: chaind ceremony with the folder of the ceremony makes the share again, then start the node again")
	}
	if len(list) == 0 {
		return beacon.Share{}, errors.New("the chain keeps no dealings of this key; restore the file from a copy of this folder")
	}
	res, err := dkg.Finish(session, list, nil)
	if err != nil {
		return beacon.Share{}, err
	}
	return res.Share(s.member)
}

// read reads the file of a share and holds it against the key.
func (s *signer) read(k *beacon.Key, me int) (beacon.Share, error) {
	if s.dir == "" {
		return beacon.Share{}, fs.ErrNotExist
	}
	file := shareFile(s.dir, k.From)
	raw, err := os.ReadFile(file)
	if err != nil {
		return beacon.Share{}, err
	}
	share, err := beacon.ParseShare(raw)
	if err != nil {
		return beacon.Share{}, fmt.Errorf("%s: %w", file, err)
	}
	pub, err := beacon.Public(share.Secret[:])
	if err != nil || share.Index != me || share.From != k.From || beacon.PublicKey(pub) != k.PublicShares[me] {
		return beacon.Share{}, fmt.Errorf("%s: it is a share of another key", file)
	}
	return share, nil
}

func shareFile(dir string, from chain.Round) string {
	return filepath.Join(dir, strconv.FormatUint(uint64(from), 10))
}

// writeShare keeps a share in its file.
func writeShare(dir string, share beacon.Share) error {
	raw, err := share.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep share of a beacon key: %w", err)
	}
	if err := writeFile(shareFile(dir, share.From), raw); err != nil {
		return fmt.Errorf("keep share of a beacon key: %w", err)
	}
	return nil
}

// signs says whether this node has a share of the key that signs a round.
func (s *signer) signs(keys beacon.Keys, r chain.Round) bool {
	_, _, ok := s.share(keys, r)
	return ok
}

// readMember reads the member key of a folder; nil if there is none.
func readMember(home string) (*dkg.Member, error) {
	file := filepath.Join(home, memberFile)
	if missing(file) {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read beacon member key: %w; the user of the node must be able to read its whole folder", err)
	}
	m, err := dkg.ParseMember(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}
