package storage

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Provider is a family of S3 servers that want to be spoken to in the same way.
type Provider string

// Providers with a profile; ProviderOther is any S3 server at an address of the operator's choice.
const (
	ProviderLocal Provider = "local" // versitygw, as in storage/embedded
	ProviderAWS   Provider = "aws"
	ProviderR2    Provider = "r2"
	ProviderGCS   Provider = "gcs"
	ProviderB2    Provider = "b2"
	ProviderOther Provider = "other"
)

// Providers lists the profiles, for help texts.
func Providers() []Provider {
	return []Provider{ProviderLocal, ProviderAWS, ProviderR2, ProviderGCS, ProviderB2, ProviderOther}
}

// profile is how one provider differs from the others. Sources: notes/ecosystem.md §2.
type profile struct {
	region      string // "" = from the locator
	pathStyle   bool
	checksums   bool // CRC32 on uploads when the server takes it; SHA-256 of what matters is ours anyway
	batchDelete bool // DeleteObjects; the others answer 501 or 400 to its checksum header in one form or another
	unsignedAE  bool // Accept-Encoding must not be signed: a front end rewrites it
}

func (p Provider) profile() profile {
	switch p {
	case ProviderAWS:
		return profile{checksums: true, batchDelete: true}
	case ProviderR2:
		return profile{region: "auto", pathStyle: true}
	case ProviderGCS:
		return profile{region: "auto", pathStyle: true, unsignedAE: true}
	case ProviderB2:
		return profile{pathStyle: true}
	case ProviderLocal:
		return profile{region: "us-east-1", pathStyle: true, batchDelete: true}
	}
	return profile{region: "us-east-1", pathStyle: true}
}

// endpoint is where and how to reach one bucket.
type endpoint struct {
	provider   Provider
	url        string // scheme and host
	region     string
	bucket     string
	bucketless bool // the host is the bucket: r2.dev
}

// endpoint builds the host from the template of the locator's kind. own says that an own credential will be used, which
// for R2 means the S3 interface and not the public one.
func (l Locator) endpoint(port int, own bool) endpoint {
	e := endpoint{bucket: l.bucket, region: l.region}
	switch l.kind {
	case KindLocal:
		e.provider, e.url = ProviderLocal, "http://127.0.0.1:"+strconv.Itoa(port)
	case KindS3:
		e.provider, e.url = ProviderAWS, "https://s3."+l.region+".amazonaws.com"
		if strings.HasPrefix(l.region, "cn-") {
			e.url += ".cn"
		}
	case KindR2, KindR2Token, KindR2Public:
		e.provider, e.url = ProviderR2, "https://"+hex.EncodeToString(l.r2.account[:])+".r2.cloudflarestorage.com"
		if l.kind == KindR2Public && !own {
			e.url, e.bucketless = "https://pub-"+hex.EncodeToString(l.r2.public[:])+".r2.dev", true
		}
	case KindGCS:
		e.provider, e.url = ProviderGCS, "https://storage.googleapis.com"
	case KindB2:
		e.provider, e.url = ProviderB2, "https://s3."+l.region+".backblazeb2.com"
	}
	if r := e.provider.profile().region; r != "" {
		e.region = r
	}
	return e
}

// leanSigner signs without Accept-Encoding (the SDK would sign it) for servers behind a front end that changes it.
type leanSigner struct{ s3.HTTPSignerV4 }

func (s leanSigner) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, payloadHash, service, region string, at time.Time, fns ...func(*v4.SignerOptions)) error {
	const header = "Accept-Encoding"
	had := r.Header.Values(header)
	r.Header.Del(header)
	err := s.HTTPSignerV4.SignHTTP(ctx, c, r, payloadHash, service, region, at, fns...)
	for _, v := range had {
		r.Header.Add(header, v)
	}
	return err // the SDK names the operation
}
