package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/projections/reservations"
)

const (
	booking    = "salon.booking.v1"
	partitions = 2
)

// world is two projections over a log that the test writes, and the operations on them.
type world struct {
	t        *testing.T
	db       *reads.DB
	log      *foldtest.Log
	admin    *Projections
	ends     map[Partition]int64
	oldest   map[Partition]time.Time // that is not applied; asked holds at which offsets they were looked for
	asked    map[Partition]int64
	handler  http.Handler
	recorded []string
}

func everywhere(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	harness.NeedsServers(t)
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":  func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "reads.db") },
		"mariadb": func(t *testing.T) string { return harness.MariaDB(t) },
		"mysql":   func(t *testing.T) string { return harness.MySQL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, url(t)))
		})
	}
}

func newWorld(t *testing.T, dbURL string) *world {
	t.Helper()
	db, err := reads.Open(t.Context(), dbURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	options, err := redis.ParseURL(harness.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	of := []engine.Projection{reservations.Projection(), calendar.View()}
	if err := engine.EnsureTables(t.Context(), db, reservations.Projection(), calendar.Projection()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Writer().ExecContext(t.Context(), "INSERT INTO projection_topics (topic, partitions, topic_id) VALUES (?, ?, 'id')", booking, partitions); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, log: foldtest.NewLog(), ends: map[Partition]int64{{booking, 0}: 0, {booking, 1}: 0, {"salon.chat.v1", 0}: 99}}
	w.admin = &Projections{
		Parking: engine.Parking{DB: db, Redis: client}, Of: of, Versions: &rebuild.Desk{DB: db, Of: of[:1]},
		Ends: func(context.Context, []string) (map[Partition]int64, error) { return w.ends, nil },
		Oldest: func(_ context.Context, at map[Partition]int64) (map[Partition]time.Time, error) {
			w.asked = at
			return w.oldest, nil
		},
		Head: func(context.Context) (uint64, error) { return uint64(len(w.log.Events)), nil },
	}
	s := httpserver.New(httpserver.Config{Verifier: verifier{}})
	Register(s.API(), w.admin, func(by auth.Identity) Record {
		return func(_ context.Context, operation, about string) error {
			if by.Sub == "unlucky" {
				return eventstore.ErrUnavailable
			}
			w.recorded = append(w.recorded, by.Role+":"+by.Sub+" "+operation+" "+about)
			return nil
		}
	})
	w.handler = s.Handler()
	return w
}

type verifier struct{}

func (verifier) Verify(_ context.Context, bearer string) (auth.Identity, error) {
	role, sub, ok := strings.Cut(bearer, ":")
	if !ok {
		return auth.Identity{}, errors.New("no token of ours")
	}
	return auth.Identity{Sub: sub, Role: role, Expires: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
}

// project brings both projections to the end of the log, and the log's ends to where they are.
func (w *world) project() {
	w.t.Helper()
	for part := range int32(partitions) {
		n := int64(0)
		for _, e := range w.log.Events {
			if engine.PartitionOf(e.Key, partitions) == part {
				n++
			}
		}
		w.ends[Partition{booking, part}] = n
		if err := engine.Apply(w.t.Context(), w.db, reservations.Projection(), booking, part, partitions, "test-1", w.log.Events); err != nil {
			w.t.Fatal(err)
		}
		if err := engine.ApplyView(w.t.Context(), w.admin.Parking.Redis, calendar.View(), booking, part, partitions, "test-1", w.log.Events); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) ask(as, method, path, body string, status int, into any) {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+as)
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if rec.Code != status {
		w.t.Fatalf("%s %s as %s: %d, want %d: %s", method, path, as, rec.Code, status, rec.Body)
	}
	if into != nil {
		if err := json.Unmarshal(rec.Body.Bytes(), into); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, rec.Body)
		}
	}
}

// park writes what the engine writes when an event of a key cannot be folded.
func (w *world) park(key, cause string, at int64) {
	w.t.Helper()
	_, err := w.db.Writer().ExecContext(w.t.Context(), "INSERT INTO projection_parked (projection, topic, part, ordering_key, from_pos, after_pos, event_type, cause, detail, attempts, parked_at, retry_at) "+
		"VALUES (?, ?, ?, ?, 7, 0, 'reservation.confirmed.v1', ?, 'detail', 1, ?, 0)", reservations.Projection().ID(), booking, engine.PartitionOf(key, partitions), key, cause, at)
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestHowFarEveryProjectionIs(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		states := func() (out []string) {
			var all Overview
			w.ask("analyst:a", http.MethodGet, "/v1/admin/projections", "", http.StatusOK, &all)
			for _, s := range all.Items {
				if len(s.Partitions) != partitions {
					t.Errorf("%s has %d partitions: those of other topics are not its own", s.Name, len(s.Partitions))
				}
				out = append(out, s.Name+" "+s.State+" "+strconv.FormatInt(s.LagEvents, 10))
			}
			return out
		}
		now := time.Now()
		lags := func() (out []float64) {
			var all Overview
			w.ask("analyst:a", http.MethodGet, "/v1/admin/projections", "", http.StatusOK, &all)
			for _, s := range all.Items {
				out = append(out, s.LagSeconds)
			}
			return out
		}
		want := func(when string, want ...string) {
			t.Helper()
			if got := states(); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		want("before anybody has begun", "reservations waiting 0", "slots waiting 0")
		w.log.Open("kim", "Asia/Seoul").Request("c1", time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC))
		w.log.Open("lee", "Asia/Seoul")
		w.log.Open("park", "Asia/Seoul")
		w.project()
		want("at the end", "reservations well 0", "slots well 0")
		w.admin.Now = func() time.Time { return now }
		w.oldest = map[Partition]time.Time{{booking, 1}: now.Add(-1500 * time.Millisecond), {booking, 0}: now.Add(-time.Hour)}
		if seconds := lags(); !slices.Equal(seconds, []float64{0, 0}) || w.asked != nil {
			t.Errorf("at the end, they are %v s behind", seconds)
		}
		w.ends[Partition{booking, 1}] += 5
		want("behind, just written", "reservations behind 5", "slots behind 5")
		w.oldest = map[Partition]time.Time{{booking, 1}: now.Add(-1500 * time.Millisecond)}
		if seconds := lags(); !slices.Equal(seconds, []float64{1.5, 1.5}) {
			t.Errorf("they are %v s behind, want the age of the oldest that is missing", seconds)
		}
		if diff := cmp.Diff(map[Partition]int64{{booking, 1}: w.ends[Partition{booking, 1}] - 5}, w.asked); diff != "" {
			t.Errorf("looked for the oldest at (-want +got):\n%s", diff)
		}
		w.oldest = map[Partition]time.Time{{booking, 1}: now.Add(time.Minute)} // by another clock
		if seconds := lags(); !slices.Equal(seconds, []float64{0, 0}) {
			t.Errorf("they are %v s behind", seconds)
		}
		w.admin.Now = func() time.Time { return time.Now().Add(Still + time.Second) }
		want("behind, and long not written", "reservations stuck 5", "slots behind 5") // a view does not tell when it was written
		progress, redis := "{"+booking+"/0}:slots_v1:offset", w.admin.Parking.Redis
		if err := redis.HSet(t.Context(), progress, "filling", "a test").Err(); err != nil {
			t.Fatal(err)
		}
		want("a view that is being filled", "reservations stuck 5", "slots filling 5")
		if err := redis.HDel(t.Context(), progress, "filling").Err(); err != nil {
			t.Fatal(err)
		}
		w.ends[Partition{booking, 1}] -= 5
		want("at the end, and long not written", "reservations well 0", "slots well 0")

		var all Overview
		w.ask("admin:a", http.MethodGet, "/v1/admin/projections", "", http.StatusOK, &all)
		if !all.Items[0].Serves || all.StorePosition != uint64(len(w.log.Events)) || all.RelayPosition != nil {
			t.Errorf("%+v", all)
		}
		for _, p := range all.Items[0].Partitions {
			if p.Position == 0 || p.MovedAt == nil || p.WayMillis == nil {
				t.Errorf("%+v", p)
			}
		}
		w.admin.Relay = func() (uint64, bool) { return all.StorePosition - 2, true }
		w.admin.RelayLag = func(context.Context) (uint64, time.Duration, error) { return 2, 1500 * time.Millisecond, nil }
		w.ask("admin:a", http.MethodGet, "/v1/admin/projections", "", http.StatusOK, &all)
		if *all.RelayLagEvents != 2 || *all.RelayLagSeconds != 1.5 {
			t.Errorf("the relay is %d positions and %v s behind, want 2 and 1.5", *all.RelayLagEvents, *all.RelayLagSeconds)
		}
	})
}

