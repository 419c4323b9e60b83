package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/sealed"
)

// A value is JSON as encoding/json decodes it into any, with numbers as they are written and personal texts as
// domain.Sealed. Objects have fields; everything else, lists too, is one value.

// pointer is a JSON Pointer (RFC 6901).
func pointer(path ...string) string {
	var b strings.Builder
	for _, p := range path {
		b.WriteString("/" + escape.Replace(p))
	}
	return b.String()
}

var escape = strings.NewReplacer("~", "~0", "/", "~1")

// valueOf is a Go value as JSON.
func valueOf(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("show a %T: %w", v, err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("show a %T: %w", v, err)
	}
	return texts(out), nil
}

// texts puts the sealed texts of a value in the place of the objects that they are in JSON. Only a text looks like one:
// everything in a state or a row has fields of our own naming.
func texts(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if s, ok := sealedText(v); ok {
			return s
		}
		for k := range v {
			v[k] = texts(v[k])
		}
	case []any:
		for i := range v {
			v[i] = texts(v[i])
		}
	}
	return v
}

func sealedText(o map[string]any) (s domain.Sealed, ok bool) {
	if len(o) != 3 {
		return s, false
	}
	subject, hasSubject := o["s"].(string)
	key, hasKey := o["k"].(string)
	cipher, hasCipher := o["c"].(string)
	if !hasCipher && o["c"] == nil { // the zero one, where no omitzero leaves it out
		_, hasCipher = o["c"]
	}
	b, err := base64.StdEncoding.DecodeString(cipher)
	return domain.Sealed{Subject: subject, KeyID: key, Cipher: b}, hasSubject && hasKey && hasCipher && err == nil
}

// flatten lists the fields of a value by their pointers, those of objects within it by theirs.
func flatten(at string, v any, into map[string]any) {
	if o, ok := v.(map[string]any); ok {
		for k, v := range o {
			flatten(at+pointer(k), v, into)
		}
		return
	}
	into[at] = v
}

// opening makes answers of values.
type opening struct {
	texts    Texts
	unopened Unopened
}

// open gives the value with its texts as whoever may read them sees them: a string, or null with the reason noted under
// the pointer.
func (o *opening) open(ctx context.Context, at string, v any) (any, error) {
	switch v := v.(type) {
	case domain.Sealed:
		return o.text(ctx, at, v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			var err error
			if out[k], err = o.open(ctx, at+pointer(k), v[k]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = o.open(ctx, at+pointer(strconv.Itoa(i)), v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

func (o *opening) text(ctx context.Context, at string, s domain.Sealed) (any, error) {
	if s.IsZero() {
		return nil, nil
	}
	if o.texts == nil {
		o.unopened.Sealed = append(o.unopened.Sealed, at)
		return nil, nil
	}
	plain, erased, err := o.texts.Open(ctx, s)
	switch {
	case err == nil && !erased:
		return plain, nil
	case err == nil:
		o.unopened.Erased = append(o.unopened.Erased, at)
	case ctx.Err() != nil, errors.Is(err, eventstore.ErrUnavailable), errors.Is(err, sealed.ErrWrongMaster):
		return nil, fmt.Errorf("open %s: %w", at, err)
	default: // one damaged text must not hide everything else
		o.unopened.Sealed = append(o.unopened.Sealed, at)
	}
	return nil, nil
}
