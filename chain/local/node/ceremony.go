package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/ceremony"
	"sn3/chain/local/state"
)

// Files of a ceremony's folder: beside them are those that the members send each other, under any name. None is a secret.
const (
	draftFile  = "draft.json"   // the genesis without the beacon's key
	madeFile   = "genesis.json" // the one with it
	dealSuffix = ".dealing"
	tellSuffix = ".answer"
)

// Errors of a ceremony.
var (
	// ErrCeremony: the files in a ceremony's folder do not let it go on.
	ErrCeremony = errors.New("node: the ceremony cannot go on")
	// ErrShare: a validator has no share of the key that its network begins with.
	ErrShare = errors.New("node: no share of the beacon's key")
)

// FoundDraft makes the keys of the first of several validators and, in folder, the draft of the genesis that all of them begin
// with: they make the beacon's key together (Ceremony).
func FoundDraft(home, folder string, g *state.Genesis, others []local.Candidate) (chain.Hash, error) {
	if len(g.Validators) > 0 {
		return chain.Hash{}, fmt.Errorf("the genesis names %d validators already", len(g.Validators))
	}
	k, err := loadOrMake(home)
	if err != nil {
		return chain.Hash{}, err
	}
	k.begin(g, others)
	c, err := ceremony.Draft(g)
	if err != nil {
		return chain.Hash{}, err
	}
	if list, err := os.ReadDir(folder); err == nil && len(list) > 0 {
		return chain.Hash{}, fmt.Errorf("%w: %s holds files of another one; name a new folder", ErrCeremony, folder)
	}
	if err := k.write(home); err != nil {
		return chain.Hash{}, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return chain.Hash{}, fmt.Errorf("make the ceremony's folder: %w", err)
	}
	return c.Hash(), writeGenesis(filepath.Join(folder, draftFile), g)
}

func writeGenesis(file string, g *state.Genesis) error {
	raw, err := json.MarshalIndent(g, "", "  ")
	if err == nil {
		err = writeFile(file, append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write genesis: %w", err)
	}
	return nil
}

// Ceremony is how far a ceremony has come, as one member's files show it.
type Ceremony struct {
	Network   string
	Draft     chain.Hash
	Threshold int
	Members   []ceremony.Progress // in the order of their indices
	Self      int
	Own       []string     // this node's files, for the others
	Bad       []chain.Hash // dealers about whom a complaint holds, once there is a key
	Made      bool
	Genesis   chain.Hash // once there is a key
	File      string     // of the genesis

	*ceremony.Ceremony
	home, folder string
	member       *dkg.Member
}

// TakePart does what a member can do next in the ceremony in folder: it deals, answers the others' dealings, takes its share and
// writes the genesis. What it did before stays as it is, whatever of it was lost.
func TakePart(home, folder string) (*Ceremony, error) {
	c, err := openCeremony(home, folder)
	if err != nil {
		return nil, err
	}
	if err := c.collect(); err != nil {
		return nil, err
	}
	if !c.Progress()[c.Self].Dealt {
		err = c.say(dealSuffix, c.Deal)
	}
	if err == nil && !c.Progress()[c.Self].Answered {
		if err = c.say(tellSuffix, c.Answer); errors.Is(err, ceremony.ErrWait) {
			err = nil
		}
	}
	if err == nil {
		err = c.conflict()
	}
	if err == nil {
		err = c.finish()
	}
	c.Members = c.Progress()
	return c, err
}

func openCeremony(home, folder string) (*Ceremony, error) {
	g, err := readDraft(folder)
	if err != nil {
		return nil, err
	}
	made, err := ceremony.Draft(g)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(folder, draftFile), err)
	}
	c := &Ceremony{Network: g.Network, Draft: made.Hash(), Threshold: made.Session().Threshold(), Ceremony: made, home: home, folder: folder}
	conf := config(home, 0, DefaultNet())
	if missing(conf.PrivValidatorKeyFile()) {
		return nil, fmt.Errorf("%w: %s has no keys; name the folder that chaind keys, or chaind genesis, made them in", dkg.ErrNotMember, home)
	}
	pv, err := loadKey(conf)
	if err != nil {
		return nil, err
	}
	if c.member, err = readMember(home); err != nil {
		return nil, err
	}
	if c.member != nil {
		c.Self, err = c.Index(c.member)
	}
	if c.member == nil || err != nil || c.Validator(c.Self) != chain.Hash(publicKey(pv)) {
		return nil, fmt.Errorf("%w: the draft has no line of the keys in %s; name the folder in which chaind keys printed the line that the draft was made of, or have a draft made with the line that it prints now", dkg.ErrNotMember, home)
	}
	return c, nil
}

