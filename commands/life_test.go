package commands

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
)

func TestAVisitTakesPlace(t *testing.T) {
	t.Parallel()
	w, to := newMovableWorld(t)
	w.salon("instant")
	start := at(2, 10, 0)
	path, missed := w.reserved(start), w.reserved(at(2, 15, 0))

	to(start.Add(-2 * time.Hour))
	w.refused(422, "visit.too_early", mongToken, "POST", missed+"/check-in", nil)
	r := w.must(200, mongToken, "POST", path+"/check-in", nil)
	want(t, "status", r.body["status"], any("checked_in"))
	w.refused(409, "reservation.wrong_state", kimToken, "POST", path+"/cancel", nil)

	to(start.Add(45 * time.Minute))
	r = w.must(200, adminToken, "POST", path+"/complete", nil)
	want(t, "status", r.body["status"], any("completed"))
	w.refused(409, "reservation.wrong_state", mongToken, "POST", path+"/no-show", nil)

	to(at(2, 15, 0))
	w.refused(409, "reservation.wrong_state", kimToken, "POST", missed+"/cancel", nil)
	w.refused(409, "reservation.wrong_state", kimToken, "POST", missed+"/reschedule", map[string]any{"start": at(2, 18, 0)})
	r = w.must(200, mongToken, "POST", missed+"/no-show", nil)
	want(t, "status", r.body["status"], any("no_show"))

	to(at(2, 20, 0)) // both are past, and the state let go of them
	w.must(200, adminToken, "POST", path+"/complete", nil)
	w.must(200, mongToken, "POST", missed+"/no-show", nil)
}

func TestAHoldEndsByItself(t *testing.T) {
	t.Parallel()
	w, to := newMovableWorld(t)
	w.salon("instant")
	id := fmt.Sprint(w.must(201, kimToken, "POST", "/v1/holds", wish(at(2, 10, 0)), "Idempotency-Key", "k").body["hold_id"])
	w.refused(409, "slot.taken", leeToken, "POST", "/v1/reservations", wish(at(2, 10, 0)))
	to(time.Now().Add(5*time.Minute + time.Second))
	w.refused(422, "hold.expired", kimToken, "POST", "/v1/reservations", map[string]any{"hold_id": id})
	w.must(204, kimToken, "DELETE", "/v1/holds/"+id, nil)
	w.must(201, leeToken, "POST", "/v1/reservations", wish(at(2, 10, 0)))
	again := w.must(201, kimToken, "POST", "/v1/holds", wish(at(2, 10, 0)), "Idempotency-Key", "k")
	want(t, "the first answer", again.body["hold_id"], any(id))
}

func TestARefundIsByTheFrozenPolicy(t *testing.T) {
	t.Parallel()
	w, to := newMovableWorld(t)
	w.salon("instant")
	byCustomer, bySalon := w.reserved(at(2, 10, 0)), w.reserved(at(2, 15, 0))
	to(at(2, 10, 0).Add(-23 * time.Hour))
	r := w.must(200, kimToken, "POST", byCustomer+"/cancel", nil)
	want(t, "late, by the customer", r.body["refund_percent"], any(0.0))
	r = w.must(200, mongToken, "POST", bySalon+"/cancel", nil)
	want(t, "late, by the groomer", r.body["refund_percent"], any(100.0))
}

func TestAnExpiredRequestIsEndedByTheSystem(t *testing.T) {
	t.Parallel()
	w, to := newMovableWorld(t)
	w.salon("request")
	path := w.reserved(at(2, 10, 0))
	id := strings.TrimPrefix(path, "/v1/reservations/")
	expire := func(command byte) (Result[Book], error) {
		t.Helper()
		m, err := w.x.NewMeta(t.Context(), domain.Actor{ID: "timers", Role: domain.System}, "expire", [16]byte{command}, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		return w.x.Expire(t.Context(), m, id)
	}
	_, err := expire(1)
	wantCode(t, err, "request.not_due")
	to(time.Now().Add(24*time.Hour + time.Minute))
	for range 2 {
		r, err := expire(1)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "status", string(r.State.Latest.Status), "expired")
	}
	w.refused(409, "reservation.wrong_state", mongToken, "POST", path+"/confirm", nil)
	r := w.must(201, leeToken, "POST", "/v1/reservations", wish(at(2, 10, 0)))
	want(t, "the slot is free", r.body["status"], any("requested"))
}

func TestAReminderIsOneCommandWhoeverIssuesIt(t *testing.T) {
	t.Parallel()
	w, to := newMovableWorld(t)
	w.salon("instant")
	start := at(3, 10, 0)
	path := w.reserved(start)
	id := strings.TrimPrefix(path, "/v1/reservations/")
	etag := w.must(200, kimToken, "POST", path+"/reschedule", map[string]any{"start": start}).header.Get("ETag")
	remind := func(x *Executor, event string) (Result[Book], error) {
		t.Helper()
		m, err := x.ReactMeta(t.Context(), "remind", Cause{EventID: event, CorrelationID: "c"}, id)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "cause and correlation", m.CausationID+" "+m.CorrelationID, event+" c")
		return x.Remind(t.Context(), m, id)
	}
	_, err := remind(w.x, "booked")
	wantCode(t, err, "reminder.not_due")
	to(start.Add(-time.Hour))
	other, _ := w.node()
	other.now = w.x.now
	for i, x := range []*Executor{w.x, w.x, other} {
		r, err := remind(x, "booked")
		if err != nil {
			t.Fatal(err)
		}
		want(t, "replayed", r.Replayed, i > 0)
	}
	r, err := remind(other, "another event") // a second timer of the same start
	if err != nil {
		t.Fatal(err)
	}
	want(t, "reminded", r.State.Latest.Reminded, true)
	w.must(200, kimToken, "POST", path+"/cancel", nil, "If-Match", etag) // a reminder is no change that its customer must have seen
	_, err = remind(w.x, "a third")
	wantCode(t, err, "reservation.wrong_state")
}
