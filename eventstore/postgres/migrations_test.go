package postgres

import (
	"fmt"
	"testing"
)

func TestLastMigrationIsTheFolders(t *testing.T) {
	t.Parallel()
	entries, err := migrations.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e.Name(), "%05d_", &n); err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
		last = max(last, n)
	}
	if last != lastMigration {
		t.Errorf("the folder ends at %d, lastMigration is %d", last, lastMigration)
	}
}
