package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
)

func TestADropThatIsRefusedDoesNotAskForTheName(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "reads.db")
	db, err := reads.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := engine.EnsureTables(t.Context(), db, reservations.Projection()); err != nil {
		t.Fatal(err)
	}
	events := filepath.Join(t.TempDir(), "events.db")
	if err := sqlite.Migrate(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	call(t, "projections", "drop", "reservations@2", "--reads", url).refused(t, 2, "--events")
	for name, says := range map[string]string{"reservations@2": "serves", "reservations@1": "there is nothing of", "reservations": "say which version"} {
		got := call(t, "projections", "drop", name, "--reads", url, "--events", "sqlite:"+events)
		got.refused(t, 1, says)
		if strings.Contains(got.err, "Type its name") {
			t.Errorf("%s: it asks first: %s", name, got.err)
		}
	}
}
