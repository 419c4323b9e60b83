package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	domainadmin "github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// moved are the reservations of a history that were moved, of the keys that have bookings' events in a range, and all.
func moved(t *testing.T, events int, from, to uint64) (rows, of int64) {
	t.Helper()
	p := reservations.Projection()
	d, u, within, pos := engine.NewDecoder(codec(), p), engine.NewUnit(), map[string]bool{}, uint64(0)
	for r := range bookings(events) {
		if pos++; pos > to {
			break
		}
		e, wanted, err := d.Event(p, r)
		if err != nil {
			t.Fatal(err)
		}
		if !wanted {
			continue
		}
		if err := u.Replay(p, e); err != nil {
			t.Fatal(err)
		}
		within[r.Key] = within[r.Key] || pos >= from
	}
	for _, row := range reservations.Table.Rows(u) {
		if within[row.GroomerID] {
			of++
			if row.Moves > 0 {
				rows++
			}
		}
	}
	return rows, of
}

// A preview of the newest version of reservations, as an analyst and as CI calls it.
func TestAPreviewOfReservations(t *testing.T) {
	t.Parallel()
	const events = 3000
	sqliteReads := func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "reads.db") }
	preview := func(t *testing.T, args ...string) (out rebuild.Previewed) {
		t.Helper()
		got := call(t, append([]string{"projections", "preview", "reservations", "-o", "json"}, args...)...)
		if got.code != 0 {
			t.Fatalf("exit %d: %s", got.code, got.err)
		}
		if err := json.Unmarshal([]byte(got.out), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	test := func(t *testing.T, url, readsURL string) {
		all := preview(t, "--events", url, "--against", "1")
		rows, of := moved(t, events, 1, events)
		want := []rebuild.TableDiff{{Table: "reservations", Rows: of, Changed: rows, Columns: []rebuild.ColumnDiff{{Column: "moves", Rows: rows, Expected: "new in version 2"}}}}
		if rows == 0 || !slices.EqualFunc(all.Tables, want, func(a, b rebuild.TableDiff) bool {
			return a.Rows == b.Rows && a.Changed == b.Changed && slices.Equal(a.Columns, b.Columns) && a.Added+a.Removed == 0
		}) {
			t.Errorf("%+v, want %+v", all.Tables, want)
		}
		if len(all.Examples) != 20 || all.Examples[0].Event == nil || all.Examples[0].Event.Type != "reservation.rescheduled.v1" {
			t.Errorf("%+v", all.Examples)
		}

		// A part, against what serves. Nothing is written there.
		db, err := reads.Open(t.Context(), readsURL)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		call(t, "projections", "preview", "reservations", "--events", url, "--reads", readsURL).refused(t, 2, "held against itself") // it serves
		if _, err := db.Writer().ExecContext(t.Context(), "UPDATE projection_pointers SET version = 1 WHERE projection = 'reservations'"); err != nil {
			t.Fatal(err)
		}
		part := preview(t, "--events", url, "--reads", readsURL, "--from", "1000", "--to", "1003", "--examples", "0")
		rows, of = moved(t, events, 1000, 1003)
		if part.Against != 1 || part.Keys == 0 || part.Keys > 4 || part.Tables[0].Rows != of || part.Tables[0].Changed != rows || len(part.Examples) != 0 {
			t.Errorf("%+v, want %d of %d", part, rows, of)
		}
		for query, want := range map[string]int{
			"SELECT COUNT(*) FROM reservations_v2": 0, "SELECT COUNT(*) FROM projection_runs": 0, "SELECT COUNT(*) FROM projection_versions WHERE version = 1 AND projection = 'reservations'": 0,
		} {
			var n int
			if err := db.Reader().QueryRowContext(t.Context(), query).Scan(&n); err != nil || n != want {
				t.Errorf("%s: %d, %v", query, n, err)
			}
		}
		got := call(t, "projections", "preview", "reservations", "--events", url, "--against", "1", "--sample", "2", "--examples", "1")
		if got.code != 0 || !strings.Contains(got.out, "--sample 2 --seed") || !strings.Contains(got.out, "new in version 2") || !strings.Contains(got.out, "Nothing differs that should not.") {
			t.Errorf("exit %d: %s%s", got.code, got.out, got.err)
		}
		for says, args := range map[string][]string{
			"--reads":          {"reservations"},
			"held against":     {"reservations@1", "--against", "1"},
			"toys":             {"toys", "--against", "1"},
			"no place":         {"reservations", "--against", "1", "--from", "yesterday"},
			"before from":      {"reservations", "--against", "1", "--from", "9", "--to", "3"},
			"goes with sample": {"reservations", "--against", "1", "--seed", "3"},
		} {
			call(t, append([]string{"projections", "preview", "--events", url}, args...)...).refused(t, 2, says)
		}

		// The same of an export of all, without any server; of a slice, what it has whole keys of.
		whole, slice := filepath.Join(t.TempDir(), "whole.jsonl"), filepath.Join(t.TempDir(), "slice.jsonl")
		well(t, "events", "export", "--to", whole, "--events", url, "--through", "600")
		well(t, "events", "export", "--to", slice, "--events", url, "--from", "300", "--through", "600")
		rows, of = moved(t, events, 1, 600)
		if got := preview(t, "--from-file", whole, "--examples", "3"); got.Against != 1 || got.Cut != 0 || got.Tables[0].Rows != of || got.Tables[0].Changed != rows || len(got.Examples) != 3 {
			t.Errorf("of the export: %+v, want %d of %d", got, rows, of)
		}
		call(t, "projections", "preview", "reservations", "--from-file", whole, "--fail-on-change").refused(t, 1, "as the projection declares")
		got = call(t, "projections", "preview", "reservations", "--from-file", slice, "-o", "json")
		var cut rebuild.Previewed
		if err := json.Unmarshal([]byte(got.out), &cut); err != nil || cut.Cut == 0 || cut.Cut != cut.Folded || got.code != 1 || !strings.Contains(got.err, "nothing was compared") {
			t.Errorf("of a slice: exit %d, %v: %+v %s", got.code, err, cut, got.err)
		}
		b, err := os.ReadFile(whole)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(whole, bytes.Replace(b, []byte(`"revision":7,`), []byte(`"revision":8,`), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		call(t, "projections", "preview", "reservations", "--from-file", whole).refused(t, 1, "is not what was exported")

		s, err := openEvents(t.Context(), url, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		recorded := 0
		for e, err := range s.ReadAll(t.Context(), events, eventstore.Filter{StreamPrefix: "admin-"}) {
			if err != nil {
				t.Fatal(err)
			}
			var c domainadmin.Called
			if err := json.Unmarshal(e.Data, &c); err != nil || c.Operation != "preview-projection" && c.Operation != "export-events" {
				t.Errorf("%s: %v", e.Data, err)
			}
			if c.Operation == "preview-projection" {
				recorded++
			}
		}
		if recorded < 3 {
			t.Errorf("%d calls are recorded", recorded)
		}
	}
	migrated := func(t *testing.T, url, readsURL string) {
		t.Helper()
		if got := call(t, "migrate", "up", "--events", url, "--reads", readsURL); got.code != 0 {
			t.Fatal(got.err)
		}
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		file, readsURL := filepath.Join(t.TempDir(), "events.db"), sqliteReads(t)
		migrated(t, "sqlite:"+file, readsURL)
		if err := sqlite.Fill(t.Context(), file, bookings(events)); err != nil {
			t.Fatal(err)
		}
		test(t, "sqlite:"+file, readsURL)
	})
	if testing.Short() {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url, readsURL := harness.Postgres(t), sqliteReads(t)
		migrated(t, url, readsURL)
		if err := postgres.Fill(t.Context(), url, bookings(events)); err != nil {
			t.Fatal(err)
		}
		test(t, url, readsURL)
	})
}

// Of a data folder, its process is asked.
func TestAPreviewOfADataFolder(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	got := call(t, "projections", "preview", "reservations@1", "--data", p.data, "-o", "json")
	var out rebuild.Previewed
	if err := json.Unmarshal([]byte(got.out), &out); got.code != 0 || err != nil {
		t.Fatalf("exit %d: %v: %s", got.code, err, got.err)
	}
	if out.Version != 1 || out.Against != 2 || out.Keys != 1 || out.Tables[0].Rows != 1 || out.Unexpected != 0 {
		t.Errorf("%+v", out)
	}
	call(t, "projections", "preview", "reservations", "--data", p.data).refused(t, 2, "held against itself")
	call(t, "projections", "preview", "toys", "--data", p.data).refused(t, 2, "toys")
}
