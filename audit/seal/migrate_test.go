package seal_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
)

// A store that has a history when it learns of seals numbers the commands without events that are there, and seals them.
func TestAnOlderStoreIsSealedFromItsBeginning(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		silent := func() (ids []string) {
			d.use(t, func(s store) {
				for c, err := range s.Silent(t.Context(), 0) {
					if err != nil {
						t.Fatal(err)
					}
					ids = append(ids, c.ID.String())
				}
			})
			return ids
		}
		d.use(t, func(s store) { write(t, s, 0, 60) })
		want := silent()
		h, step := d.hand(t), "3"
		if d.driver == "pgx" {
			step = "5"
		}
		for _, statement := range []string{"DROP TABLE silent_commands", "DROP TABLE seals", "DROP TABLE loaded_times", "DELETE FROM events_migrations WHERE version_id >= " + step} {
			if _, err := h.db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		migrate := sqlite.Migrate
		if d.driver == "pgx" {
			migrate = postgres.Migrate
		}
		if err := migrate(t.Context(), strings.TrimPrefix(d.dsn, "file:")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, silent()); diff != "" || len(want) != 9 {
			t.Errorf("commands without events (-before +after):\n%s", diff)
		}
		k := key(t)
		d.use(t, func(s store) {
			made := sealAll(t, sealer(s, k))
			if made[0].Commands.Silent != 9 {
				t.Errorf("the first seal covers %d commands without events", made[0].Commands.Silent)
			}
		})
	})
}
