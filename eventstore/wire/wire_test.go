package wire_test

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func example() wire.Record {
	r := wire.Record{Pos: 42, Prev: 40, Incarnation: "7.00000001", Event: eventstore.Recorded{
		Position: 42, Stream: "groomer-봄날", Revision: 7, ID: uuid.MustParse("5f0c6f0e-6d0b-5c55-9d4e-2d1a6f9a7c11"), Type: "reservation.confirmed.v1", Key: "봄날",
		RecordedAt: time.Date(2026, 11, 24, 3, 4, 56, 789012000, time.UTC), Metadata: []byte(`{"command":"confirm"}`), Data: []byte(`{"day":"2026-11-28"}`),
	}}
	r.Event.Hash = eventstore.ContentHash(r.Event)
	return r
}

// lookUp is how a reader finds a header: the last of a name, "" when there is none.
func lookUp(headers []wire.Header) func(string) string {
	return func(name string) string {
		for i := len(headers) - 1; i >= 0; i-- {
			if headers[i].Key == name {
				return headers[i].Value
			}
		}
		return ""
	}
}

func TestARecordComesBackFromItsHeaders(t *testing.T) {
	t.Parallel()
	want := example()
	got, err := wire.Parse(lookUp(want.Headers()), want.Event.Data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got.Event.Hash != eventstore.ContentHash(got.Event) {
		t.Error("the hash is not that of what came back")
	}
}

// The names and spellings are read by others, and by records that lie in Kafka already.
func TestHeadersAreSpelledAsEver(t *testing.T) {
	t.Parallel()
	r := example()
	want := []wire.Header{
		{"ce_specversion", "1.0"}, {"ce_id", "5f0c6f0e-6d0b-5c55-9d4e-2d1a6f9a7c11"}, {"ce_source", "/salon/groomer-봄날"},
		{"ce_type", "reservation.confirmed.v1"}, {"ce_time", "2026-11-24T03:04:56.789012Z"}, {"content-type", "application/json"},
		{"pos", "42"}, {"prev", "40"}, {"incarnation", "7.00000001"}, {"stream", "groomer-봄날"}, {"revision", "7"}, {"key", "봄날"},
		{"metadata", `{"command":"confirm"}`}, {"hash", string(r.Event.Hash[:])},
	}
	if d := cmp.Diff(want, r.Headers()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestBrokenHeadersAreNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ header, value string }{
		{"pos", ""}, {"pos", "-1"}, {"pos", "1.5"}, {"pos", "18446744073709551616"}, {"prev", ""}, {"prev", "x"},
		{"revision", ""}, {"revision", "-1"}, {"revision", "9223372036854775808"},
		{"ce_id", ""}, {"ce_id", "42"}, {"ce_time", ""}, {"ce_time", "yesterday"},
	} {
		headers := append(example().Headers(), wire.Header{Key: c.header, Value: c.value})
		if _, err := wire.Parse(lookUp(headers), nil); err == nil || !strings.Contains(err.Error(), "header "+c.header) {
			t.Errorf("%s %q: want an error that names it, got: %v", c.header, c.value, err)
		}
	}
}

func TestEachCategoryHasItsTopic(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string]string{
		eventstore.GroomerStream("kim"):                  wire.BookingTopic,
		eventstore.ChatStream("kim.abc"):                 wire.ChatTopic,
		eventstore.ChatReadStream("kim.abc", "customer"): wire.ChatTopic,
		"inbox-customer-kim":                             wire.BookingTopic,
		"admin-admin-kim":                                "",
		"nobody":                                         "",
		"":                                               "",
		"chatter-kim":                                    "",
		eventstore.GroomerStream("chat-with-admin-groomer"): wire.BookingTopic,
	} {
		if got := wire.TopicOf(stream); got != want {
			t.Errorf("%q goes to %q, want %q", stream, got, want)
		}
	}
}

