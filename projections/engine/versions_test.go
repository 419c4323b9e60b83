package engine

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/projections/reads"
)

// grown is counter's row with what version 2 adds.
type grown struct {
	Key   string `db:"key,pk"`
	Count int64  `db:"count"`
	Twice int64  `db:"twice,since=2"`
}

func grownTwice() (newest Projection, table *Table[grown]) {
	p, _ := counters()
	table = NewTable[grown](p.Name, Index{Name: "by_twice", Columns: []string{"twice"}}, Index{Name: "by_count", Columns: []string{"count"}})
	p.Tables = []AnyTable{table}
	p.Keys = func(e Event) []Ref { return []Ref{table.Ref(e.Key)} }
	version := func(n int) Projection {
		p := p
		p.Version = n
		p.Fold = func(u *Unit, e Event) error {
			row, _, err := table.Get(u, e.Key)
			row.Key, row.Count = e.Key, row.Count+1
			if n > 1 {
				row.Twice = 2 * row.Count
			}
			table.Put(u, row)
			return err
		}
		return p
	}
	newest = version(2)
	newest.Earlier = []Projection{version(1)}
	return newest, table
}

func TestVersionsLiveSideBySide(t *testing.T) {
	t.Parallel()
	for name, url := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, url(t))
			newest, table := grownTwice()
			old := newest.Earlier[0]
			if err := EnsureTables(t.Context(), w.db, old); err != nil { // an earlier release's
				t.Fatal(err)
			}
			if err := Establish(t.Context(), w.db, newest); err != nil {
				t.Fatal(err)
			}
			if err := begin(t.Context(), w.db, newest); !errors.Is(err, ErrNotLive) {
				t.Fatalf("a version that nobody built began: %v", err)
			}
			w.start(w.relay().Run)
			w.log.addMany(20, 200)
			seen := map[int]*progress{1: newProgress(), 2: newProgress()}
			for _, p := range newest.Versions() {
				w.start(w.runner(p, seen[p.Version]).Run)
			}
			seen[1].wait(t, w.log.last(w.partitions))
			// Made live by hand, as a rebuild of nothing would: it begins with the log.
			if err := EnsureTables(t.Context(), w.db, newest); err != nil {
				t.Fatal(err)
			}
			seen[2].wait(t, w.log.last(w.partitions))
			rows := func(version int) (out []grown) {
				err := w.db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) (err error) {
					out, err = Query(ctx, q, table, version, "ORDER BY `key`")
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			one, two := rows(1), rows(2)
			if len(one) == 0 || one[0].Twice != 0 {
				t.Fatalf("version 1: %+v", one)
			}
			for i := range one {
				one[i].Twice = 2 * one[i].Count
			}
			if diff := cmp.Diff(one, two); diff != "" {
				t.Errorf("(-version 1 +version 2):\n%s", diff)
			}

			// A version that is dropped loses its owners at once, and takes no new ones.
			err := w.db.Write(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
				return errors.Join(SetState(ctx, tx, old, Live, Dropping), Forget(ctx, tx, old))
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := newSQLTarget(w.db, old, 0).claim(t.Context(), old.Topics[0], 0, 0); !errors.Is(err, ErrNotLive) {
				t.Errorf("a dropped version was claimed: %v", err)
			}
			if _, found, err := Offset(t.Context(), w.db.Reader(), old.ID(), old.Topics[0], 0); found || err != nil {
				t.Errorf("its offset is there: %v, %v", found, err)
			}
		})
	}
}
