package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
)

// Retries of one request: at most 8 attempts, together about a second of waiting, because a window is short. The SDK's
// own numbers (3 attempts, up to 20 s, a quota shared by all calls of a client) are made for other uses.
const (
	maxAttempts = 8
	firstWait   = 25 * time.Millisecond
	longestWait = 200 * time.Millisecond
)

// s3Driver is Driver over the S3 protocol.
type s3Driver struct {
	api    *s3.Client
	bucket string
	batch  bool // DeleteObjects
}

// newS3 builds the driver with everything set by hand: no configuration file, environment variable or metadata service
// is asked for anything.
func newS3(e endpoint, c *Credential, h *http.Client) *s3Driver {
	prof := e.provider.profile()
	o := s3.Options{
		Region:                     e.region,
		BaseEndpoint:               aws.String(e.url),
		UsePathStyle:               prof.pathStyle,
		HTTPClient:                 h,
		Credentials:                aws.AnonymousCredentials{},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		Retryer:                    newRetryer(),
		DisableLogOutputChecksumValidationSkipped: true,
	}
	if prof.checksums {
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
	}
	if c != nil {
		o.Credentials = credentials.NewStaticCredentialsProvider(c.AccessKey, c.Reveal(), "")
	}
	if prof.unsignedAE {
		o.HTTPSignerV4 = leanSigner{v4.NewSigner(func(s *v4.SignerOptions) { s.DisableURIPathEscaping = true })}
	}
	if e.bucketless {
		o.EndpointResolverV2 = fixedHost(e.url)
	}
	return &s3Driver{api: s3.New(o), bucket: e.bucket, batch: prof.batchDelete}
}

// fixedHost resolves every call to one host, with no bucket in the path.
type fixedHost string

func (h fixedHost) ResolveEndpoint(context.Context, s3.EndpointParameters) (smithyendpoints.Endpoint, error) {
	u, err := url.Parse(string(h))
	if err != nil {
		return smithyendpoints.Endpoint{}, fmt.Errorf("parse endpoint: %w", err)
	}
	return smithyendpoints.Endpoint{URI: *u}, nil
}

func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		o.RateLimiter = ratelimit.None // one dead bucket must not use up the retries of others
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			wait := min(firstWait<<min(attempt, 10), longestWait)
			return wait/2 + rand.N(wait/2), nil
		})
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if errors.Is(err, errForbidden) {
				return aws.FalseTernary
			}
			return aws.UnknownTernary
		})}, o.Retryables...)
	})
}

func (d *s3Driver) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) error {
	src := &source{r: body, size: size}
	in := &s3.PutObjectInput{
		Bucket:        &d.bucket,
		Key:           &key,
		Body:          io.NewSectionReader(src, 0, size), // seekable: signed and retried over plain HTTP too
		ContentLength: &size,
		ContentType:   aws.String("application/octet-stream"),
	}
	if o.IfAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	_, err := d.api.PutObject(ctx, in)
	if own := src.failed.Load(); err != nil && own != nil {
		return &localError{fmt.Errorf("read body: %w", *own)}
	}
	return classify(err)
}

// source is the body of an upload; it remembers when reading it failed, which is no server's fault.
type source struct {
	r      io.ReaderAt
	size   int64
	failed atomic.Pointer[error]
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if err == io.EOF && off+int64(n) < s.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		s.failed.Store(&err)
	}
	return n, err
}

func (d *s3Driver) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: &d.bucket, Key: &key}
	ranged := off > 0 || n >= 0
	if n >= 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	} else if ranged {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", off))
	}
	out, err := d.api.GetObject(ctx, in)
	if err != nil {
		return nil, classify(err)
	}
	if ranged && out.ContentRange == nil { // a front end that ignores ranges would give bytes of another place
		return nil, errors.Join(fmt.Errorf("%w: the server ignores ranges", ErrMismatch), out.Body.Close())
	}
	return out.Body, nil
}

func (d *s3Driver) List(ctx context.Context, prefix, after string, max int) ([]Object, error) {
	var objs []Object
	for len(objs) < max {
		in := &s3.ListObjectsV2Input{Bucket: &d.bucket, MaxKeys: aws.Int32(int32(max - len(objs)))}
		if prefix != "" {
			in.Prefix = &prefix
		}
		if after != "" {
			in.StartAfter = &after
		}
		page, err := d.api.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, classify(err)
		}
		for _, o := range page.Contents {
			key := aws.ToString(o.Key)
			if key <= after { // also what makes this loop end
				return nil, fmt.Errorf("%w: listing out of order", ErrMismatch)
			}
			after = key
			objs = append(objs, Object{Key: key, Size: aws.ToInt64(o.Size)})
		}
		if !aws.ToBool(page.IsTruncated) || len(page.Contents) == 0 {
			break
		}
	}
	return objs, nil
}

func (d *s3Driver) Delete(ctx context.Context, keys ...string) error {
	if !d.batch || len(keys) == 1 {
		for i := range keys {
			_, err := d.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &d.bucket, Key: &keys[i]})
			if err = classify(err); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		return nil
	}
	ids := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		ids[i].Key = &keys[i]
	}
	out, err := d.api.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &d.bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
	if err != nil {
		return classify(err)
	}
	for _, e := range out.Errors {
		kind := kindOfCode(aws.ToString(e.Code), 0)
		if kind != ErrNotFound {
			return &remoteError{kind: kind, text: aws.ToString(e.Code) + " for " + aws.ToString(e.Key)}
		}
	}
	return nil
}
