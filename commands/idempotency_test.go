package commands

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/token"
)

func TestEveryWriteIsAnsweredAgainUnderItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("request")
	res := func(hour int) string { return w.reserved(at(2, hour, 0)) }
	room := "/v1/chat/rooms/" + strings.TrimPrefix(res(9), "/v1/reservations/")
	hold := fmt.Sprint("/v1/holds/", w.must(201, leeToken, "POST", "/v1/holds", wish(at(2, 19, 0))).body["hold_id"])
	off := fmt.Sprint("/v1/groomers/mong/time-off/", w.must(201, mongToken, "POST", "/v1/groomers/mong/time-off", map[string]any{"from": "2100-01-01", "to": "2100-01-02"}).body["time_off_id"])
	toConfirm, toDecline := res(10), res(11)
	for i, c := range []struct {
		token, method, path string
		body, other         any // nil: the operation has no body
	}{
		{mongToken, "PUT", "/v1/groomers/mong", settings("request", set("name", "새 이름")), settings("instant")},
		{mongToken, "POST", "/v1/groomers/mong/time-off", map[string]any{"from": "2099-01-01", "to": "2099-01-02"}, map[string]any{"from": "2099-01-01", "to": "2099-01-03"}},
		{mongToken, "DELETE", off, nil, nil},
		{leeToken, "DELETE", hold, nil, nil},
		{leeToken, "POST", "/v1/holds", wish(at(2, 17, 0)), wish(at(2, 18, 0))},
		{mongToken, "POST", toDecline + "/decline", map[string]any{"reason": "a"}, map[string]any{"reason": "b"}},
		{leeToken, "POST", "/v1/reservations", wish(at(2, 14, 0), set("note", "a")), wish(at(2, 14, 0), set("note", "b"))},
		{mongToken, "POST", toConfirm + "/confirm", nil, nil},
		{kimToken, "POST", toConfirm + "/reschedule", map[string]any{"start": at(2, 16, 0)}, map[string]any{"start": at(2, 16, 15)}},
		{kimToken, "POST", toConfirm + "/cancel", map[string]any{"reason": "a"}, map[string]any{}},
		{kimToken, "POST", room + "/messages", map[string]any{"client_message_id": "m", "text": "a"}, map[string]any{"client_message_id": "m", "text": "b"}},
		{kimToken, "POST", room + "/read", map[string]any{"seq": 1}, map[string]any{"seq": 0}},
		{kimToken, "POST", room + "/leave", nil, nil},
		{kimToken, "POST", "/v1/notifications/read", map[string]any{"through": "1"}, map[string]any{"through": "2"}},
	} {
		t.Run(c.method+strings.NewReplacer("/", " ", ".", " ").Replace(c.path), func(t *testing.T) {
			w.t = t
			key := fmt.Sprint("key ", i, " 한글")
			first := w.send(c.token, c.method, c.path, c.body, "Idempotency-Key", key)
			if first.status >= 300 {
				t.Fatalf("got %d: %s", first.status, first.raw)
			}
			want(t, "replayed", first.header.Get("Idempotent-Replayed"), "")
			if !strings.HasSuffix(c.path, "/messages") {
				want(t, "key", first.header.Get("Idempotency-Key"), key)
			}
			tok, err := token.Parse(first.header.Get("Consistency-Token"))
			if err != nil || len(tok) != 1 || len(tok[0].Entries) != 1 || tok[0].Entries[0].Position == 0 || tok[0].Incarnation == "" {
				t.Errorf("token %q: %+v %v", first.header.Get("Consistency-Token"), tok, err)
			}
			if first.header.Get("ETag") == "" {
				t.Error("no ETag")
			}
			before := w.head()
			for range 2 {
				again := w.send(c.token, c.method, c.path, c.body, "Idempotency-Key", key)
				want(t, "replayed", again.header.Get("Idempotent-Replayed"), "true")
				for _, name := range []string{"Consistency-Token", "ETag"} {
					want(t, name, again.header.Get(name), first.header.Get(name))
				}
				want(t, "status", again.status, first.status)
				want(t, "body", again.raw, first.raw)
				w.restart()
			}
			want(t, "head", w.head(), before)
			if c.other != nil {
				w.refused(422, "idempotency_key.reused", c.token, c.method, c.path, c.other, "Idempotency-Key", key)
			}
		})
	}
}

func TestAKeyIsMadeWhenNoneIsGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	r := w.must(201, kimToken, "POST", "/v1/reservations", wish(at(2, 10, 0)))
	key := r.header.Get("Idempotency-Key")
	if len(key) < 16 {
		t.Fatalf("key %q", key)
	}
	again := w.must(201, kimToken, "POST", "/v1/reservations", wish(at(2, 10, 0)), "Idempotency-Key", key)
	want(t, "body", again.raw, r.raw)
	// A key belongs to its caller and path, and the body is compared by meaning.
	w.refused(409, "slot.taken", leeToken, "POST", "/v1/reservations", wish(at(2, 10, 0)), "Idempotency-Key", key)
	utc := wish(at(2, 10, 0), set("start", at(2, 10, 0).UTC().Format(time.RFC3339Nano)), set("note", ""))
	again = w.must(201, kimToken, "POST", "/v1/reservations", utc, "Idempotency-Key", key)
	want(t, "body", again.raw, r.raw)
}

func TestARefusedRequestMayBeTriedAgainUnderItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	first := w.reserved(at(2, 10, 0))
	lee := wish(at(2, 10, 0))
	w.refused(409, "slot.taken", leeToken, "POST", "/v1/reservations", lee, "Idempotency-Key", "k")
	w.must(200, kimToken, "POST", first+"/cancel", nil)
	w.must(201, leeToken, "POST", "/v1/reservations", lee, "Idempotency-Key", "k")
}