// A Redis that is away makes its views unknown, and nothing else.
func TestTheListIsThereWhileRedisIsAway(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		w.log.Open("kim", "Asia/Seoul")
		w.project()
		w.admin.Of = append(w.admin.Of, calendar.View().Earlier...)
		address := harness.Address(t) // where nobody listens
		client := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, DialerRetries: 1})
		t.Cleanup(func() { client.Close() })
		w.admin.Parking.Redis = client
		var all Overview
		w.ask("admin:a", http.MethodGet, "/v1/admin/projections", "", http.StatusOK, &all)
		if s := all.Items[0]; s.State != Well || s.LagEvents != 0 || len(s.Partitions) != partitions || s.Detail != "" {
			t.Errorf("what is not in Redis: %+v", s)
		}
		if s := all.Items[1]; s.State != Away || s.Name != "slots" || !strings.Contains(s.Detail, "Redis does not answer: ") || !strings.Contains(s.Detail, address) {
			t.Errorf("what is in Redis: %+v", s)
		}
	})
}

func TestParkedKeysAreListedInPagesAndAskedToBeRetried(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		w.project()
		for i, key := range []string{"kim", "lee", "a/b c:댕", "park"} {
			w.park(key, []string{"cause one", "cause two"}[i%2], int64(i/2+1))
		}
		var got []string
		path := "/v1/admin/projections/reservations/parked?limit=3"
		for cursor := ""; ; {
			var page Page
			w.ask("analyst:a", http.MethodGet, path+cursor, "", http.StatusOK, &page)
			for _, p := range page.Items {
				got = append(got, p.Key)
			}
			if page.NextCursor == nil {
				break
			}
			cursor = "&cursor=" + *page.NextCursor
		}
		if want := []string{"kim", "lee", "a/b c:댕", "park"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		asked := func() (keys []string) {
			parked, err := w.admin.Parked(t.Context(), "reservations_v2")
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range parked {
				if !p.RetryAt.IsZero() {
					keys = append(keys, p.Key)
				}
			}
			return keys
		}
		var n Asked
		w.ask("admin:a", http.MethodPost, "/v1/admin/projections/reservations/parked/"+url.PathEscape("a/b c:댕")+"/retry", "", http.StatusAccepted, &n)
		if keys := asked(); !slices.Equal(keys, []string{"a/b c:댕"}) || n.Asked != 1 {
			t.Errorf("asked: %q", keys)
		}
		w.ask("admin:a", http.MethodPost, "/v1/admin/projections/reservations/parked/retry", `{"cause":"cause two"}`, http.StatusAccepted, &n)
		if keys := asked(); !slices.Equal(keys, []string{"lee", "a/b c:댕", "park"}) || n.Asked != 2 {
			t.Errorf("asked: %q, %d", keys, n.Asked)
		}
		w.ask("admin:unlucky", http.MethodPost, "/v1/admin/projections/reservations/parked/retry", `{"cause":"cause one"}`, http.StatusServiceUnavailable, nil)
		if keys := asked(); !slices.Equal(keys, []string{"lee", "a/b c:댕", "park"}) {
			t.Errorf("asked, though it cannot be recorded: %q", keys)
		}
		if all, err := w.admin.RetryByCause(t.Context(), "reservations", ""); err != nil || all != 4 || len(asked()) != 4 {
			t.Errorf("all: %d, %v", all, err)
		}
		if len(w.recorded) != 4 || w.recorded[3] != "admin:a retry-parked-by-cause reservations: cause two" {
			t.Errorf("recorded: %q", w.recorded)
		}
	})
}

