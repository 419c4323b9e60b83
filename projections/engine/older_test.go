package engine

import (
	"testing"

	"github.com/dangdangsalon/salon/projections/reads"
)

// Where nothing has begun, as before the first migration is through, runners of all versions try at once: the newest begins.
func TestAnOlderVersionDoesNotBeginByItself(t *testing.T) {
	t.Parallel()
	db, err := reads.Open(t.Context(), "sqlite:"+t.TempDir()+"/reads.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := Projection{Name: "toy", Version: 2, Earlier: []Projection{{Name: "toy", Version: 1}}}
	for _, v := range AllVersions([]Projection{p}) {
		s, _, err := life(t.Context(), db.Reader(), v)
		if err != nil || (s == Live) != (v.Version == 2) {
			t.Errorf("version %d may begin: %q, %v", v.Version, s, err)
		}
	}
}
