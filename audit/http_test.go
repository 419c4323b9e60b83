package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/projections/admin"
)

var update = flag.Bool("update", false, "write the golden answers again")

// front is the API over a world.
type front struct {
	*world

	handler  http.Handler
	recorded []string
	refuse   error // to record
}

func newFront(w *world) *front {
	f := &front{world: w}
	s := httpserver.New(httpserver.Config{Verifier: verifier{}})
	Register(s.API(), w.past, func(by auth.Identity) admin.Record {
		return func(_ context.Context, operation, about string) error {
			if f.refuse != nil {
				return f.refuse
			}
			f.recorded = append(f.recorded, by.Role+":"+by.Sub+" "+operation+" "+about)
			return nil
		}
	})
	f.handler = s.Handler()
	return f
}

type verifier struct{}

func (verifier) Verify(_ context.Context, bearer string) (auth.Identity, error) {
	role, sub, ok := strings.Cut(bearer, ":")
	if !ok {
		return auth.Identity{}, errors.New("no token of ours")
	}
	return auth.Identity{Sub: sub, Role: role, Expires: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
}

func (f *front) get(as, path string) (int, []byte) {
	f.t.Helper()
	r := httptest.NewRequestWithContext(f.t.Context(), http.MethodGet, path, nil)
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	rec := httptest.NewRecorder()
	f.handler.ServeHTTP(rec, r)
	return rec.Code, rec.Body.Bytes()
}

// golden compares an answer with what stands in testdata: the same of every store, but for times and positions, which are
// named after the events they are of.
func (f *front) golden(name string, body []byte) {
	f.t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		f.t.Fatalf("%s: %v\n%s", name, err, body)
	}
	got := regexp.MustCompile(`"next_cursor": "[^"]+"`).ReplaceAllString(out.String(), `"next_cursor": "cursor"`)
	got = strings.ReplaceAll(got, `"indexed_through": null`, `"indexed_through": 0`) // EventStoreDB has no index
	for i, e := range f.all() {
		at, err := json.Marshal(e.RecordedAt)
		if err != nil {
			f.t.Fatal(err)
		}
		got = strings.ReplaceAll(got, string(at), fmt.Sprintf(`"time %d"`, i+1))
		position := regexp.MustCompile(fmt.Sprintf(`"(position|looked_through)": %d\b`, e.Position))
		got = position.ReplaceAllString(got, fmt.Sprintf(`"$1": "event %d"`, i+1))
		got = strings.ReplaceAll(got, hex.EncodeToString(e.Hash[:]), fmt.Sprintf("hash %d", i+1))
	}
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		f.t.Errorf("%s (-want +got)\n%s", name, diff)
	}
}

func TestAnswersOverHTTP(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		f := newFront(w)
		id := w.booked()
		w.texts.erased = map[string]bool{"customer:bob": true}
		for name, path := range map[string]string{
			"state":           "/v1/admin/streams/groomer-kim/state?at=7",
			"diff":            "/v1/admin/streams/groomer-kim/diff?from=6&to=8",
			"rows":            "/v1/admin/rows/reservations/" + id,
			"rows-diff":       "/v1/admin/rows/reservations/kim/diff?from=" + url.QueryEscape(fmt.Sprintf("position:%d", w.all()[6].Position)),
			"row-by-two":      "/v1/admin/rows/history/" + id + "%2F8",
			"earlier-version": "/v1/admin/rows/reservations@1/kim",
			"events":          "/v1/admin/events?actor=customer:ana&type=reservation.rescheduled.v1&limit=1",
			"event":           "/v1/admin/events/" + fmt.Sprint(w.all()[5].Position),
			"tree":            "/v1/admin/commands/" + commandOf(w.all()[6]) + "/tree",
		} {
			status, body := f.get("admin:root", path)
			if status != http.StatusOK {
				t.Errorf("%s: %d: %s", path, status, body)
				continue
			}
			f.golden(name, body)
		}
	})
}

// commandOf is the command that an event is of.
func commandOf(r eventstore.Recorded) string {
	m, _ := eventstore.DecodeMetadata(r.Metadata)
	return m.CommandID.String()
}

