package readapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/token"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/inbox"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
	"github.com/dangdangsalon/salon/projections/stats"
)

const (
	booking    = "salon.booking.v1"
	partitions = 3
	life       = "test-1" // the store's incarnation
)

// world is the read side over a log of events that the test writes.
type world struct {
	t       *testing.T
	db      *reads.DB
	log     *foldtest.Log
	texts   *texts
	screens screens
	handler http.Handler
}

// everywhere runs a test on each database that the reads may live in.
func everywhere(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "reads.db")))
	})
	if testing.Short() {
		return // the servers are left out, by -short alone
	}
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, harness.MariaDB(t)))
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, harness.MySQL(t)))
	})
}

func folds() []engine.Projection {
	return []engine.Projection{
		reservations.Projection(), history.Projection(), groomers.Projection(), stats.Projection(), inbox.Projection(),
	}
}

func newWorld(t *testing.T, url string) *world {
	t.Helper()
	db, err := reads.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := engine.EnsureTables(t.Context(), db, folds()...); err != nil {
		t.Fatal(err)
	}
	_, err = db.Writer().ExecContext(t.Context(),
		"INSERT INTO projection_topics (topic, partitions, topic_id) VALUES (?, ?, ?)", booking, partitions, "id")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, log: foldtest.NewLog(), texts: &texts{erased: map[string]bool{}}}
	w.screens = newScreens(Deps{Reads: db, Texts: w.texts})
	w.serve()
	return w
}

// serve makes the handler that answers with the screens.
func (w *world) serve() {
	server := httpserver.New(httpserver.Config{Verifier: verifier{}})
	w.screens.register(server.API())
	w.handler = server.Handler()
}

// project brings the read models up to the end of the log.
func (w *world) project(of ...engine.Projection) {
	w.t.Helper()
	if len(of) == 0 {
		of = folds()
	}
	for _, p := range of {
		for part := range int32(partitions) {
			if err := engine.Apply(w.t.Context(), w.db, p, booking, part, partitions, life, w.log.Events); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// token is what a write that made the last event answered.
func (w *world) token() string {
	last := w.log.Events[len(w.log.Events)-1]
	return token.Token{Incarnation: life, Entries: []token.Entry{{Topic: booking, Key: last.Key, Position: last.Position}}}.String()
}

type response struct {
	*httptest.ResponseRecorder
	t    *testing.T
	path string
}

// get asks as somebody: "customer:c1", or "" without a token. headers are name, value, name, value …
func (w *world) get(as, path string, headers ...string) response {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, nil)
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return response{rec, w.t, path}
}

// want checks the status and decodes the body.
func want[T any](r response, status int) (body T) {
	r.t.Helper()
	if r.Code != status {
		r.t.Fatalf("GET %s: %d, want %d: %s", r.path, r.Code, status, r.Body)
	}
	if r.Body.Len() > 0 {
		if err := json.Unmarshal(r.Body.Bytes(), &body); err != nil {
			r.t.Fatalf("GET %s: %v: %s", r.path, err, r.Body)
		}
	}
	return body
}

// refused checks status and code of a problem and answers its detail.
func refused(r response, status int, code string) string {
	r.t.Helper()
	p := want[struct{ Code, Detail string }](r, status)
	if p.Code != code || r.Header().Get("Content-Type") != "application/problem+json" {
		r.t.Fatalf("GET %s: %s, want %s: %s", r.path, p.Code, code, r.Body)
	}
	return p.Detail
}

// verifier lets "role:sub" be a token.
type verifier struct{}

func (verifier) Verify(_ context.Context, bearer string) (auth.Identity, error) {
	role, sub, ok := strings.Cut(bearer, ":")
	if !ok {
		return auth.Identity{}, errors.New("no token of ours")
	}
	return auth.Identity{Sub: sub, Role: role, Expires: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}, nil
}

// texts opens what foldtest.Seal sealed, unless the person was erased.
type texts struct{ erased map[string]bool }

func (x *texts) Open(_ context.Context, s Sealed) (string, bool, error) {
	if x.erased[s.Subject] {
		return "", true, nil
	}
	return string(s.Cipher), false, nil
}
