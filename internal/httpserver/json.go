package httpserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// strictJSON refuses what encoding/json forgives: repeated keys (the last would win after the first was validated)
// and broken UTF-8 (it would be stored as U+FFFD). Unknown fields and letter case are huma's to refuse.
var strictJSON = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		if _, first := v.(*any); first { // huma decodes twice: to validate, then into the request
			if !utf8.Valid(data) {
				return errors.New("the body is not UTF-8")
			}
			if err := noRepeatedKeys(data); err != nil {
				return err
			}
		}
		return json.Unmarshal(data, v)
	},
}

func noRepeatedKeys(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	type level struct {
		keys   map[string]struct{} // nil in an array
		expect bool                // a key comes next
	}
	var levels []level
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		top := len(levels) - 1
		if key, ok := t.(string); ok && top >= 0 && levels[top].expect {
			if _, twice := levels[top].keys[key]; twice {
				return fmt.Errorf("the key %.40q stands there twice", key)
			}
			levels[top].keys[key] = struct{}{}
			levels[top].expect = false
			continue
		}
		switch t {
		case json.Delim('{'):
			levels = append(levels, level{keys: map[string]struct{}{}, expect: true})
			continue
		case json.Delim('['):
			levels = append(levels, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:top]
			top--
		}
		if top >= 0 && levels[top].keys != nil {
			levels[top].expect = true
		}
	}
}
