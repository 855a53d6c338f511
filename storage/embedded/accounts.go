package embedded

import (
	"errors"
	"sync"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"

	"sn3/storage"
)

// accounts is the gateway's list of keys. It is changed by this process only: the admin interface answers "not supported".
type accounts struct {
	root auth.Account

	mu     sync.RWMutex
	secret map[string]string // by access key
}

var _ auth.IAMService = (*accounts)(nil)

func newAccounts(root storage.Credential) *accounts {
	return &accounts{
		root:   auth.Account{Access: root.AccessKey, Secret: root.Reveal(), Role: auth.RoleAdmin},
		secret: map[string]string{},
	}
}

// set adds a key or replaces its secret.
func (a *accounts) set(access, secret string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secret[access] = secret
}

func (a *accounts) remove(access string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.secret, access)
}

// GetUserAccount returns an account by its access key.
func (a *accounts) GetUserAccount(access string) (auth.Account, error) {
	if access == a.root.Access {
		return a.root, nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	secret, ok := a.secret[access]
	if !ok {
		return auth.Account{}, auth.ErrNoSuchUser
	}
	return auth.Account{Access: access, Secret: secret, Role: auth.RoleUser}, nil
}

// ResolveAccounts returns those keys that do not exist.
func (a *accounts) ResolveAccounts(keys []string) ([]string, error) {
	var missing []string
	for _, k := range keys {
		if _, err := a.GetUserAccount(k); errors.Is(err, auth.ErrNoSuchUser) {
			missing = append(missing, k)
		}
	}
	return missing, nil
}

// CreateAccount is not offered over the network.
func (a *accounts) CreateAccount(auth.Account) error { return errNoAdmin() }

// UpdateUserAccount is not offered over the network.
func (a *accounts) UpdateUserAccount(string, auth.MutableProps) error { return errNoAdmin() }

// DeleteUserAccount is not offered over the network.
func (a *accounts) DeleteUserAccount(string) error { return errNoAdmin() }

// ListUserAccounts is not offered over the network.
func (a *accounts) ListUserAccounts() ([]auth.Account, error) { return nil, errNoAdmin() }

// Shutdown has nothing to do.
func (a *accounts) Shutdown() error { return nil }

func errNoAdmin() error { return s3err.GetAPIError(s3err.ErrAdminMethodNotSupported) }