// FuzzParse: whatever headers a record has, a reader gets a record or an error, and the record can be written again.
func FuzzParse(f *testing.F) {
	h := lookUp(example().Headers())
	f.Add(h("pos"), h("prev"), h("revision"), h("ce_id"), h("ce_time"), h("stream"), h("hash"), []byte(`{}`))
	f.Add("", "", "", "", "", "", "", []byte(nil))
	f.Add("18446744073709551615", "0", "9223372036854775807", "{5f0c6f0e-6d0b-5c55-9d4e-2d1a6f9a7c11}", "0000-01-01T00:00:00+23:59", "\xff", "short", []byte("\x00"))
	f.Add("1", "0", "0", "urn:uuid:5f0c6f0e-6d0b-5c55-9d4e-2d1a6f9a7c11", "9999-12-31T23:59:59.999999999-23:59", "s", strings.Repeat("h", 99), []byte("x"))
	f.Fuzz(func(t *testing.T, pos, prev, revision, id, at, text, hash string, value []byte) {
		given := map[string]string{
			"pos": pos, "prev": prev, "revision": revision, "ce_id": id, "ce_time": at,
			"stream": text, "ce_type": text, "key": text, "metadata": text, "incarnation": text, "hash": hash,
		}
		r, err := wire.Parse(func(name string) string { return given[name] }, value)
		if err != nil {
			return
		}
		if y := r.Event.RecordedAt.Year(); y < 0 || y > 9999 {
			return // a zone took it over the edge of what the format can write; no store records such a time
		}
		again, err := wire.Parse(lookUp(r.Headers()), value)
		if err != nil {
			t.Fatalf("%+v cannot be read again: %v", r, err)
		}
		if d := cmp.Diff(r, again); d != "" {
			t.Fatalf("read again it is another (-first +second):\n%s", d)
		}
	})
}

// FuzzHeaders: every record that a store can hold comes back.
func FuzzHeaders(f *testing.F) {
	f.Add(uint64(1), uint64(0), int64(0), []byte("0123456789abcdef"), int64(0), "groomer-kim", []byte(`{}`))
	f.Add(uint64(math.MaxUint64), uint64(math.MaxUint64), int64(math.MaxInt64), []byte{}, int64(253402300799999999), "댕댕\n\x00\xff", []byte("\xff"))
	f.Fuzz(func(t *testing.T, pos, prev uint64, revision int64, id []byte, micros int64, text string, data []byte) {
		const lastMicro = 253402300799999999 // of the year 9999
		want := wire.Record{Pos: pos, Prev: prev, Incarnation: text, Event: eventstore.Recorded{
			Position: pos, Stream: text, Revision: eventstore.Revision(revision & math.MaxInt64), Type: text, Key: text,
			RecordedAt: time.UnixMicro(max(micros%(lastMicro+1), 0)).UTC(), Metadata: bytes.Clone(data), Data: data,
		}}
		copy(want.Event.ID[:], id)
		want.Event.Hash = eventstore.ContentHash(want.Event)
		got, err := wire.Parse(lookUp(want.Headers()), data)
		if err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		if d := cmp.Diff(want, got, cmp.Transformer("text", func(b []byte) string { return string(b) })); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	})
}

func TestAMarkerComesBackAsItWas(t *testing.T) {
	t.Parallel()
	at := wire.Place{Position: 9, Stream: "groomer-a", Revision: 4, ID: uuid.MustParse("0b6a1f6e-64c3-5b7e-9a55-7c2e8d5b9f10")}
	prev := wire.Place{Position: 7, Stream: "groomer-b", Revision: 0, ID: uuid.MustParse("c56a4180-65aa-42ec-a945-5fd21dec0538")}
	for name, m := range map[string]wire.Marker{
		"of an empty store":            {Incarnation: "one"},
		"of a partition without event": {Incarnation: "one", At: at},
		"of a partition with events":   {Incarnation: "one", At: at, Prev: prev},
	} {
		headers := map[string]string{}
		for _, h := range m.Headers() {
			headers[h.Key] = h.Value
		}
		get := func(name string) string { return headers[name] }
		if !wire.IsMarker(get) {
			t.Errorf("%s: not a marker: %v", name, headers)
		}
		got, err := wire.ParseMarker(get)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		delete(headers, "pos")
		if _, err := wire.ParseMarker(get); err == nil {
			t.Errorf("%s: read without pos", name)
		}
	}
}
