package storage

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// remoteError is what an S3 server answered, reduced to what matters.
type remoteError struct {
	kind error // nil when no caller decides by it
	text string
	err  error // nil, or the SDK's
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.kind, e.err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// classify turns an error of the SDK into one with a kind, by the API's code first, by the HTTP status otherwise. Message
// texts are never looked at.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errForbidden) {
		return &remoteError{kind: ErrDenied, text: detail(err), err: err}
	}
	var resp *smithyhttp.ResponseError
	if !errors.As(err, &resp) || resp.HTTPStatusCode() == 0 {
		return &remoteError{kind: ErrUnavailable, text: detail(err), err: err}
	}
	status, code := resp.HTTPStatusCode(), ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	e := &remoteError{kind: kindOfCode(code, status), text: fmt.Sprintf("HTTP %d %s", status, http.StatusText(status)), err: err}
	if code != "" {
		e.text = fmt.Sprintf("%s (HTTP %d)", code, status)
	}
	if h := hint(code); h != "" {
		e.text += ": " + h
	}
	return e
}

// hint says what is wrong where a code of the S3 API does not say it to everybody.
func hint(code string) string {
	switch code {
	case "RequestTimeTooSkewed":
		return "this machine's clock is wrong"
	case "SignatureDoesNotMatch":
		return "wrong secret for this access key"
	case "InvalidAccessKeyId":
		return "the server does not know this access key"
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed":
		return "the bucket is in another region"
	case "InsufficientStorage":
		return "the server's disk is full"
	}
	return ""
}

// kindOfCode maps codes of the S3 API, then HTTP statuses; nil means that no caller can do anything about it.
func kindOfCode(code string, status int) error {
	switch code {
	case "NoSuchKey", "NoSuchBucket", "NotFound", "PermanentRedirect", "TemporaryRedirect", "InvalidBucketName":
		return ErrNotFound
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed",
		"InvalidToken", "ExpiredToken", "AuthorizationHeaderMalformed", "InvalidSecurity", "NotSignedUp", "Unauthorized", "Forbidden":
		return ErrDenied
	case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Busy", "TooManyRequests":
		return ErrUnavailable
	case "PreconditionFailed", "ConditionalRequestConflict":
		return ErrExists
	case "InvalidRange":
		return ErrMismatch
	case "EntityTooLarge":
		return ErrTooLarge
	}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrDenied
	case status >= 300 && status < 400, status == http.StatusNotFound, status == http.StatusGone:
		return ErrNotFound
	case status == http.StatusPreconditionFailed, status == http.StatusConflict:
		return ErrExists
	case status == http.StatusRequestedRangeNotSatisfiable:
		return ErrMismatch
	case status == http.StatusRequestEntityTooLarge:
		return ErrTooLarge
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return ErrUnavailable
	case status >= 200 && status < 300: // an answer that cannot be read
		return ErrMismatch
	}
	return nil
}

// detail is the part of err worth printing: without the SDK's operation, request ids and the URL.
func detail(err error) string {
	var remote *remoteError
	var request *url.Error
	switch {
	case errors.As(err, &remote):
		return remote.text
	case errors.As(err, &request):
		return request.Err.Error()
	}
	var op *smithy.OperationError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}
