package readapi

import (
	"net/http"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/reservations"
	"github.com/dangdangsalon/salon/projections/stats"
)

// park writes what the engine writes when an event of a key cannot be folded.
func (w *world) park(p engine.Projection, key string, from uint64) {
	w.t.Helper()
	_, err := w.db.Writer().ExecContext(w.t.Context(), "INSERT INTO projection_parked (projection, topic, part, ordering_key, from_pos, after_pos, event_type, cause, detail, attempts, parked_at, retry_at) "+
		"VALUES (?, ?, ?, ?, ?, 0, 'reservation.confirmed.v1', 'cause', 'detail', 1, 1, 0)", p.ID(), booking, engine.PartitionOf(key, partitions), key, from)
	if err != nil {
		w.t.Fatal(err)
	}
}

type marked struct {
	Parked bool
	Items  []struct{ Parked bool }
}

func TestRowsOfAParkedKeyAreAnsweredAndMarked(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		kim, lee := w.log.Open("kim", "Asia/Seoul"), w.log.Open("lee", "Asia/Seoul")
		v := kim.Request("c1", tenth)
		other := lee.Request("c1", tenth.Add(24*time.Hour))
		before := w.token()
		w.project()
		paths := []string{
			"/v1/reservations/" + v.ID, "/v1/reservations", "/v1/reservations/" + v.ID + "/history", "/v1/groomers/kim", "/v1/groomers",
			"/v1/stats/daily?from=2026-11-01&to=2026-11-30",
		}
		as := func(path string) string {
			if path == paths[5] {
				return "admin:a"
			}
			return "customer:c1"
		}
		for _, path := range paths {
			r := w.get(as(path), path)
			if want[marked](r, http.StatusOK); r.Header().Get("X-Parked") != "" {
				t.Errorf("%s: marked, and nothing is parked", path)
			}
		}
		kim.Confirm(v)
		for _, p := range []engine.Projection{reservations.Projection(), history.Projection(), groomers.Projection(), stats.Projection()} {
			w.park(p, "kim", uint64(len(w.log.Events)))
		}
		for _, path := range paths {
			r := w.get(as(path), path, "Consistency-Token", before)
			got := want[marked](r, http.StatusOK)
			if r.Header().Get("X-Parked") != "true" {
				t.Errorf("%s: no X-Parked: %s", path, r.Body)
			}
			parked := 0
			for _, i := range got.Items {
				if i.Parked {
					parked++
				}
			}
			if !got.Parked && parked != 1 {
				t.Errorf("%s: %d items are marked, want the one: %s", path, parked, r.Body)
			}
		}
		r := w.get("customer:c1", "/v1/reservations/"+other.ID)
		if got := want[marked](r, http.StatusOK); got.Parked || r.Header().Get("X-Parked") != "" {
			t.Error("another key is marked")
		}
	})
}

func TestATokenBehindWhichAKeyIsParked(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		kim, lee := w.log.Open("kim", "Asia/Seoul"), w.log.Open("lee", "Asia/Seoul")
		v := kim.Request("c1", tenth)
		kim.Confirm(v)
		at := w.token()
		w.park(reservations.Projection(), "kim", uint64(len(w.log.Events)))
		other := lee.Request("c1", tenth.Add(24*time.Hour))
		elsewhere := w.token()
		w.project()
		for _, path := range []string{"/v1/reservations/" + v.ID, "/v1/reservations"} {
			began := time.Now()
			r := w.get("customer:c1", path, "Consistency-Token", at, "Prefer", "wait=30")
			refused(r, http.StatusServiceUnavailable, "read_model.parked")
			if r.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it waited %v for what no wait brings", took)
			}
		}
		// Another screen's projection is not parked, nor is another key.
		want[marked](w.get("customer:c1", "/v1/reservations/"+v.ID+"/history", "Consistency-Token", at), http.StatusOK)
		want[marked](w.get("customer:c1", "/v1/reservations/"+other.ID, "Consistency-Token", elsewhere), http.StatusOK)
	})
}
