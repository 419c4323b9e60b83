package commands

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// canonical spells a decoded request so that two requests of one meaning have one spelling: JSON with sorted keys,
// zero fields left out (a new optional field changes no old spelling), times in UTC. Its form is fixed for ever: hashes
// of it are stored.
func canonical(request any) []byte {
	return appendCanonical(nil, reflect.ValueOf(request))
}

// spelled lets a request's own type say what it means.
type spelled interface{ canonical() string }

func appendCanonical(b []byte, v reflect.Value) []byte {
	if v.CanInterface() {
		switch t := v.Interface().(type) {
		case spelled:
			return appendText(b, t.canonical())
		case time.Time:
			return appendText(b, t.UTC().Format(time.RFC3339Nano))
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, "null"...)
		}
		return appendCanonical(b, v.Elem())
	case reflect.Struct:
		return appendStruct(b, v)
	case reflect.Slice:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendCanonical(b, v.Index(i))
		}
		return append(b, ']')
	case reflect.String:
		return appendText(b, v.String())
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	}
	panic(fmt.Sprintf("commands: a request may not have a %s", v.Type())) // no floats, maps or any: found by the first test
}

func appendStruct(b []byte, v reflect.Value) []byte {
	b = append(b, '{')
	first := true
	for _, f := range fieldsOf(v.Type()) {
		field := v.FieldByIndex(f.index)
		if field.IsZero() || field.Kind() == reflect.Slice && field.Len() == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendText(b, f.name), ':')
		b = appendCanonical(b, field)
	}
	return append(b, '}')
}

// appendText quotes as JSON. Not strconv.Quote: what that escapes changes with Unicode's versions.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

type canonicalField struct {
	name  string
	index []int
}

var canonicalFields sync.Map // reflect.Type → []canonicalField, filled once a type

func fieldsOf(t reflect.Type) []canonicalField {
	if known, ok := canonicalFields.Load(t); ok {
		return known.([]canonicalField)
	}
	var fields []canonicalField
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			panic(fmt.Sprintf("commands: field %s of %s has no json name", f.Name, t))
		}
		fields = append(fields, canonicalField{name, f.Index})
	}
	slices.SortFunc(fields, func(a, b canonicalField) int { return cmp.Compare(a.name, b.name) })
	canonicalFields.Store(t, fields)
	return fields
}
