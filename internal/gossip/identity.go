package gossip

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net/netip"

	ethcrypto "github.com/ethereum/go-ethereum/crypto"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"sn3/chain"
	"sn3/chain/local"
)

// identity is the libp2p key of an account: the same secp256k1 key, so that an author's peer id tells its hotkey.
func identity(key *ecdsa.PrivateKey) (crypto.PrivKey, error) {
	if key == nil {
		return nil, errors.New("no account key")
	}
	k, err := crypto.UnmarshalSecp256k1PrivateKey(ethcrypto.FromECDSA(key))
	if err != nil {
		return nil, fmt.Errorf("derive peer identity: %w", err)
	}
	return k, nil
}

// PeerID is the peer id of an account.
func PeerID(key *ecdsa.PrivateKey) (string, error) {
	k, err := identity(key)
	if err != nil {
		return "", err
	}
	id, err := peer.IDFromPrivateKey(k)
	if err != nil {
		return "", fmt.Errorf("derive peer id: %w", err)
	}
	return id.String(), nil
}

// PeerAddr is the multiaddress under which a node that listens on hostport, an IP address and port, can be dialled:
// /ip4/127.0.0.1/tcp/4001/p2p/16Uiu2... . Who knows keys and ports can write every node's peers down before any has started.
func PeerAddr(key *ecdsa.PrivateKey, hostport string) (string, error) {
	at, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return "", fmt.Errorf("make peer address: %w", err)
	}
	id, err := PeerID(key)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s/p2p/%s", listenAddr(at), id), nil
}

func listenAddr(at netip.AddrPort) string {
	family := "ip4"
	if at.Addr().Is6() {
		family = "ip6"
	}
	return fmt.Sprintf("/%s/%s/tcp/%d", family, at.Addr(), at.Port())
}

// hotkeyOf is the account behind a peer id; the id holds the public key itself.
func hotkeyOf(id peer.ID) (chain.Hotkey, error) {
	pub, err := id.ExtractPublicKey()
	if err != nil {
		return chain.Hotkey{}, fmt.Errorf("read peer id: %w", err)
	}
	if _, ok := pub.(*crypto.Secp256k1PublicKey); !ok {
		return chain.Hotkey{}, errors.New("read peer id: not an account key")
	}
	raw, err := pub.Raw()
	if err != nil {
		return chain.Hotkey{}, fmt.Errorf("read peer id: %w", err)
	}
	k, err := ethcrypto.DecompressPubkey(raw)
	if err != nil {
		return chain.Hotkey{}, fmt.Errorf("read peer id: %w", err)
	}
	return local.AccountOf(k), nil
}
