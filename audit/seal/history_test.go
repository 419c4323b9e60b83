package seal_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
)

// database is an event store with a way behind its back.
type database struct {
	driver string
	dsn    string
	open   func(t testing.TB) store
	look   func(t testing.TB) store // opens it whatever was done to it
}

type store interface {
	seal.Store
	Close() error
}

// everyDatabase runs a test on each dense store.
func everyDatabase(t *testing.T, test func(t *testing.T, d database)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, newSQLite(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		harness.NeedsServers(t)
		test(t, newPostgres(t))
	})
}

func newSQLite(t testing.TB) database {
	path := filepath.Join(t.TempDir(), "events.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	open := func(readOnly bool) func(t testing.TB) store {
		return func(t testing.TB) store {
			s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, ReadOnly: readOnly})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	return database{"sqlite", "file:" + path, open(false), open(true)}
}

func newPostgres(t testing.TB) database {
	url := harness.Postgres(t)
	if err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	open := func(t testing.TB) store {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return database{"pgx", url, open, open}
}

// use lets work use the store, open for as long as it takes.
func (d database) use(t testing.TB, work func(s store)) { t.Helper(); using(t, d.open(t), work) }

// seen is use of a store that may be damaged.
func (d database) seen(t testing.TB, work func(s store)) { t.Helper(); using(t, d.look(t), work) }

func using(t testing.TB, s store, work func(s store)) {
	t.Helper()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	work(s)
}

// write appends commands first to last-1: each to one of five streams, with one or two events, every seventh with none.
func write(t testing.TB, s eventstore.Store, first, last int) {
	t.Helper()
	for n := first; n < last; n++ {
		stream, id := fmt.Sprintf("groomer-%d", n%5), uuid.NewSHA1(uuid.Nil, fmt.Append(nil, n))
		by := domain.Actor{ID: "kim", Role: "customer"}
		metadata, err := json.Marshal(eventstore.Metadata{CommandID: id, Command: "test", Actor: by, CorrelationID: "c", CausationID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		a := eventstore.Append{
			Stream: stream, Key: stream, Expected: eventstore.AnyRevision, Metadata: metadata, DecidedAt: time.Now(),
			Command: eventstore.Command{ID: id, RequestHash: fmt.Appendf(nil, "%032d", n), Actor: by.Subject()},
		}
		for i := range (1 + n%2) * min(1, n%7) {
			a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(id, stream, i), Type: "test.v1", Data: fmt.Appendf(nil, `{"n": %d,  "of": "%d"}`, n, i)})
		}
		if _, err := s.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
}

// key makes a key of seals.
func key(t testing.TB) seal.Key {
	t.Helper()
	k, err := seal.LoadOrCreateKey(filepath.Join(t.TempDir(), "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealer(s seal.Store, k seal.Key, heads ...seal.Head) *seal.Sealer {
	return &seal.Sealer{Store: s, Key: k, Dense: true, Heads: heads, Most: 16}
}

// newEventStoreDB is a server in this process, whose positions are not dense.
func newEventStoreDB(t testing.TB) store {
	t.Helper()
	s, err := esdb.Open(t.Context(), esdb.Config{URL: esdbtest.New(t).URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func sealAll(t testing.TB, s *seal.Sealer) []seal.Body {
	t.Helper()
	made, err := s.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func verify(t testing.TB, h seal.History, o seal.Options, keys ...string) seal.Report {
	t.Helper()
	o.Dense = true
	if len(keys) > 0 {
		known, err := seal.Known(keys...)
		if err != nil {
			t.Fatal(err)
		}
		o.Known = known
	}
	r, err := seal.Verify(t.Context(), h, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func all(t testing.TB, s eventstore.Store) (out []eventstore.Recorded) {
	t.Helper()
	for r, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// hand changes a database behind the store's back.
type hand struct {
	t      testing.TB
	driver string
	db     *sql.DB
}

func (d database) hand(t testing.TB) hand {
	t.Helper()
	db, err := sql.Open(d.driver, d.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return hand{t, d.driver, db}
}

func (h hand) bind(query string) string {
	if h.driver == "sqlite" {
		return query
	}
	for n := 1; strings.Contains(query, "?"); n++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", n), 1)
	}
	return query
}

// do runs a statement that must change something.
func (h hand) do(query string, args ...any) {
	h.t.Helper()
	done, err := h.db.ExecContext(h.t.Context(), h.bind(query), args...)
	if err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	if n, err := done.RowsAffected(); n == 0 || err != nil {
		h.t.Fatalf("%s: changed nothing: %v", query, err)
	}
}

func (h hand) bytes(query string, args ...any) (b []byte) {
	h.t.Helper()
	if err := h.db.QueryRowContext(h.t.Context(), h.bind(query), args...).Scan(&b); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	return b
}

// flip turns one bit of an event's bytes.
func (h hand) flip(column string, position int) {
	h.t.Helper()
	b := h.bytes("SELECT "+column+" FROM events WHERE position = ?", position)
	b[len(b)/2] ^= 1
	h.do("UPDATE events SET "+column+" = ? WHERE position = ?", b, position)
}

// rehash gives an event the hash of what it is now.
func (h hand) rehash(d database, position int) {
	h.t.Helper()
	d.seen(h.t, func(s store) {
		for _, r := range all(h.t, s) {
			if r.Position == uint64(position) { //nolint:gosec // a test's
				sum := eventstore.ContentHash(r)
				h.do("UPDATE events SET hash = ? WHERE position = ?", sum[:], position)
			}
		}
	})
}

// shift moves every event behind a position, by one in either direction.
func (h hand) shift(behind, by int) {
	h.t.Helper()
	h.do("UPDATE events SET position = -position WHERE position > ?", behind)
	h.do("UPDATE events SET position = -position + ? WHERE position < 0", by)
}

func (h hand) swap(a, b int) {
	h.t.Helper()
	h.do("UPDATE events SET position = -1 WHERE position = ?", a)
	h.do("UPDATE events SET position = ? WHERE position = ?", a, b)
	h.do("UPDATE events SET position = ? WHERE position = -1", b)
}
