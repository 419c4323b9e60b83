package commands

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/token"
)

func TestAGroomerOpensABookAndChangesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.must(200, mongToken, "PUT", "/v1/groomers/mong", settings("instant"))
	want(t, "name", r.body["name"], any("몽몽살롱"))
	want(t, "hours", len(r.body["hours"].([]any)), 6)
	first := r.header.Get("ETag")
	r = w.must(200, adminToken, "PUT", "/v1/groomers/mong", settings("request"), "If-Match", first)
	want(t, "booking", r.body["booking"], any("request"))
	w.refused(412, "revision.stale", mongToken, "PUT", "/v1/groomers/mong", settings("instant"), "If-Match", first)

	before := w.head()
	r = w.must(200, mongToken, "PUT", "/v1/groomers/mong", settings("request"))
	want(t, "events of what changes nothing", w.head(), before)
	w.reserved(at(2, 10, 0))
	same := w.must(200, mongToken, "PUT", "/v1/groomers/mong", settings("request"), "If-Match", r.header.Get("ETag"))
	want(t, "the profile's ETag after a booking", same.header.Get("ETag"), r.header.Get("ETag"))

	w.refused(422, "zone.fixed", mongToken, "PUT", "/v1/groomers/mong", settings("instant", set("zone", "Asia/Tokyo")))
	w.refused(403, "auth.forbidden", otherSalon, "PUT", "/v1/groomers/mong", settings("instant"))
	w.refused(403, "auth.forbidden", kimToken, "PUT", "/v1/groomers/mong", settings("instant"))
	w.refused(401, "auth.missing", "", "PUT", "/v1/groomers/mong", settings("instant"))
}

func TestTimeOffIsTakenAndGivenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	const path = "/v1/groomers/mong/time-off"
	day := at(9, 0, 0).Format(time.DateOnly)
	r := w.must(201, mongToken, "POST", path, map[string]any{"from": day, "to": day, "reason": "병원"})
	id := fmt.Sprint(r.body["time_off_id"])
	w.refused(422, "slot.time_off", kimToken, "POST", "/v1/reservations", wish(at(9, 20, 0)))
	w.refused(403, "auth.forbidden", otherSalon, "DELETE", path+"/"+id, nil)
	w.refused(404, "time_off.unknown", mongToken, "DELETE", "/v1/groomers/other/time-off/"+id, nil)
	w.must(204, mongToken, "DELETE", path+"/"+id, nil)
	w.must(204, adminToken, "DELETE", path+"/"+id, nil)
	w.reserved(at(9, 20, 0))
	w.refused(409, "calendar.booked", mongToken, "POST", path, map[string]any{"from": day, "to": day})
	w.must(201, mongToken, "POST", path, map[string]any{"from": at(9, 9, 0).Format(time.RFC3339), "to": at(9, 20, 0).Format(time.RFC3339)})
	w.refused(404, "groomer.unknown", adminToken, "POST", "/v1/groomers/nobody/time-off", map[string]any{"from": day, "to": day})
	w.refused(404, "time_off.unknown", mongToken, "DELETE", path+"/"+newID("mong", [16]byte{1}, "x"), nil)
	w.refused(404, "time_off.unknown", mongToken, "DELETE", path+"/x", nil)
}

