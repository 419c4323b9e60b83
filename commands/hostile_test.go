package commands

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// operation is a call that would succeed.
type operation struct {
	token, method, path string
	body                map[string]any
}

func operations(w *world) []operation {
	w.t.Helper()
	w.salon("request")
	reservation := w.reserved(at(2, 10, 0))
	room := "/v1/chat/rooms/" + strings.TrimPrefix(reservation, "/v1/reservations/")
	hold := fmt.Sprint("/v1/holds/", w.must(201, leeToken, "POST", "/v1/holds", wish(at(2, 19, 0))).body["hold_id"])
	ops := []operation{
		{mongToken, "PUT", "/v1/groomers/mong", settings("instant")},
		{mongToken, "POST", "/v1/groomers/mong/time-off", map[string]any{"from": "2100-01-01", "to": "2100-01-02T00:00:00Z", "reason": "x"}},
		{mongToken, "DELETE", "/v1/groomers/mong/time-off/" + newID("mong", [16]byte{1}, "x"), nil},
		{leeToken, "POST", "/v1/holds", wish(at(2, 17, 0), set("visit_address", "a"), set("phone", "1"))},
		{leeToken, "DELETE", hold, nil},
		{leeToken, "POST", "/v1/reservations", wish(at(2, 14, 0), set("note", "a"))},
		{leeToken, "POST", "/v1/reservations", map[string]any{"hold_id": strings.TrimPrefix(hold, "/v1/holds/"), "note": "a"}},
		{kimToken, "POST", reservation + "/reschedule", map[string]any{"start": at(2, 16, 0).Format(time.RFC3339)}},
		{kimToken, "POST", reservation + "/cancel", map[string]any{"reason": "a"}},
		{mongToken, "POST", reservation + "/decline", map[string]any{"reason": "a"}},
		{kimToken, "POST", room + "/messages", map[string]any{"client_message_id": "m", "text": "a"}},
		{kimToken, "POST", room + "/messages", map[string]any{"client_message_id": "n", "image_url": "https://x.example/1"}},
		{kimToken, "POST", room + "/read", map[string]any{"seq": 0}},
		{kimToken, "POST", room + "/leave", nil},
		{kimToken, "POST", "/v1/notifications/read", map[string]any{"through": "1"}},
	}
	for _, verb := range []string{"confirm", "check-in", "complete", "no-show"} {
		ops = append(ops, operation{mongToken, "POST", reservation + "/" + verb, nil})
	}
	return ops
}

// hostile values for any field, whatever its type.
var hostile = []any{
	nil, true, -1, 0, 1.5, 1e300, -1e300, 9007199254740993.0, "", " ", "x", "\x00", "\u202e\u0000", strings.Repeat("가", 5000), "🐶", "null",
	"2026-13-45", "0000-01-01", "9999-12-31", "1999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z",
	"2026-11-24T10:00:00", "2026-11-24T10:00:60Z", "2026-11-24T10:00:00,5Z", "2016-12-31T23:59:60Z", "24:00", "24:01", "99:99", "10:7",
	[]any{}, []any{nil}, []any{[]any{}}, []any{map[string]any{"y": 1}}, slices.Repeat([]any{"bath"}, 100), map[string]any{}, map[string]any{"a": 1},
	"../../etc/passwd", "'; DROP TABLE events;--", "mong", "Asia/Nowhere", "Local", "../UTC", "javascript:alert(1)", "https://", "http://x.example",
}

func TestBadInputIsNeverOurFaultAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tried := 0
	for _, op := range operations(w) {
		check := func(what string, body any, path string, headers ...string) {
			t.Helper()
			before := w.head()
			r := w.send(op.token, op.method, path, body, headers...)
			tried++
			switch {
			case r.status >= 500:
				t.Errorf("%s %s with %s: %d %s", op.method, path, what, r.status, r.raw)
			case r.status >= 400 && w.head() != before:
				t.Errorf("%s %s with %s: %d, and the store moved", op.method, path, what, r.status)
			}
		}
		refuse := func(what string, body any) {
			t.Helper()
			if op.body != nil {
				w.refused(400, "request.invalid", op.token, op.method, op.path, body)
				tried++
			}
		}
		for _, raw := range []string{"[]", `"x"`, "1", "{", "{]", `{"a":}`, "{}{}", "\xff\xfe{}", strings.Repeat(`{"a":`, 9000), `{"a":1,"a":1}`, "NaN", "\x00"} {
			refuse(raw[:min(len(raw), 12)], raw)
		}
		if op.body != nil {
			w.refused(413, "request.too_large", op.token, op.method, op.path, `{"x":"`+strings.Repeat("x", 65<<10)+`"}`)
			refuse("an unknown field", with(op.body, "surprise", 1))
			for _, key := range slices.Sorted(maps.Keys(op.body)) {
				other := with(op.body, strings.ToUpper(key), op.body[key])
				refuse(key+" in two cases", other)
				delete(other, key)
				refuse(key+" in capitals", other)
				value, _ := json.Marshal(op.body[key])
				rest, _ := json.Marshal(op.body)
				refuse(key+" twice", fmt.Sprintf(`{%q:%s,%s`, key, value, rest[1:]))
				for _, wrong := range []any{map[string]any{"x": 1}, []any{map[string]any{"y": 1}}, true} {
					refuse(fmt.Sprintf("%s = %v", key, wrong), with(op.body, key, wrong))
				}
			}
		}
		for _, id := range []string{"%00", "..", "%2e%2e%2f", "%F0%9F%90%B6", "mong.%00", strings.Repeat("a", 5000), "MONG", "%25", "'", "mong." + strings.Repeat("0", 26)} {
			parts := strings.Split(op.path, "/")
			for i := 3; i < len(parts); i++ {
				changed := slices.Clone(parts)
				changed[i] = id
				check("another path", op.body, strings.Join(changed, "/"))
			}
		}
		for name, value := range map[string]string{
			"If-Match": `"x"`, "Idempotency-Key": strings.Repeat("키", 201), "X-Correlation-Id": "\x01", "Content-Type": "application/x-www-form-urlencoded",
			"Content-Encoding": "gzip", "Accept": "image/png", "Traceparent": "00-zz", "Consistency-Token": "x", "X-Request-Id": strings.Repeat("x", 9000),
		} {
			check(name+": "+value[:min(len(value), 12)], op.body, op.path, name, value)
		}
		check("an unknown query", op.body, op.path+"?a=1&b=%zz")
	}
	t.Logf("%d bad requests", tried)
}

func with(m map[string]any, key string, value any) map[string]any {
	m = maps.Clone(m)
	m[key] = value
	return m
}

// Bodies of the right shape with wrong values anywhere in them.
//
// It found that huma's uniqueItems panics on an array of objects: repeats are the decision's to refuse.
func TestMutatedBodiesAreNeverOurFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ops := operations(w)
	ops = slices.DeleteFunc(ops, func(o operation) bool { return o.body == nil })
	rapid.Check(t, func(rt *rapid.T) {
		op := ops[rapid.IntRange(0, len(ops)-1).Draw(rt, "operation")]
		raw, err := json.Marshal(op.body)
		if err != nil {
			rt.Fatal(err)
		}
		var body any
		if err := json.Unmarshal(raw, &body); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(rt, "changes") {
			body = mutate(rt, body, 0)
		}
		before := w.head()
		r := w.send(op.token, op.method, op.path, body)
		if r.status >= 500 {
			rt.Fatalf("%s %s with %v: %d %s", op.method, op.path, body, r.status, r.raw)
		}
		if r.status >= 400 && w.head() != before {
			rt.Fatalf("%s %s with %v: %d, and the store moved", op.method, op.path, body, r.status)
		}
	})
	// Whatever was accepted folds.
	_, h := w.node()
	if r := sendTo(t, h, mongToken, http.MethodPut, "/v1/groomers/mong", settings("instant")); r.status != 200 {
		t.Errorf("afterwards: %d %s", r.status, r.raw)
	}
}

func mutate(rt *rapid.T, v any, depth int) any {
	if depth > 0 && rapid.IntRange(0, 3).Draw(rt, "here") == 0 {
		return drawHostile(rt)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return v
		}
		key := rapid.SampledFrom(slices.Sorted(maps.Keys(v))).Draw(rt, "key")
		if rapid.IntRange(0, 5).Draw(rt, "drop") == 0 {
			delete(v, key)
			return v
		}
		v[key] = mutate(rt, v[key], depth+1)
		return v
	case []any:
		if len(v) == 0 {
			return v
		}
		if rapid.IntRange(0, 4).Draw(rt, "more") == 0 {
			return slices.Repeat(v, rapid.IntRange(0, 40).Draw(rt, "times"))
		}
		i := rapid.IntRange(0, len(v)-1).Draw(rt, "index")
		v[i] = mutate(rt, v[i], depth+1)
		return v
	}
	return drawHostile(rt)
}

// drawHostile gives a value of its own: what is changed in it later stays there.
func drawHostile(rt *rapid.T) any {
	raw, err := json.Marshal(rapid.SampledFrom(hostile).Draw(rt, "value"))
	if err != nil {
		rt.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		rt.Fatal(err)
	}
	return v
}