func readDraft(folder string) (*state.Genesis, error) {
	file := filepath.Join(folder, draftFile)
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; it comes from the validator that ran chaind genesis", ErrCeremony, err)
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w; have it sent again", ErrCeremony, file, err)
	}
	return g, nil
}

// collect takes all files that members have sent.
func (c *Ceremony) collect() error {
	list, err := os.ReadDir(c.folder)
	if err != nil {
		return fmt.Errorf("read the ceremony's folder: %w", err)
	}
	for _, e := range list {
		name := e.Name()
		path := filepath.Join(c.folder, name)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || name == draftFile || name == madeFile || name[0] == '.' || strings.HasSuffix(name, ".tmp") {
			continue
		}
		raw, err := readSmall(path)
		if err != nil {
			return fmt.Errorf("read the ceremony's folder: %w", err)
		}
		before := c.Progress()[c.Self]
		if err := c.Add(raw); err != nil {
			return fmt.Errorf("%w: %s: %w%s", ErrCeremony, path, err, c.remedy(err))
		}
		if c.Progress()[c.Self] != before {
			c.Own = append(c.Own, path)
		}
	}
	return nil
}

// readSmall reads a file of a length that a member's may have; of a longer one it reads too much to be one.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, int64(ceremony.MaxFile)+1))
	return raw, errors.Join(err, f.Close())
}

// remedy is what to do about a file.
func (c *Ceremony) remedy(err error) string {
	switch {
	case errors.Is(err, ceremony.ErrFile):
		return "; delete it, and if a member sent it, have it sent again"
	case errors.Is(err, dkg.ErrSession):
		return fmt.Sprintf("; delete it, and have its author run chaind ceremony with the draft of hash %s", c.Draft)
	case errors.Is(err, ceremony.ErrTwice):
		return ": this file, and another one in the folder. The program never does that; if both came from its author begin again (chaind genesis, a new folder), without its line if it does so again"
	}
	return ""
}

// say writes what this member has to say into the folder.
func (c *Ceremony) say(suffix string, tell func(*dkg.Member) ([]byte, error)) error {
	raw, err := tell(c.member)
	if err != nil {
		return err
	}
	if err := c.Add(raw); err != nil {
		return err
	}
	file := filepath.Join(c.folder, c.Validator(c.Self).String()[:16]+suffix)
	if err := writeFile(file, raw); err != nil {
		return fmt.Errorf("write into the ceremony's folder: %w", err)
	}
	c.Own = append(c.Own, file)
	return nil
}

// conflict is an error if somebody got another dealing than is here now.
func (c *Ceremony) conflict() error {
	list := c.Conflicts()
	if len(list) == 0 {
		return nil
	}
	dealer := c.Validator(list[0].Dealer).Short()
	if list[0].Member == c.Self {
		return fmt.Errorf("%w: this node has answered to another dealing of validator %s than the one that is in %s now. A node of ours makes only one: ask it; if it gave out one by mistake, delete this node's answer",
			ErrCeremony, dealer, c.folder)
	}
	return fmt.Errorf("%w: validator %s has answered to another dealing of validator %s than the one in %s. A node of ours makes only one: ask both; if it gave out two, begin again without its line (chaind genesis, a new folder)",
		ErrCeremony, c.Validator(list[0].Member).Short(), dealer, c.folder)
}