func TestWhoMayAskAndWhatThereIsNot(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		w.project()
		for _, c := range []struct {
			as, method, path, body string
			status                 int
		}{
			{"groomer:kim", http.MethodGet, "/v1/admin/projections", "", http.StatusForbidden},
			{"customer:c1", http.MethodPost, "/v1/admin/projections/reservations/parked/kim/retry", "", http.StatusForbidden},
			{"admin:a", http.MethodGet, "/v1/admin/projections/nothing/parked", "", http.StatusNotFound},
			{"admin:a", http.MethodPost, "/v1/admin/projections/nothing/parked/kim/retry", "", http.StatusNotFound},
			{"admin:a", http.MethodPost, "/v1/admin/projections/reservations/parked/kim/retry", "", http.StatusNotFound},
			{"admin:a", http.MethodPost, "/v1/admin/projections/nothing/parked/retry", `{"cause":"x"}`, http.StatusNotFound},
			{"admin:a", http.MethodPost, "/v1/admin/projections/reservations/parked/retry", `{}`, http.StatusBadRequest},
			{"admin:a", http.MethodPost, "/v1/admin/projections/reservations/parked/retry", `{"cause":"x"}`, http.StatusAccepted},
			{"admin:a", http.MethodGet, "/v1/admin/projections/slots/parked", "", http.StatusOK},
			{"admin:a", http.MethodGet, "/v1/admin/projections/slots/parked?cursor=!", "", http.StatusBadRequest},
			{"admin:unlucky", http.MethodGet, "/v1/admin/projections", "", http.StatusServiceUnavailable}, // no note, no answer
		} {
			w.ask(c.as, c.method, c.path, c.body, c.status, nil)
		}
	})
}