func TestOnlyAdminsMayLookAndEachCallIsRecordedFirst(t *testing.T) {
	t.Parallel()
	f := newFront(newWorld(t, openSQLite(t)))
	id := f.booked()
	paths := []string{
		"/v1/admin/streams/groomer-kim/state?at=3", "/v1/admin/streams/groomer-kim/diff?from=1&to=2",
		"/v1/admin/rows/reservations/" + id, "/v1/admin/rows/history/kim/diff?from=3",
		"/v1/admin/events?key=kim&limit=1", "/v1/admin/events/3", "/v1/admin/commands/" + commandOf(f.all()[0]) + "/tree",
	}
	for _, path := range paths {
		for as, want := range map[string]int{"": 401, "analyst:an": 403, "customer:ana": 403, "groomer:kim": 403} {
			if status, body := f.get(as, path); status != want {
				t.Errorf("%s as %q: %d, want %d: %s", path, as, status, want, body)
			}
		}
	}
	if len(f.recorded) > 0 {
		t.Errorf("who may not look was recorded as if they had: %v", f.recorded)
	}
	for _, path := range paths {
		if status, body := f.get("admin:root", path); status != 200 {
			t.Errorf("%s: %d: %s", path, status, body)
		}
	}
	// What is not there was asked for, too.
	if status, _ := f.get("admin:root", "/v1/admin/streams/groomer-nobody/state"); status != 404 {
		t.Errorf("a stream that nobody wrote: %d", status)
	}
	want := []string{
		"admin:root state-of-stream groomer-kim?at=3",
		"admin:root diff-of-stream groomer-kim?from=1&to=2",
		"admin:root state-of-rows reservations/" + id + "?at=",
		"admin:root diff-of-rows history/kim?from=3&to=",
		"admin:root list-events key=kim",
		"admin:root show-event 3",
		"admin:root tree-of-command " + commandOf(f.all()[0]),
		"admin:root state-of-stream groomer-nobody?at=",
	}
	if diff := cmp.Diff(want, f.recorded); diff != "" {
		t.Errorf("recorded (-want +got)\n%s", diff)
	}
	// Who cannot be recorded is not answered.
	f.refuse = fmt.Errorf("append: %w", eventstore.ErrUnavailable)
	for _, path := range paths {
		if status, body := f.get("admin:root", path); status != 503 || !bytes.Contains(body, []byte(`"store.unavailable"`)) {
			t.Errorf("%s, not recorded: %d: %s", path, status, body)
		}
	}
}

func TestRefusalsOverHTTP(t *testing.T) {
	t.Parallel()
	f := newFront(newWorld(t, openSQLite(t)))
	f.booked()
	for path, want := range map[string]string{
		"/v1/admin/streams/groomer-nobody/state":                                    "404 stream.unknown",
		"/v1/admin/streams/groomer-kim/state?at=99":                                 "404 moment.unknown",
		"/v1/admin/streams/groomer-kim/state?at=2000-01-01T00:00:00Z":               "404 moment.unknown",
		"/v1/admin/streams/groomer-kim/state?at=2999-01-01T00:00:00Z":               "422 moment.future",
		"/v1/admin/streams/groomer-kim/state?at=then":                               "400 request.invalid",
		"/v1/admin/streams/groomer-kim/state?at=" + strings.Repeat("9", 65):         "400 request.invalid",
		"/v1/admin/streams/" + strings.Repeat("k", 513) + "/state":                  "400 request.invalid",
		"/v1/admin/streams/groomer-kim/state?when=3":                                "400 request.invalid",
		"/v1/admin/streams/groomer-kim/diff":                                        "400 request.invalid",
		"/v1/admin/streams/groomer-kim/diff?from=":                                  "400 request.invalid",
		"/v1/admin/streams/groomer-kim/diff?from=3&to=2":                            "400 request.invalid",
		"/v1/admin/streams/groomer-kim/diff?from=3&limit=0":                         "400 request.invalid",
		"/v1/admin/streams/groomer-kim/diff?from=3&limit=1001":                      "400 request.invalid",
		"/v1/admin/streams/%ff%fe/state":                                            "404 stream.unknown",
		"/v1/admin/streams/groomer-%00/state":                                       "404 stream.unknown",
		"/v1/admin/events?limit=101":                                                "400 request.invalid",
		"/v1/admin/events?colour=red":                                               "400 request.invalid",
		"/v1/admin/events?actor=ana":                                                "400 request.invalid",
		"/v1/admin/events?cursor=x":                                                 "400 request.invalid",
		"/v1/admin/events?stream=groomer-nobody":                                    "404 stream.unknown",
		"/v1/admin/events/99":                                                       "404 event.unknown",
		"/v1/admin/events/x":                                                        "400 request.invalid",
		"/v1/admin/commands/x/tree":                                                 "400 request.invalid",
		"/v1/admin/commands/6ee5b819-aeb1-590b-8cbd-a126c556a793/tree":              "404 command.unknown",
		"/v1/admin/rows/bookings/kim":                                               "404 projection.unknown",
		"/v1/admin/rows/reservations/nobody":                                        "404 row.unknown",
		"/v1/admin/rows/reservations/" + url.PathEscape("a/b/c/d/e/../../%2e\x00'"): "404 row.unknown",
	} {
		status, body := f.get("admin:root", path)
		var p struct{ Code string }
		_ = json.Unmarshal(body, &p)
		if got := fmt.Sprint(status, " ", p.Code); got != want {
			t.Errorf("%s: %s, want %s\n%s", path, got, want, body)
		}
	}
}
