package eventstore_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
)

// FuzzDecode: whatever bytes are stored, a reader gets an event or an error; and what is read can be stored again.
func FuzzDecode(f *testing.F) {
	codec := eventstore.Catalog()
	for _, s := range fixtures(f) {
		f.Add(s.eventType, s.data, []byte(`{}`))
	}
	f.Add("", []byte(nil), []byte(nil))
	f.Add("reservation.confirmed.v1", []byte("null"), []byte("null"))
	f.Add("hold.placed.v1", []byte(`{"start":"9999-12-31T23:59:60Z","dogs":[{"name":{"c":"="}}]}`), []byte(`{"actor":[]}`))
	f.Fuzz(func(t *testing.T, eventType string, data, metadata []byte) {
		fact, ferr := codec.Fact(eventstore.Recorded{Type: eventType, Data: data, Metadata: metadata})
		m, merr := eventstore.DecodeMetadata(metadata)
		event, err := codec.Decode(eventType, data)
		if (ferr == nil) != (err == nil && merr == nil) || ferr == nil && fact.By != m.Actor {
			t.Fatalf("fact: %+v, %v; its parts: %v, %+v, %v", fact, ferr, err, m, merr)
		}
		if err != nil {
			return
		}
		stored, err := codec.Encode(event)
		if err != nil {
			t.Fatalf("%s decodes %q, and %#v cannot be stored: %v", eventType, data, event, err)
		}
		again, err := codec.Decode(event.EventType(), stored)
		if err != nil {
			t.Fatalf("%s was stored as %q, which cannot be read: %v", eventType, stored, err)
		}
		if twice, err := codec.Encode(again); err != nil || !bytes.Equal(stored, twice) {
			t.Fatalf("%s stored, read and stored again: %q, then %q, %v", eventType, stored, twice, err)
		}
	})
}

// FuzzMetadata: what was read of an event's metadata is stored as the same.
func FuzzMetadata(f *testing.F) {
	for _, s := range []string{
		"", "null", "{}", "[]", `{"command_id":"not one"}`, `{"command":"hold_slot","actor":{"id":"kim","role":"customer"},"correlation_id":"c","causation_id":"","traceparent":"00-"}`,
		`{"command_id":"6f2f8f0e-6d0b-5c55-9d4e-2d1a6f9a7c11","COMMAND":"x","actor":null}`, "{\"command\":\"\xff\\u0000\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, metadata []byte) {
		m, err := eventstore.DecodeMetadata(metadata)
		if err != nil {
			return
		}
		stored, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("%+v cannot be stored: %v", m, err)
		}
		if again, err := eventstore.DecodeMetadata(stored); err != nil || again != m {
			t.Fatalf("stored as %s, read as %+v, %v; want %+v", stored, again, err, m)
		}
	})
}

// FuzzUpcast: whatever old bytes are stored, they are read as what they are now, or refused.
func FuzzUpcast(f *testing.F) {
	codec := paidCodec()
	for _, eventType := range []string{"test.paid.v1", "test.paid.v2", "test.paid.v3", "test.refunded.v1", "test.paid.v9", ""} {
		for _, data := range []string{"", "null", "{}", `{"thousands":35}`, `{"thousands":1e99}`, `{"price":"35000 KRW"}`, `{"price":"x y"}`, `{"price":" "}`, `{"amount":1}`} {
			f.Add(eventType, []byte(data))
		}
	}
	f.Fuzz(func(t *testing.T, eventType string, data []byte) {
		event, err := codec.Decode(eventType, data)
		if err != nil {
			return
		}
		if event.EventType() != codec.Newest(eventType) || !codec.Knows(event.EventType()) {
			t.Fatalf("%s is read as %s", eventType, event.EventType())
		}
		if stored, err := codec.Encode(event); err != nil {
			t.Fatalf("%#v cannot be stored as %q: %v", event, stored, err)
		}
	})
}
