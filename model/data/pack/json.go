package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// fieldOf is a string of the JSON object that a line is, the last one of that name; null is "". The other fields are passed over,
// not kept: a line may hold millions.
func fieldOf(line []byte, field string) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	broken := func(err error) ([]byte, error) { return nil, fmt.Errorf("not a JSON object: %w", err) }
	first, err := d.Token()
	if err != nil {
		return broken(err)
	}
	if first != json.Delim('{') {
		return broken(fmt.Errorf("it begins with %v", first))
	}
	var found, fits bool
	var text *string
	var other json.RawMessage
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return broken(err)
		}
		if key != field {
			if err := d.Decode(&other); err != nil {
				return broken(err)
			}
			continue
		}
		text = nil
		err = d.Decode(&text)
		if found, fits = true, err == nil; err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) {
			return broken(err)
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return broken(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return broken(errors.New("more stands behind it"))
	}
	switch {
	case !found:
		return nil, fmt.Errorf("no field %q (--field)", field)
	case !fits:
		return nil, fmt.Errorf("field %q is not a string", field)
	case text == nil:
		return nil, nil
	}
	return []byte(*text), nil
}
