package wallet

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
	"sn3/chain/local"
)

// ErrAccount: an argument that names no account.
var ErrAccount = errors.New("wallet: not an account; want 64 hex digits, an address 0x…, or a wallet's .pub or .json file")

// Public is what everybody may know of a wallet: the content of its .pub file.
type Public struct {
	Account chain.Hotkey `json:"account"`
	Address string       `json:"evm"` // address, 0x and mixed case (EIP-55); the account is its hash. geth takes any JSON with "address" for a key
}

// PublicOf is the public side of a key.
func PublicOf(key *ecdsa.PublicKey) Public { return publicOfAddress(crypto.PubkeyToAddress(*key)) }

func publicOfAddress(a common.Address) Public { return Public{local.AccountOfAddress(a), a.Hex()} }

func (p Public) encode() []byte {
	return fmt.Appendf(nil, "{\"account\":%q,\"evm\":%q}\n", p.Account, p.Address)
}

// ParsePublic reads a .pub file. A byte that was changed is noticed: the account must be that of the address.
func ParsePublic(b []byte) (Public, error) {
	var p Public
	if err := json.Unmarshal(b, &p); err != nil {
		return Public{}, fmt.Errorf("%w: %v", ErrAccount, err)
	}
	if !common.IsHexAddress(p.Address) || !bytes.Equal(publicOfAddress(common.HexToAddress(p.Address)).encode(), b) {
		return Public{}, fmt.Errorf("%w: account and address do not belong together, or the file was changed, or an older release wrote it (give the address itself)", ErrAccount)
	}
	return p, nil
}

// ReadPublic reads a .pub file.
func ReadPublic(path string) (Public, error) {
	b, err := readFile(path)
	if err != nil {
		return Public{}, fmt.Errorf("read account: %w", err)
	}
	p, err := ParsePublic(b)
	if err != nil {
		return Public{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// PublicInFile reads whose a .pub or keystore file says it is, without opening it.
func PublicInFile(path string) (Public, error) {
	b, err := readFile(path)
	if err != nil {
		return Public{}, fmt.Errorf("read keystore: %w", err)
	}
	if p, err := ParsePublic(b); err == nil {
		return p, nil
	}
	s, err := parse(b)
	if err != nil {
		return Public{}, fmt.Errorf("%s: %w", path, err)
	}
	if s.Address == "" {
		return Public{}, fmt.Errorf("%s: %w with an address; sn3 wallet import opens it", path, ErrKeystore)
	}
	return publicOfAddress(common.HexToAddress(s.Address)), nil
}

// AccountInFile is PublicInFile's account.
func AccountInFile(path string) (chain.Hotkey, error) {
	p, err := PublicInFile(path)
	return p.Account, err
}

// ReadAccount finds out which account an argument means: 64 hex digits, an EVM address with 0x (mixed case is a checksum), or
// the path of a .pub or keystore file. Nothing is opened.
func ReadAccount(arg string) (chain.Hotkey, error) {
	var h chain.Hotkey
	if h.UnmarshalText([]byte(arg)) == nil {
		return h, nil
	}
	if digits, ok := strings.CutPrefix(arg, "0x"); ok && common.IsHexAddress(arg) {
		a := common.HexToAddress(arg)
		if digits != strings.ToLower(digits) && digits != strings.ToUpper(digits) && a.Hex() != arg {
			return h, fmt.Errorf("%s: a letter or its case is wrong: %w", arg, ErrAccount)
		}
		return local.AccountOfAddress(a), nil
	}
	p, err := PublicInFile(arg)
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrAccount, err)
	}
	return p.Account, nil
}
