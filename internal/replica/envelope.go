package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"sn3/chain"
)

// Signature domains of what validators publish.
const (
	domainWindow     = "sn3/window/1"
	domainCheckpoint = "sn3/checkpoint/1"
)

// Envelope is a signed JSON document: the signature is over SHA-256 of Body's bytes exactly as they stand in the file.
type Envelope struct {
	Body      json.RawMessage `json:"body"`
	Hotkey    chain.Hotkey    `json:"hotkey"`
	Signature string          `json:"signature"` // hex
}

// ErrForged: a signed file whose signature, hashes or content do not hold.
var ErrForged = errors.New("replica: signed file does not verify")

func seal(s chain.Signer, domain string, body any) ([]byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode signed file: %w", err)
	}
	sig, err := s.Sign(domain, sha256.Sum256(raw))
	if err != nil {
		return nil, fmt.Errorf("sign file: %w", err)
	}
	return json.Marshal(Envelope{raw, s.Hotkey(), hex.EncodeToString(sig)})
}

// openEnvelope verifies the signature by want and decodes the body strictly: unknown fields, trailing bytes and a
// spelling other than ours are refused, so equal content means equal digest.
func openEnvelope(v chain.Verifier, domain string, want chain.Hotkey, b []byte, body any) (chain.Hash, error) {
	var e Envelope
	if err := strictJSON(b, &e); err != nil {
		return chain.Hash{}, fmt.Errorf("%w: %v", ErrForged, err)
	}
	if e.Hotkey != want {
		return chain.Hash{}, fmt.Errorf("%w: signed by %s, found in the bucket of %s", ErrForged, e.Hotkey.Short(), want.Short())
	}
	digest := chain.Hash(sha256.Sum256(e.Body))
	sig, err := hex.DecodeString(e.Signature)
	if err != nil {
		return chain.Hash{}, fmt.Errorf("%w: %v", ErrForged, err)
	}
	if err := v.Verify(want, domain, digest, sig); err != nil {
		return chain.Hash{}, fmt.Errorf("%w: %v", ErrForged, err)
	}
	if err := strictJSON(e.Body, body); err != nil {
		return chain.Hash{}, fmt.Errorf("%w: %v", ErrForged, err)
	}
	if again, err := json.Marshal(body); err != nil || !bytes.Equal(again, e.Body) {
		return chain.Hash{}, fmt.Errorf("%w: body is not canonical", ErrForged)
	}
	return digest, nil
}

func strictJSON(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("trailing bytes")
	}
	return nil
}

// File is one file of a checkpoint.
type File struct {
	Name   string     `json:"name"`
	Size   int64      `json:"size"`
	SHA256 chain.Hash `json:"sha256"`
}

// CheckpointManifest is the signed body of checkpoint/<w>/manifest.json.
type CheckpointManifest struct {
	Network    string       `json:"network"`
	Run        chain.Hash   `json:"run"`
	Window     chain.Window `json:"window"`
	Root       chain.Hash   `json:"root"`
	Transition chain.Hash   `json:"transition"`
	Files      []File       `json:"files"`
}

// Cast is a ballot as it stood on chain at ScoreBy(w).
type Cast struct {
	Validator chain.Hotkey `json:"validator"`
	Stake     chain.Amount `json:"stake"`
	Vote      []byte       `json:"vote"` // chain.Vote in its canonical bytes; empty if none
}

// WindowFile is the signed body of window/<w>: what happened in a window, for those who come later.
type WindowFile struct {
	Network    string          `json:"network"`
	Run        chain.Hash      `json:"run"`
	Window     chain.Window    `json:"window"`
	Before     chain.Hash      `json:"before"` // root(θ_{w-1})
	After      chain.Hash      `json:"after"`  // root(θ_w)
	Transition chain.Hash      `json:"transition"`
	Votes      []Cast          `json:"votes"`
	Selection  chain.Selection `json:"selection"`
}

// OpenWindowFile verifies window/<w> as found in the bucket of validator want.
func OpenWindowFile(v chain.Verifier, want chain.Hotkey, b []byte) (WindowFile, chain.Hash, error) {
	var f WindowFile
	d, err := openEnvelope(v, domainWindow, want, b, &f)
	return f, d, err
}

// OpenCheckpointManifest verifies checkpoint/<w>/manifest.json as found in the bucket of validator want.
func OpenCheckpointManifest(v chain.Verifier, want chain.Hotkey, b []byte) (CheckpointManifest, chain.Hash, error) {
	var m CheckpointManifest
	d, err := openEnvelope(v, domainCheckpoint, want, b, &m)
	return m, d, err
}
