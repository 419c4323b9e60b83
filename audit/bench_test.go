package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/foldtest"
)

func onBothStores(b *testing.B, bench func(b *testing.B, w *world)) {
	b.Run("SQLite", func(b *testing.B) { bench(b, newWorld(b, openSQLite(b))) })
	b.Run("PostgreSQL", func(b *testing.B) {
		harness.NeedsServers(b)
		url := harness.Postgres(b)
		if err := postgres.Migrate(b.Context(), url); err != nil {
			b.Fatal(err)
		}
		s, err := postgres.Open(b.Context(), postgres.Config{URL: url})
		if err != nil {
			b.Fatal(err)
		}
		bench(b, newWorld(b, closing(b, s)))
	})
}

// p99 reports the slowest of a hundred.
func p99(b *testing.B, ask func(i int) error) {
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		if err := ask(i); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkOneKey asks for the past of a key with 1,000 events: a book with some 300 visits to come.
func BenchmarkOneKey(b *testing.B) {
	onBothStores(b, func(b *testing.B, w *world) {
		l := &life{world: w, random: rand.New(rand.NewPCG(1, 2)), log: foldtest.NewLog()} //nolint:gosec // the same book each time
		s := l.log.Open("kim", "Asia/Seoul", "seoul/gangnam-gu")
		for len(l.log.Events) < 1000 {
			l.visit(s)
		}
		for some := range slices.Chunk(l.log.Events, 50) {
			raw := make([]eventstore.NewEvent, len(some))
			for i, e := range some {
				data, err := w.past.Codec.Encode(e.Event)
				if err != nil {
					b.Fatal(err)
				}
				raw[i] = eventstore.NewEvent{Type: e.Event.EventType(), Data: data}
			}
			w.appendRaw("groomer-kim", "kim", kim, "test", raw...)
		}
		id := s.Visits[len(s.Visits)/2].ID
		b.Run("state", func(b *testing.B) {
			p99(b, func(int) error { _, err := w.past.State(b.Context(), "groomer-kim", Moment{}); return err })
		})
		b.Run("diff", func(b *testing.B) {
			p99(b, func(int) error {
				_, err := w.past.Diff(b.Context(), "groomer-kim", w.moment("from", "4"), Moment{}, 100)
				return err
			})
		})
		b.Run("row", func(b *testing.B) {
			p99(b, func(int) error { _, err := w.past.Rows(b.Context(), "reservations", id, Moment{}, 100); return err })
		})
		b.Run("row-diff", func(b *testing.B) {
			p99(b, func(int) error {
				_, err := w.past.RowsDiff(b.Context(), "reservations", id, w.moment("from", "position:1"), Moment{}, 100)
				return err
			})
		})
	})
}

// BenchmarkEvents looks events up among 300,000.
func BenchmarkEvents(b *testing.B) {
	const commands, each = 3_000, 100
	onBothStores(b, func(b *testing.B, w *world) {
		for i := range commands {
			key := fmt.Sprint("g", i%50)
			events := make([]eventstore.NewEvent, each)
			for n := range events {
				events[n] = eventstore.NewEvent{Type: []string{"a.happened.v1", "b.happened.v1"}[n%2], Data: []byte(`{"some":"data of the usual size, which is a hundred bytes or two; so this is longer than it need be"}`)}
			}
			id := w.nextCommand()
			m := eventstore.Metadata{CommandID: id, Command: "test", CorrelationID: id.String(), CausationID: id.String()}
			m.Actor.ID, m.Actor.Role = fmt.Sprint("p", i%1000), "customer"
			w.appendAs(m, "groomer-"+key, key, events...)
		}
		began := time.Now()
		if _, err := w.indexer().Through(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.Logf("indexed %d events/s", int(commands*each/time.Since(began).Seconds()))
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same questions each time
		for name, ask := range map[string]func() Query{
			"actor": func() Query { return Query{Actor: fmt.Sprint("customer:p", random.IntN(1000)), Limit: 20} },
			"actor-type": func() Query {
				return Query{Actor: fmt.Sprint("customer:p", random.IntN(1000)), Type: "b.happened.v1", Limit: 20}
			},
			"type-from": func() Query {
				return Query{Type: "a.happened.v1", From: fmt.Sprint("position:", 1+random.IntN(commands*each)), Limit: 20}
			},
			"key":    func() Query { return Query{Key: fmt.Sprint("g", random.IntN(50)), Limit: 20} },
			"absent": func() Query { return Query{Actor: "customer:nobody", Limit: 20} },
		} {
			b.Run(name, func(b *testing.B) {
				p99(b, func(int) error { _, err := w.past.Events(b.Context(), ask()); return err })
			})
		}
		b.Run("moment", func(b *testing.B) {
			p99(b, func(int) error {
				_, err := w.store.LastPlace(b.Context(), 1<<62, began.Add(-time.Duration(random.IntN(3000))*time.Millisecond))
				return err
			})
		})
	})
}
