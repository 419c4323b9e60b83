package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/internal/sealed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is the write side over HTTP on a SQLite file.
type world struct {
	t       testing.TB
	store   eventstore.Store
	x       *Executor
	handler http.Handler
}

// tokens are "role:sub".
type tokens struct{}

func (tokens) Verify(_ context.Context, bearer string) (auth.Identity, error) {
	role, sub, ok := strings.Cut(bearer, ":")
	if !ok {
		return auth.Identity{}, errors.New("no")
	}
	return auth.Identity{Sub: sub, Role: role}, nil
}

const (
	kimToken   = "customer:kim"
	leeToken   = "customer:lee"
	mongToken  = "groomer:mong"
	otherSalon = "groomer:other"
	adminToken = "admin:root"
)

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, openSQLite(t))
}

func newWorldOn(t testing.TB, store eventstore.Store) *world {
	t.Helper()
	w := &world{t: t, store: store}
	w.restart()
	return w
}

// newMovableWorld has a clock of its own, which the test moves: the disk's store would refuse it.
func newMovableWorld(t testing.TB) (w *world, to func(time.Time)) {
	t.Helper()
	store := newMemory()
	w = newWorldOn(t, store)
	return w, func(now time.Time) {
		store.now = func() time.Time { return now }
		w.x.now = store.now
	}
}

// restart forgets everything that is not on disk.
func (w *world) restart() {
	w.t.Helper()
	w.x, w.handler = w.node()
}

// node is another process on the same store.
func (w *world) node() (*Executor, http.Handler) {
	w.t.Helper()
	keys, err := sealed.New(w.store, make([]byte, sealed.MasterBytes))
	if err != nil {
		w.t.Fatal(err)
	}
	x := NewExecutor(Config{Store: w.store, Keys: keys, PostRate: -1})
	s := httpserver.New(httpserver.Config{Verifier: tokens{}})
	Register(s.API(), x)
	return x, s.Handler()
}

type response struct {
	status  int
	header  http.Header
	body    map[string]any
	raw     string
	problem problem.Problem
}

// send calls an operation. body is JSON text, or a value to marshal, or nil.
func (w *world) send(token, method, path string, body any, headers ...string) response {
	w.t.Helper()
	return sendTo(w.t, w.handler, token, method, path, body, headers...)
}

func sendTo(t testing.TB, h http.Handler, token, method, path string, body any, headers ...string) response {
	t.Helper()
	var raw []byte
	switch b := body.(type) {
	case nil:
	case string:
		raw = []byte(b)
	default:
		var err error
		if raw, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(raw))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	out := response{status: rec.Code, header: rec.Header(), raw: rec.Body.String()}
	if rec.Code >= 400 {
		if got := rec.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s %s: %d of type %q: %s", method, path, rec.Code, got, out.raw)
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &out.problem); err != nil || out.problem.Code == "" || out.problem.TraceID == "" {
			t.Errorf("%s %s: not a whole problem: %s", method, path, out.raw)
		}
	} else if rec.Body.Len() > 0 {
		if err := json.Unmarshal(rec.Body.Bytes(), &out.body); err != nil {
			t.Errorf("%s %s: %v in %s", method, path, err, out.raw)
		}
	}
	return out
}

// must is send that succeeds.
func (w *world) must(status int, token, method, path string, body any, headers ...string) response {
	w.t.Helper()
	r := w.send(token, method, path, body, headers...)
	if r.status != status {
		w.t.Fatalf("%s %s by %s: got %d, want %d: %s", method, path, token, r.status, status, r.raw)
	}
	return r
}

// refused is send that fails with a code and changes nothing.
func (w *world) refused(status int, code, token, method, path string, body any, headers ...string) {
	w.t.Helper()
	before := w.head()
	r := w.send(token, method, path, body, headers...)
	if r.status != status || r.problem.Code != code {
		w.t.Errorf("%s %s by %s: got %d %s, want %d %s: %s", method, path, token, r.status, r.problem.Code, status, code, r.raw)
	}
	if after := w.head(); after != before {
		w.t.Errorf("%s %s by %s: answered %d and moved the store from %d to %d", method, path, token, r.status, before, after)
	}
}

func (w *world) head() uint64 {
	w.t.Helper()
	h, err := w.store.Head(context.WithoutCancel(w.t.Context()))
	if err != nil {
		w.t.Fatal(err)
	}
	return h.Position
}

// settings of a salon that is open from 09:00 to 21:00 every day but Sunday, with a break.
func settings(booking string, change ...func(map[string]any)) map[string]any {
	var hours []any
	for _, day := range []string{"mon", "tue", "wed", "thu", "fri", "sat"} {
		hours = append(hours, map[string]any{"weekday": day, "opens": "09:00", "closes": "21:00", "breaks": []any{map[string]any{"from": "13:00", "to": "14:00"}}})
	}
	s := map[string]any{
		"name": "몽몽살롱", "address": "서울시 강남구", "areas": []string{"seoul/gangnam-gu"}, "modes": []string{"shop", "visit"}, "zone": "Asia/Seoul",
		"menu": []any{
			map[string]any{"service": "bath", "size": "small", "minutes": 30, "price_krw": 25000},
			map[string]any{"service": "nails", "size": "small", "minutes": 15, "price_krw": 10000},
		},
		"hours": hours, "buffer_minutes": 10, "min_notice_minutes": 60, "horizon_days": 60, "booking": booking, "request_expires_minutes": 1440,
		"cancellation": []any{map[string]any{"hours_before": 24, "refund_percent": 100}, map[string]any{"hours_before": 0, "refund_percent": 0}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func (w *world) salon(booking string) *world {
	w.t.Helper()
	w.must(200, mongToken, "PUT", "/v1/groomers/mong", settings(booking))
	return w
}

var seoul = time.FixedZone("KST", 9*60*60)

// today is read once: a test that runs over midnight keeps its days.
var today = time.Now().In(seoul)

// at is a wall clock in Seoul on the first Monday that is at least n days ahead; 2 and 9 are different Mondays.
func at(n, hour, minute int) time.Time {
	day := today.AddDate(0, 0, n)
	for day.Weekday() != time.Monday {
		day = day.AddDate(0, 0, 1)
	}
	return time.Date(day.Year(), day.Month(), day.Day(), hour, minute, 0, 0, seoul)
}

func wish(start time.Time, change ...func(map[string]any)) map[string]any {
	b := map[string]any{
		"groomer_id": "mong", "start": start.Format(time.RFC3339), "mode": "shop",
		"dogs": []any{map[string]any{"name": "콩이", "size": "small", "services": []string{"bath", "nails"}}},
	}
	for _, c := range change {
		c(b)
	}
	return b
}

func set(key string, value any) func(map[string]any) {
	return func(m map[string]any) { m[key] = value }
}
func unset(key string) func(map[string]any) { return func(m map[string]any) { delete(m, key) } }

// reserved books for kim and gives the reservation's path.
func (w *world) reserved(start time.Time) string {
	w.t.Helper()
	r := w.must(201, kimToken, "POST", "/v1/reservations", wish(start))
	return fmt.Sprint("/v1/reservations/", r.body["reservation_id"])
}
