package storage

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// Opener opens buckets under one dial policy; those at the same endpoint share its connections. A process that opens more
// than one bucket keeps one Opener. Safe for concurrent use.
type Opener struct {
	policy DialPolicy

	mu      sync.Mutex
	clients map[string]*http.Client // by scheme and host
}

// NewOpener returns an Opener for a network with policy p.
func NewOpener(p DialPolicy) *Opener {
	return &Opener{policy: p, clients: map[string]*http.Client{}}
}

// Open is Opener.Open with connections of its own.
func Open(l Locator, c *Credential, p DialPolicy) (*Bucket, error) { return NewOpener(p).Open(l, c) }

// Open returns the bucket that l names; c == nil reads anonymously, or with the token published in l. Nothing is sent
// yet. A locator that the policy rules out (a local bucket on a real network, or the reverse) is ErrLocator.
func (o *Opener) Open(l Locator, c *Credential) (*Bucket, error) {
	switch {
	case l.kind == 0:
		return nil, fmt.Errorf("%w: none given", ErrLocator)
	case o.policy.Loopback && l.kind != KindLocal:
		return nil, fmt.Errorf("%w: %s, but this network uses local buckets only", ErrLocator, l)
	case !o.policy.Loopback && l.kind == KindLocal:
		return nil, fmt.Errorf("%w: %s, but this is not a local network", ErrLocator, l)
	case o.policy.Loopback && (o.policy.LocalPort < 1 || o.policy.LocalPort > 65535):
		return nil, fmt.Errorf("%w: %s: the port of the local S3 server is not known (%d)", ErrLocator, l, o.policy.LocalPort)
	}
	e := l.endpoint(o.policy.LocalPort, c != nil)
	if c == nil && l.kind == KindR2Token {
		var err error
		if c, err = NewCredential(hex.EncodeToString(l.r2.access[:]), hex.EncodeToString(l.r2.secret[:])); err != nil {
			return nil, err
		}
	}
	return NewBucket(newS3(e, c, o.client(e.url))), nil
}

func (o *Opener) client(host string) *http.Client {
	o.mu.Lock()
	defer o.mu.Unlock()
	h, ok := o.clients[host]
	if !ok {
		h = newHTTPClient(o.policy)
		o.clients[host] = h
	}
	return h
}

// Endpoint is an S3 server at an address of the operator's choice; such an address never comes from the chain.
type Endpoint struct {
	URL      string // scheme and host, http or https
	Bucket   string
	Region   string   // "" = the provider's usual one
	Provider Provider // "" = ProviderOther
}

// OpenEndpoint opens a bucket at an operator's own endpoint, without a dial policy. Errors match ErrLocator.
func OpenEndpoint(e Endpoint, c *Credential) (*Bucket, error) {
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("%w: endpoint %.80q, want http(s)://HOST[:PORT]", ErrLocator, e.URL)
	}
	if err := validBucket(e.Bucket); err != nil {
		return nil, err
	}
	if e.Provider == "" {
		e.Provider = ProviderOther
	}
	if !slices.Contains(Providers(), e.Provider) {
		return nil, fmt.Errorf("%w: unknown provider %.20q, use one of %v", ErrLocator, e.Provider, Providers())
	}
	if e.Region == "" {
		e.Region = e.Provider.profile().region
	}
	if e.Region == "" {
		return nil, fmt.Errorf("%w: provider %s needs a region, for example us-east-1", ErrLocator, e.Provider)
	}
	at := endpoint{provider: e.Provider, url: u.Scheme + "://" + u.Host, region: e.Region, bucket: e.Bucket}
	return NewBucket(newS3(at, c, newHTTPClient(DialPolicy{any: true}))), nil
}