func TestAHoldBecomesAReservation(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	start := at(2, 10, 0)
	r := w.must(201, kimToken, "POST", "/v1/holds", wish(start, set("mode", "visit"), set("visit_address", "역삼동 1"), set("phone", "010-1")))
	want(t, "hold", []any{r.body["minutes"], r.body["price_krw"], r.body["groomer_id"]}, []any{45.0, 35000.0, "mong"})
	id := fmt.Sprint(r.body["hold_id"])

	w.refused(409, "slot.taken", leeToken, "POST", "/v1/reservations", wish(start))
	w.refused(404, "hold.unknown", leeToken, "POST", "/v1/reservations", map[string]any{"hold_id": id})
	w.refused(404, "hold.unknown", leeToken, "DELETE", "/v1/holds/"+id, nil)

	r = w.must(201, kimToken, "POST", "/v1/reservations", map[string]any{"hold_id": id, "note": "겁이 많아요"})
	got := map[string]any{}
	for _, k := range []string{"status", "groomer_id", "customer_id", "minutes", "mode", "visit_address", "phone", "note", "price_krw", "refund_percent"} {
		got[k] = r.body[k]
	}
	want(t, "reservation", got, map[string]any{
		"status": "confirmed", "groomer_id": "mong", "customer_id": "kim", "minutes": 45.0, "mode": "visit", "visit_address": "역삼동 1",
		"phone": "010-1", "note": "겁이 많아요", "price_krw": 35000.0, "refund_percent": nil,
	})
	want(t, "dog", r.body["dogs"].([]any)[0].(map[string]any)["name"], any("콩이"))
	want(t, "room", r.body["room_id"], r.body["reservation_id"])

	w.refused(409, "hold.used", kimToken, "POST", "/v1/reservations", map[string]any{"hold_id": id})
	w.must(204, kimToken, "DELETE", "/v1/holds/"+id, nil) // gone already
	for _, unknown := range []string{"x", newID("mong", [16]byte{9}, "hold"), newID("nobody", [16]byte{9}, "hold"), "mong." + strings.Repeat("z", 26)} {
		w.refused(404, "hold.unknown", kimToken, "DELETE", "/v1/holds/"+unknown, nil)
		w.refused(404, "hold.unknown", kimToken, "POST", "/v1/reservations", map[string]any{"hold_id": unknown})
	}
}

func TestAHoldIsGivenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	id := fmt.Sprint(w.must(201, kimToken, "POST", "/v1/holds", wish(at(2, 10, 0))).body["hold_id"])
	w.must(204, kimToken, "DELETE", "/v1/holds/"+id, nil)
	w.must(204, kimToken, "DELETE", "/v1/holds/"+id, nil)
	w.restart()
	w.must(204, kimToken, "DELETE", "/v1/holds/"+id, nil)
	w.must(201, leeToken, "POST", "/v1/reservations", wish(at(2, 10, 0)))
	w.refused(422, "hold.expired", kimToken, "POST", "/v1/reservations", map[string]any{"hold_id": id})
}

func TestARequestIsAnsweredByItsGroomerAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("request")
	path := w.reserved(at(2, 10, 0))
	for _, verb := range []string{"confirm", "decline", "check-in", "complete", "no-show"} {
		w.refused(403, "auth.forbidden", kimToken, "POST", path+"/"+verb, nil)
		w.refused(404, "reservation.unknown", otherSalon, "POST", path+"/"+verb, nil)
		w.refused(404, "reservation.unknown", mongToken, "POST", "/v1/reservations/"+newID("mong", [16]byte{7}, "x")+"/"+verb, nil)
		w.refused(404, "reservation.unknown", mongToken, "POST", "/v1/reservations/x/"+verb, nil)
	}
	w.refused(409, "reservation.wrong_state", mongToken, "POST", path+"/check-in", nil)
	w.refused(409, "reservation.wrong_state", mongToken, "POST", path+"/complete", nil)
	w.refused(409, "reservation.wrong_state", mongToken, "POST", path+"/no-show", nil)
	r := w.must(200, mongToken, "POST", path+"/confirm", nil)
	want(t, "status", r.body["status"], any("confirmed"))
	etag := r.header.Get("ETag")
	again := w.must(200, mongToken, "POST", path+"/confirm", nil)
	want(t, "ETag of what changes nothing", again.header.Get("ETag"), etag)
	w.refused(409, "reservation.wrong_state", adminToken, "POST", path+"/confirm", nil)
	w.refused(409, "reservation.wrong_state", mongToken, "POST", path+"/decline", map[string]any{"reason": "x"})
	w.refused(422, "visit.too_early", mongToken, "POST", path+"/check-in", nil)
	w.refused(422, "visit.too_early", mongToken, "POST", path+"/no-show", nil)

	second := w.reserved(at(2, 11, 0))
	r = w.must(200, mongToken, "POST", second+"/decline", map[string]any{"reason": "휴가"})
	want(t, "declined", []any{r.body["status"], r.body["refund_percent"]}, []any{"declined", 100.0})
	w.restart() // the state holds it no more: it is found in the stream
	w.refused(409, "reservation.wrong_state", mongToken, "POST", second+"/confirm", nil)
	r = w.must(200, mongToken, "POST", second+"/decline", nil)
	want(t, "declined", r.body["status"], any("declined"))
	w.refused(404, "reservation.unknown", leeToken, "POST", second+"/cancel", nil)
}

func TestAReservationIsCancelledOrMoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	path := w.reserved(at(9, 10, 0))
	w.refused(404, "reservation.unknown", leeToken, "POST", path+"/cancel", nil)
	w.refused(404, "reservation.unknown", leeToken, "POST", path+"/reschedule", map[string]any{"start": at(9, 15, 0)})
	r := w.must(200, kimToken, "POST", path+"/reschedule", map[string]any{"start": at(9, 10, 15)})
	want(t, "moved", []any{r.body["status"], r.body["start"]}, []any{"confirmed", at(9, 10, 15).UTC().Format(time.RFC3339)})
	moved := r.header.Get("ETag")
	w.must(201, leeToken, "POST", "/v1/reservations", wish(at(9, 9, 0)))
	w.refused(409, "slot.taken", kimToken, "POST", path+"/reschedule", map[string]any{"start": at(9, 9, 15)})
	w.refused(422, "slot.off_grid", kimToken, "POST", path+"/reschedule", map[string]any{"start": at(9, 15, 1)})
	w.refused(412, "revision.stale", kimToken, "POST", path+"/cancel", nil, "If-Match", `"0"`)
	w.refused(400, "request.invalid", kimToken, "POST", path+"/cancel", nil, "If-Match", `7`)
	r = w.must(200, kimToken, "POST", path+"/cancel", map[string]any{"reason": "여행"}, "If-Match", `"0", `+moved)
	want(t, "cancelled", []any{r.body["status"], r.body["refund_percent"]}, []any{"cancelled", 100.0})
	again := w.must(200, kimToken, "POST", path+"/cancel", nil)
	want(t, "cancelled again", again.header.Get("ETag"), r.header.Get("ETag"))
	w.must(201, leeToken, "POST", "/v1/reservations", wish(at(9, 10, 15)))
	// Another reservation changed last; the same answer comes from the stream.
	again = w.must(200, kimToken, "POST", path+"/cancel", nil)
	want(t, "cancelled a third time", again.body["status"], any("cancelled"))
	w.refused(409, "reservation.wrong_state", mongToken, "POST", path+"/cancel", nil)
	w.refused(409, "reservation.wrong_state", kimToken, "POST", path+"/reschedule", map[string]any{"start": at(9, 15, 0)})
}

func TestMembersOfARoomTalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	reservation := w.reserved(at(2, 10, 0))
	room := "/v1/chat/rooms/" + strings.TrimPrefix(reservation, "/v1/reservations/")
	text := func(id, s string) map[string]any { return map[string]any{"client_message_id": id, "text": s} }

	for _, other := range []string{leeToken, otherSalon} {
		w.refused(404, "room.unknown", other, "POST", room+"/messages", text("1", "hi"))
		w.refused(404, "room.unknown", other, "POST", room+"/read", map[string]any{"seq": 0})
		w.refused(404, "room.unknown", other, "POST", room+"/leave", nil)
	}
	w.refused(403, "auth.forbidden", adminToken, "POST", room+"/messages", text("1", "hi"))
	w.refused(400, "request.invalid", kimToken, "POST", room+"/read", map[string]any{"seq": 1})
	w.must(200, kimToken, "POST", room+"/read", map[string]any{"seq": 0})

	r := w.must(201, kimToken, "POST", room+"/messages", text("1", "안녕하세요"))
	want(t, "seq", r.body["seq"], any(1.0))
	sent := r.body["sent_at"]
	r = w.must(201, mongToken, "POST", room+"/messages", text("1", "네"))
	want(t, "seq", r.body["seq"], any(2.0))
	r = w.must(201, mongToken, "POST", room+"/messages", map[string]any{"client_message_id": "2", "image_url": "https://img.example/1.jpg"})
	want(t, "seq", r.body["seq"], any(3.0))
	r = w.must(201, kimToken, "POST", room+"/messages", text("1", "안녕하세요"), "Idempotency-Key", "another")
	want(t, "a message sent again", []any{r.body["seq"], r.body["sent_at"], r.header.Get("Idempotent-Replayed")}, []any{1.0, sent, "true"})
	want(t, "key of a message", r.header.Get("Idempotency-Key"), "1")
	w.refused(422, "idempotency_key.reused", kimToken, "POST", room+"/messages", text("1", "other"))
	for _, other := range []string{leeToken, otherSalon} {
		w.refused(404, "room.unknown", other, "POST", room+"/messages", text("1", "hi"))
	}

	r = w.must(200, kimToken, "POST", room+"/read", map[string]any{"seq": 3})
	want(t, "mark", r.body["seq"], any(3.0))
	r = w.must(200, kimToken, "POST", room+"/read", map[string]any{"seq": 1})
	want(t, "a mark that would go back", r.body["seq"], any(3.0))
	w.refused(400, "request.invalid", kimToken, "POST", room+"/read", map[string]any{"seq": 4})

	w.must(204, kimToken, "POST", room+"/leave", nil)
	w.must(204, kimToken, "POST", room+"/leave", nil)
	w.refused(422, "room.left", kimToken, "POST", room+"/messages", text("9", "hi"))
	w.must(201, mongToken, "POST", room+"/messages", text("9", "잘 가요"))
	w.refused(400, "request.invalid", kimToken, "POST", room+"/read", map[string]any{"seq": 4})

	// The room of a reservation that ended is there, also when nobody had opened it.
	ended := w.reserved(at(2, 15, 0))
	w.must(200, kimToken, "POST", ended+"/cancel", nil)
	w.reserved(at(2, 16, 0))
	w.restart()
	w.must(201, kimToken, "POST", "/v1/chat/rooms/"+strings.TrimPrefix(ended, "/v1/reservations/")+"/messages", text("1", "왜요?"))
}

func TestFortyRivalsForOneSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	_, second := w.node()
	nodes := []http.Handler{w.handler, second}
	var wg sync.WaitGroup
	answers := make([]response, 40)
	for i := range answers {
		wg.Go(func() {
			answers[i] = sendTo(t, nodes[i%2], fmt.Sprint("customer:c", i), "POST", "/v1/reservations", wish(at(2, 10, i%3*15)))
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for _, a := range answers {
		counts[fmt.Sprint(a.status, " ", a.problem.Code)]++
	}
	want(t, "answers", counts, map[string]int{"201 ": 1, "409 slot.taken": 39})
}

func TestMetadataSaysWhoWhatAndBecauseOfWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	from := w.head()
	w.must(201, kimToken, "POST", "/v1/reservations", wish(at(2, 10, 0), set("phone", "010-1234")), "X-Correlation-Id", "trip-7",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Idempotency-Key", "k")
	id := eventstore.CommandID("customer", "kim", "POST", "/v1/reservations", "k")
	wantMeta := eventstore.Metadata{
		CommandID: id, Command: "reserve", Actor: kim, CorrelationID: "trip-7", CausationID: id.String(),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	n := 0
	for r, err := range w.store.ReadAll(t.Context(), from, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		m, err := eventstore.DecodeMetadata(r.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantMeta, m); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if strings.Contains(string(r.Data), "010-1234") || strings.Contains(string(r.Data), "콩이") {
			t.Errorf("a personal text is stored in the clear: %s", r.Data)
		}
		want(t, "event ID", r.ID, eventstore.EventID(id, "groomer-mong", n))
		want(t, "key", r.Key, "mong")
		n++
	}
	want(t, "events", n, 2)
	w.refused(400, "request.invalid", kimToken, "POST", "/v1/reservations", wish(at(2, 15, 0)), "X-Correlation-Id", "a b")
	w.refused(400, "request.invalid", kimToken, "POST", "/v1/reservations", wish(at(2, 15, 0)), "Idempotency-Key", strings.Repeat("k", 201))
}

func TestACustomerNamedAsAReservationIsNotTakenForIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	path := w.reserved(at(2, 10, 0))
	w.must(200, kimToken, "POST", path+"/cancel", nil)
	namesake := "customer:" + strings.TrimPrefix(path, "/v1/reservations/")
	w.must(201, namesake, "POST", "/v1/reservations", wish(at(2, 15, 0)))
	r := w.must(200, kimToken, "POST", path+"/cancel", nil)
	want(t, "customer", r.body["customer_id"], any("kim"))
}

func TestIDsThatNoBookCouldHaveMadeReachNoStore(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		newID("mong-1", [16]byte{1}, "hold"):                    true,
		"mong":                                                  false,
		"mong.":                                                 false,
		"." + strings.Repeat("0", 26):                           false,
		"mo\x00g." + strings.Repeat("0", 26):                    false,
		"Mong." + strings.Repeat("0", 26):                       false,
		"mong." + strings.Repeat("z", 26):                       false,
		"mong." + strings.Repeat("0", 25):                       false,
		"mong.x." + strings.Repeat("0", 24):                     false,
		strings.Repeat("m", 41) + "." + strings.Repeat("0", 26): false,
	} {
		if target, got := bookOf(id); got != ok || ok && (target.Stream != "groomer-mong-1" || target.Key != "mong-1") {
			t.Errorf("%q: %v %+v", id, got, target)
		}
	}
}

func TestNamesThatNobodyHasFillNoCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.refused(404, "groomer.unknown", kimToken, "POST", "/v1/holds", wish(at(2, 10, 0), set("groomer_id", fmt.Sprint("nobody", i))))
	}
	want(t, "streams kept", len(w.x.cache.byName), 0)
}

func TestAnInboxIsReadForward(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	w.reserved(at(2, 10, 0))
	head := w.head()
	read := func(through any) map[string]any { return map[string]any{"through": through} }
	const path = "/v1/notifications/read"

	w.refused(401, "auth.missing", "", "POST", path, read("1"))
	for _, bad := range []any{1, -1, "", "-1", "01", "x", "1.0", "9999999999999999999", "9223372036854775808", fmt.Sprint(head + 1)} {
		w.refused(400, "request.invalid", kimToken, "POST", path, read(bad))
	}
	want(t, "nothing was recorded", w.head(), head)
	r := w.must(200, kimToken, "POST", path, read("0"))
	want(t, "nothing read", r.body["through"], any("0"))
	r = w.must(200, kimToken, "POST", path, read("3"))
	want(t, "mark", r.body["through"], any("3"))
	tok, err := token.Parse(r.header.Get("Consistency-Token"))
	if err != nil || len(tok) != 1 || len(tok[0].Entries) != 1 || tok[0].Entries[0] != (token.Entry{Topic: "salon.booking.v1", Key: "customer:kim", Position: head + 1}) {
		t.Errorf("token: %+v, %v", tok, err)
	}
	r = w.must(200, kimToken, "POST", path, read("2"))
	want(t, "a mark that would go back", r.body["through"], any("3"))
	want(t, "and is no event", w.head(), head+1)
	for _, other := range []string{leeToken, mongToken, adminToken} {
		r = w.must(200, other, "POST", path, read("1"))
		want(t, "another's mark", r.body["through"], any("1"))
	}
	w.restart()
	r = w.must(200, kimToken, "POST", path, read("1"))
	want(t, "after a restart", r.body["through"], any("3"))
}
