package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/projections/reads"
)

// everything is a row of all kinds of columns, with names that SQL reserves.
type everything struct {
	Room    string            `db:"room,pk"`
	Seq     uint64            `db:"offset,pk"`
	Rank    int               `db:"rank"`
	Text    string            `db:"text,text"`
	Open    bool              `db:"open"`
	At      time.Time         `db:"at"`
	Never   time.Time         `db:"never"`
	Sealed  domain.Sealed     `db:"sealed"`
	Maybe   *int              `db:"maybe"`
	Numbers []int             `db:"numbers"`
	Names   map[string]string `db:"names"`
}

func TestRowsOfEveryKindComeBack(t *testing.T) {
	t.Parallel()
	for name, url := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := NewTable[everything]("everything_"+strings.ToLower(rand.Text()[:8]), Index{Name: "by_rank", Columns: []string{"rank", "offset"}})
			p := Projection{Name: "everything", Version: 3, Tables: []AnyTable{table}}
			db := openReads(t, url(t))
			for range 2 { // the second time it is there
				if err := EnsureTables(t.Context(), db, p); err != nil {
					t.Fatal(err)
				}
			}
			five := 5
			var want []everything
			u := NewUnit()
			u.key = "열쇠"
			for i := range 700 { // statements of every size
				row := everything{
					Room: "방", Seq: uint64(i), Rank: -i, Text: strings.Repeat("댕댕 😀 \\ ' \" \x00", i%5*50), Open: i%2 == 0,
					At: time.UnixMicro(1_700_000_000_123_456 + int64(i)).UTC(), Sealed: domain.Sealed{Subject: "customer:kim", KeyID: "1", Cipher: []byte{0, 255}},
					Maybe: &five, Numbers: []int{i}, Names: map[string]string{"a'b": "콩이"},
				}
				table.Put(u, row)
				want = append(want, row)
			}
			tg := newSQLTarget(db, p, 0)
			defer tg.close()
			write := func() {
				t.Helper()
				tx, err := tg.begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := tg.tables[table.Def()].write(t.Context(), tx, u.changes()[table.Def()]); err != nil {
					t.Fatal(err)
				}
				if err := tx.tx.Commit(); err != nil {
					t.Fatal(err)
				}
				tx.end()
				u.settle(0)
			}
			read := func() []everything {
				t.Helper()
				var got []everything
				err := db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) (err error) {
					got, err = Query(ctx, q, table, 3, "ORDER BY `offset`")
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
			write()
			if diff := cmp.Diff(want, read()); diff != "" {
				t.Error(diff)
			}
			// Loading by a key of two columns, then changing some and deleting others.
			u = NewUnit()
			u.key = "열쇠"
			var refs []Ref
			for i := range 300 {
				refs = append(refs, table.Ref("방", uint64(i)))
			}
			refs = append(refs, table.Ref("방", uint64(9999)))
			one := &member{o: &sqlOwner{unit: u}, b: &batch{refs: u.missing(refs, u.key, nil)}}
			tx, err := tg.begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := tg.tables[table.Def()].load(t.Context(), tx, []*member{one}); err != nil {
				t.Fatal(err)
			}
			tx.tx.Rollback()
			tx.end()
			for i := range 300 {
				row, ok, err := table.Get(u, "방", uint64(i))
				if err != nil || !ok {
					t.Fatalf("row %d: %v, %v", i, ok, err)
				}
				if i%2 == 0 {
					table.Delete(u, "방", uint64(i))
					continue
				}
				row.Rank = 1
				table.Put(u, row)
				want[i].Rank = 1
			}
			if _, ok, err := table.Get(u, "방", uint64(9999)); ok || err != nil {
				t.Errorf("a row that is not there: %v, %v", ok, err)
			}
			write()
			var left []everything
			for i, row := range want {
				if i >= 300 || i%2 == 1 {
					left = append(left, row)
				}
			}
			if diff := cmp.Diff(left, read()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAChangedTableNeedsANewVersion(t *testing.T) {
	t.Parallel()
	type before struct {
		ID string `db:"id,pk"`
	}
	type after struct {
		ID  string `db:"id,pk"`
		New string `db:"new"`
	}
	for name, url := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openReads(t, url(t))
			old := Projection{Name: "x", Version: 1, Tables: []AnyTable{NewTable[before]("x")}}
			changed := Projection{Name: "x", Version: 1, Tables: []AnyTable{NewTable[after]("x")}}
			if err := EnsureTables(t.Context(), db, old); err != nil {
				t.Fatal(err)
			}
			if err := EnsureTables(t.Context(), db, changed); err == nil || !strings.Contains(err.Error(), "new version") {
				t.Fatalf("got %v", err)
			}
			changed.Version = 2
			if err := EnsureTables(t.Context(), db, changed); err != nil {
				t.Fatal(err)
			}
			err := db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) error {
				v, found, err := ActiveVersion(ctx, q, "x")
				if v != 1 || !found {
					t.Errorf("reads point at version %d: a new one must not take over by being made", v)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestARowHasOneOrderingKey(t *testing.T) {
	t.Parallel()
	p, table := counters()
	p.Fold = func(u *Unit, _ Event) error {
		table.Put(u, counter{Key: "one row"})
		return nil
	}
	u := NewUnit()
	if err := u.Fold(p, Event{Fact: domain.Fact{Event: added{}}, Key: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := u.Fold(p, Event{Fact: domain.Fact{Event: added{}}, Key: "b"}); err == nil {
		t.Error("a row went from one ordering key to another")
	}
}

func TestAFoldThatReadsAnUnnamedRowOrPanicsFails(t *testing.T) {
	t.Parallel()
	p, table := counters()
	for name, fold := range map[string]func(u *Unit, e Event) error{
		"unnamed": func(u *Unit, _ Event) error { _, _, err := table.Get(u, "other"); return err },
		"panic":   func(*Unit, Event) error { panic("x") },
	} {
		p.Fold = fold
		if err := NewUnit().Fold(p, Event{Fact: domain.Fact{Event: added{}}, Key: "a"}); err == nil {
			t.Error(name + " passed")
		}
	}
}

func TestKeysAreToldApart(t *testing.T) {
	t.Parallel()
	type named string
	texts := map[string]string{}
	for _, parts := range [][]any{{"a"}, {"a", "b"}, {"ab", ""}, {"a", int64(1)}, {"a", 12}, {named("c")}, {uint64(7), int32(-1)}} {
		text := keyText(parts)
		if other, twice := texts[text]; twice {
			t.Errorf("%v has the key of %s", parts, other)
		}
		texts[text] = fmt.Sprint(parts)
	}
}