func TestA400SaysWhatIsWrongAndWhatIsAccepted(t *testing.T) {
	harness.NeedsServers(t) // its world has a Redis
	t.Parallel()
	w := newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "reads.db"))
	for _, c := range []struct{ verb, body, location, says string }{
		{"rebuild", `{"force":true}`, "body.force", "goes with switch or rollback, not with rebuild"},
		{"switch", `{"key":"kim"}`, "body.key", "goes with rebuild, not with switch"},
		{"rebuild", `{"key":"kim","pace":"full"}`, "body.pace", "does not go with key"},
		{"rebuild", `{"pace":"fast"}`, "body.pace", "gentle, normal, full"},
		{"rebuild", `{"max_rate":0}`, "body.max_rate", ">= 1"},
		{"rebuild", `{"rate":5}`, "body.rate", "unexpected"},
		{"verify", `{"sample":5}`, "body.sample", "goes with fresh"},
		{"rebuild", ``, "body", "required"},
		{"rebuild", `5`, "body", "object"},
	} {
		var p struct {
			Detail string
			Errors []struct{ Location, Message string }
		}
		w.ask("admin:a", http.MethodPost, "/v1/admin/projections/reservations/"+c.verb, c.body, http.StatusBadRequest, &p)
		t.Logf("%s %s: %+v", c.verb, c.body, p)
		if !slices.ContainsFunc(p.Errors, func(e struct{ Location, Message string }) bool {
			return e.Location == c.location && strings.Contains(e.Message, c.says)
		}) {
			t.Errorf("%s %s: %+v, want %s: %s", c.verb, c.body, p, c.location, c.says)
		}
	}
}
