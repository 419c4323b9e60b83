package eventstore

import (
	"reflect"
	"slices"
	"strings"

	"github.com/dangdangsalon/salon/domain"
)

// Personal lists the fields of an event type that are personal texts (domain.Sealed), by where they stand in its JSON: "note",
// "dogs[].name". Of a type that the catalogue lacks it knows none.
func (c *Codec) Personal(eventType string) []string {
	t, ok := c.types[eventType]
	if !ok {
		return nil
	}
	var fields []string
	personal(t, "", &fields)
	slices.Sort(fields)
	return fields
}

func personal(t reflect.Type, at string, into *[]string) {
	switch {
	case t == reflect.TypeFor[domain.Sealed]():
		*into = append(*into, strings.TrimPrefix(at, "."))
	case t.Kind() == reflect.Pointer:
		personal(t.Elem(), at, into)
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Array:
		personal(t.Elem(), at+"[]", into)
	case t.Kind() == reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported() && !f.Anonymous:
			case f.Anonymous && name == "":
				personal(f.Type, at, into)
			case name == "":
				personal(f.Type, at+"."+f.Name, into)
			default:
				personal(f.Type, at+"."+name, into)
			}
		}
	}
}
