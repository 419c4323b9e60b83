package engine

import (
	"context"
	"crypto/rand"
	"database/sql"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/reads"
)

// hostile are texts that mean something to LOAD DATA, to SQL or to the eye.
var hostile = []string{
	"", "\\N", "\\", "\\\\", "\\0", "N", "NULL", "\t", "\n", "\r\n", "\r", "a\tb\nc\\d", "\x00", "a\x00b", "\\\x00\\\t\\\n", "\x1a", "\b", "'", "''", `"`, "`", "%_",
	"댕댕살롱", "😀🐩", "e\u0301", "\u200b", "\ufeff", " leading", "trailing ", strings.Repeat("\\", 100), strings.Repeat("\t\n\x00", 30), "\x7f", "-- ", "/*", "?", ",", ";",
}

// loaded is a bulk over one table of all kinds of columns, without its indexes.
func loaded(t *testing.T, url string) (*reads.DB, *Bulk, Projection, *Table[everything]) {
	t.Helper()
	table := NewTable[everything]("loaded_"+strings.ToLower(rand.Text()[:8]), Index{Name: "by_rank", Columns: []string{"rank", "offset"}}, Index{Name: "by_at", Columns: []string{"at"}})
	p := Projection{Name: "everything", Version: 3, Tables: []AnyTable{table}}
	db := openReads(t, url)
	if err := MakeBareTables(t.Context(), db.Writer(), db.Dialect(), p); err != nil {
		t.Fatal(err)
	}
	b, err := NewBulk(t.Context(), db, p, eventstore.NewCodec(nil), 1<<20, noFence)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return db, b, p, table
}

func noFence(context.Context, *sql.Tx) error { return nil }

func (f *Filling) commit(ctx context.Context) error {
	_, _, err := f.Commit(ctx, noFence)
	return err
}

func TestLoadedRowsComeBackByteByByte(t *testing.T) {
	t.Parallel()
	for name, url := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, b, _, table := loaded(t, url(t))
			f := b.New(0)
			f.unit.key = "열쇠\t\\N\n"
			var want []everything
			zero, five := 0, 5
			put := func(f *Filling, from, n int) {
				for i := from; i < from+n; i++ {
					text := hostile[i%len(hostile)]
					row := everything{
						Room: text, Seq: uint64(i), Rank: math.MinInt + i, Text: strings.Repeat(text, i%7), Open: i%2 == 0,
						At: time.UnixMicro(-1 - int64(i)*1_234_567_891).UTC(), Sealed: domain.Sealed{Subject: text, KeyID: "1", Cipher: []byte{0, 255, '\\', '\n'}},
						Maybe: []*int{nil, &zero, &five}[i%3], Numbers: []int{i, -i}, Names: map[string]string{text: text},
					}
					if i%3 == 1 {
						row.Rank, row.Seq = math.MaxInt-i, math.MaxInt64-uint64(i) //nolint:gosec // small
					}
					table.Put(f.unit, row)
					want = append(want, row)
				}
			}
			put(f, 0, 3000)
			f.last = 1
			if err := f.commit(t.Context()); err != nil { // the rest may meet rows that are there
				t.Fatal(err)
			}
			f.unit.key = "열쇠\t\\N\n"
			put(f, 3000, 500)
			again := want[7]
			again.Text = "again\\"
			want[7] = again
			table.Put(f.unit, again)
			table.Delete(f.unit, want[8].Room, want[8].Seq)
			want = append(want[:8], want[9:]...)
			if err := f.commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if b.Inserts() {
				t.Error("the rows were inserted")
			}
			var got []everything
			err := db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) (err error) {
				got, err = Query(ctx, q, table, 3, "WHERE ordering_key = ?", "열쇠\t\\N\n")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			at := map[string]everything{}
			for _, row := range got {
				at[table.d.keyOf(&row)] = row
			}
			if len(got) != len(want) {
				t.Errorf("%d rows, want %d", len(got), len(want))
			}
			for _, row := range want {
				if diff := cmp.Diff(row, at[table.d.keyOf(&row)]); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

// LOAD DATA LOCAL leaves such a row out or cuts it, and says that all is well.
func TestWhatADatabaseDoesNotTakeIsAnErrorOfTheRow(t *testing.T) {
	t.Parallel()
	good := everything{Room: "good", Seq: 1}
	for name, url := range databases(t) {
		for what, bad := range map[string]everything{
			"too long":        {Room: strings.Repeat("x", 192)},
			"no text":         {Room: "bad", Text: "a\xffb"},
			"half a letter":   {Room: "bad", Text: "\xed\x95"},
			"there already":   {Room: "there"},
			"key of no text":  {Room: "\xc3\x28"},
			"too long by far": {Room: "bad", Text: strings.Repeat("x", 17<<20)},
		} {
			if name == "sqlite" && what != "there already" {
				continue // it takes what it is given
			}
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				db, b, _, table := loaded(t, url(t))
				first := b.New(0)
				table.Put(first.unit, everything{Room: "there"})
				if err := first.commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				f := b.New(0)
				table.Put(f.unit, good)
				table.Put(f.unit, bad)
				err := f.commit(t.Context())
				if err == nil || !Lasting(err) {
					t.Errorf("%v", err)
				}
				var n int
				if err := db.Reader().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table.d.Name(3)).Scan(&n); err != nil || n != 1 {
					t.Errorf("%d rows, %v", n, err)
				}
			})
		}
	}
}

func TestIndexesAreMadeWhereverThatEnded(t *testing.T) {
	t.Parallel()
	for name, url := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, _, p, table := loaded(t, url(t))
			index := "by_rank"
			drop := "DROP INDEX by_rank ON " + table.d.Name(3)
			if name == "sqlite" {
				drop = "DROP INDEX " + table.d.Name(3) + "_by_rank"
			}
			for range 2 {
				for range 2 { // the second time they are there
					if err := MakeIndexes(t.Context(), db.Writer(), db.Dialect(), p); err != nil {
						t.Fatal(err)
					}
				}
				// All are there, since none can be made twice.
				for _, x := range table.d.indexes() {
					statement := "ALTER TABLE " + table.d.Name(3) + " ADD " + x.mysql()
					if name == "sqlite" {
						statement = strings.Replace(x.sqlite(table.d.Name(3)), "IF NOT EXISTS ", "", 1)
					}
					if _, err := db.Writer().ExecContext(t.Context(), statement); err == nil {
						t.Errorf("index %s was not there", x.Name)
					}
				}
				if _, err := db.Writer().ExecContext(t.Context(), drop); err != nil {
					t.Fatalf("%s: %v", index, err)
				}
			}
		})
	}
}

func TestTypesThatAProjectionDoesNotUseStayInTheStore(t *testing.T) {
	t.Parallel()
	p, _ := counters()
	b := &Bulk{d: NewDecoder(eventstore.NewCodec(catalog()).Upcasting(
		eventstore.Upcast{From: "test.ignored.v0", To: ignored{}.EventType()}, eventstore.Upcast{From: "test.added.v0", To: added{}.EventType()}), p)}
	skips := b.Skips()
	for _, name := range []string{"test.ignored.v1", "test.ignored.v0"} {
		if !slices.Contains(skips, name) {
			t.Errorf("%s is read", name)
		}
	}
	for _, name := range []string{"test.added.v1", "test.added.v0", "test.unknown.v1"} {
		if slices.Contains(skips, name) {
			t.Errorf("%s is left out", name)
		}
	}
}
