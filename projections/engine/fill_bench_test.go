package engine

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
)

// page is a row as a chat message is one: many of a key.
type page struct {
	Key  string    `db:"key,pk"`
	N    int64     `db:"n,pk"`
	From string    `db:"sender"`
	Text string    `db:"body,text"`
	At   time.Time `db:"sent_at"`
}

// BenchmarkFill fills a view of eight partitions from MySQL into Redis: rows a second, of keys with one row and with many, all of
// which or the latest.
func BenchmarkFill(b *testing.B) {
	const rows, parts = 200_000, 8
	options, err := redis.ParseURL(harness.Redis(b))
	if err != nil {
		b.Fatal(err)
	}
	client := redis.NewClient(options)
	b.Cleanup(func() { client.Close() })
	for _, c := range []struct {
		name   string
		keys   int
		latest int
	}{{"a row a key", rows, 0}, {"ten a key", rows / 10, 0}, {"a thousand a key", rows / 1000, 0}, {"the latest fifty of a thousand", rows / 1000, 50}} {
		b.Run(c.name, func(b *testing.B) {
			db, err := reads.Open(b.Context(), harness.MySQL(b))
			must(b, err)
			b.Cleanup(func() { db.Close() })
			must(b, db.Migrate(b.Context()))
			table := NewTable[page]("pages")
			p := Projection{Name: "pages_" + strings.ToLower(rand.Text()[:8]), Version: 1, Topics: []string{wire.BookingTopic}, Tables: []AnyTable{table}}
			must(b, EnsureTables(b.Context(), db, p))
			must(b, noteTopic(b.Context(), db, wire.BookingTopic, parts, "id", true))
			for part := range parts {
				_, err := db.Writer().ExecContext(b.Context(), "INSERT INTO projection_offsets (projection, topic, part, epoch, claim, commit_seq, next_offset, last_pos, last_recorded_at, incarnation, updated_at) "+
					"VALUES (?, ?, ?, 1, '', 0, 0, 1, 0, 'test-1', 0)", p.ID(), wire.BookingTopic, part)
				must(b, err)
			}
			target := newSQLTarget(db, p, 0)
			b.Cleanup(target.close)
			var all []change
			for i := range rows {
				r := &page{fmt.Sprintf("a-room-of-some-salon-%d", i%c.keys), int64(i), "customer-17", "오늘 두 시에 갈게요. 강아지가 물을 무서워해요.", time.Now()}
				all = append(all, change{table.Def().keyOf(r), &slot{row: r, ordering: r.Key}})
			}
			for some := range slices.Chunk(all, 10_000) {
				tx, err := target.begin(b.Context())
				must(b, err)
				must(b, target.tables[table.Def()].write(b.Context(), tx, some))
				must(b, tx.tx.Commit())
				tx.end()
			}
			view := p.InRedis(p.Name + "_view")
			if c.latest > 0 {
				view.Latest = map[*Def]int{table.Def(): c.latest}
			}
			views := Views{DB: db, Redis: client}
			for b.Loop() {
				began := time.Now()
				n, err := views.Fill(b.Context(), view)
				must(b, err)
				b.ReportMetric(float64(n)/time.Since(began).Seconds(), "rows/s")
				must(b, views.Remove(b.Context(), view, nil))
			}
		})
	}
}