// finish keeps the share and writes the genesis, when all have said everything.
func (c *Ceremony) finish() error {
	r, err := c.Finish()
	if errors.Is(err, ceremony.ErrWait) {
		return nil
	}
	if r != nil {
		for _, i := range r.Out {
			c.Bad = append(c.Bad, c.Validator(i))
		}
	}
	if errors.Is(err, dkg.ErrTooFew) {
		return fmt.Errorf("%w: of %d members %d have dealt bad shares, as complaints show (%s), and %d good dealings are needed; begin again (chaind genesis, a new folder) without their lines", ErrCeremony, len(c.Progress()), len(c.Bad), shorts(c.Bad), c.Threshold)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCeremony, err)
	}
	if c.Genesis, err = r.Genesis.Hash(); err != nil {
		return err
	}
	share, err := r.Share(c.member)
	if err != nil {
		return err
	}
	if err := c.keep(share, r.Genesis); err != nil {
		return err
	}
	c.File, c.Made = filepath.Join(c.folder, madeFile), true
	err = c.matches(c.File)
	if errors.Is(err, fs.ErrNotExist) {
		return writeGenesis(c.File, r.Genesis)
	}
	if err != nil {
		return fmt.Errorf("%w: %w; it comes from who has other files than these: compare the folders, delete it, and begin again if no file is missing", ErrCeremony, err)
	}
	return nil
}

func shorts(list []chain.Hash) string {
	var out []string
	for _, h := range list {
		out = append(out, h.Short())
	}
	return strings.Join(out, ", ")
}

// matches is an error if the file is another genesis than the one made here.
func (c *Ceremony) matches(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if h, err := g.Hash(); err != nil || h != c.Genesis {
		return fmt.Errorf("%s has the hash %s, the files in this folder make %s", file, h, c.Genesis)
	}
	return nil
}

// keep writes the share into the node's folder, unless that is of another network.
func (c *Ceremony) keep(share beacon.Share, g *state.Genesis) error {
	if err := c.matches(filepath.Join(c.home, genesisFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w; nothing was changed", ErrExists, err)
	}
	k, err := beacon.ParseKey(g.Beacon)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.home, sharesDir)
	if _, err := newSigner(c.member, dir, nil).read(k, share.Index); err == nil {
		return nil
	}
	return writeShare(dir, share)
}

// CheckShare is ErrShare if a validator of a genesis with a shared key has no share of it in its folder: its network would
// begin without its part of the beacon.
func CheckShare(home string, g *state.Genesis) error {
	conf := config(home, 0, DefaultNet())
	if len(g.Beacon) == 0 || missing(conf.PrivValidatorKeyFile()) {
		return nil
	}
	pv, err := loadKey(conf)
	if err != nil {
		return err
	}
	own := false
	for _, v := range g.Validators {
		own = own || v.Key == publicKey(pv)
	}
	if !own {
		return nil
	}
	k, err := beacon.ParseKey(g.Beacon)
	if err != nil {
		return err
	}
	member, err := readMember(home)
	if err != nil {
		return err
	}
	if member != nil {
		if i, ok := k.Index(member.Public()); ok {
			if _, err = newSigner(member, filepath.Join(home, sharesDir), nil).read(k, i); err == nil {
				return nil
			}
			return fmt.Errorf("%w: the genesis has this node sign the beacon's rounds, and %s holds no share of it (%w); chaind ceremony with the folder of the ceremony makes it, also after it was lost", ErrShare, home, err)
		}
	}
	return fmt.Errorf("%w: this node is a validator of the genesis, and its member.key is none of those that share the beacon's key; restore it from a copy of this folder, or have the others begin with a draft of the line that chaind keys prints", ErrShare)
}
