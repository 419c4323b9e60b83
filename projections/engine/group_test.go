package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// inCompany lets all of them commit at once: none begins before all wait for one that is on its way.
func inCompany(t *testing.T, g *group, all ...func() error) []error {
	t.Helper()
	g.mu.Lock()
	g.busy = flights
	g.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { errs[i] = one() })
	}
	eventually(t, func() (struct{}, bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		return struct{}{}, len(g.waiting) == len(all)
	})
	g.mu.Lock()
	first := g.waiting[0]
	g.waiting, g.busy = g.waiting[1:], 1
	g.mu.Unlock()
	first.turn <- true
	wg.Wait()
	return errs
}

// Two projections of four partitions each commit at once, and one of the eight batches is not well.
func TestWhatFailsInCompanyFailsAlone(t *testing.T) {
	t.Parallel()
	const partitions, sick = 4, 2 // the sick one is of the first projection
	cases := map[string]struct {
		poison bool
		may    bool // be committed all the same: the group may be past the last look at its context
		before func(t *testing.T, tg target) context.Context
		fails  func(err error) bool
	}{
		"all are well": {},
		"one has lost its partition": {
			before: func(t *testing.T, tg target) context.Context {
				if _, err := tg.claim(t.Context(), wire.BookingTopic, sick, 0); err != nil {
					t.Fatal(err)
				}
				return t.Context()
			},
			fails: func(err error) bool { return errors.Is(err, ErrFenced) },
		},
		"one cannot be folded": {poison: true, fails: poison},
		"one is to end": {
			before: func(t *testing.T, _ target) context.Context {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				return ctx
			},
			may:   true,
			fails: func(err error) bool { return errors.Is(err, context.Canceled) },
		},
	}
	for database, url := range databases(t) {
		for name, c := range cases {
			t.Run(database+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := &world{t: t, log: newLog(), db: openReads(t, url(t))}
				w.log.addMany(20, 60)
				for i := 0; c.poison; i++ {
					if key := fmt.Sprintf("sick-%d", i); partitionOf(key, partitions) == sick {
						w.log.add(key, spoiled{}.EventType(), spoiled{})
						break
					}
				}
				g := &group{}
				var applies []func() error
				var tables []*Table[counter]
				for projection := range 2 {
					p, table := counters()
					if err := EnsureTables(t.Context(), w.db, p); err != nil {
						t.Fatal(err)
					}
					tables = append(tables, table)
					tg := newSQLTarget(w.db, p, 10)
					t.Cleanup(tg.close)
					tg.group = g
					d := newDecoder(eventstore.NewCodec(catalog()), p, nil)
					for part := range int32(partitions) {
						o, err := tg.claim(t.Context(), wire.BookingTopic, part, 0)
						if err != nil {
							t.Fatal(err)
						}
						ctx := t.Context()
						if part == sick && projection == 0 && c.before != nil {
							ctx = c.before(t, tg)
						}
						records := w.log.records(part, partitions)
						if c.poison && part == sick && projection == 1 {
							records = records[:len(records)-1] // here it is well
						}
						applies = append(applies, func() error { return applyTo(ctx, o, d, records) })
					}
				}
				fails := c.fails != nil
				for i, err := range inCompany(t, g, applies...) {
					if c.may && i == sick && err == nil {
						fails = false
					}
					if failed := err != nil; failed != (i == sick && fails) || failed && !c.fails(err) {
						t.Errorf("batch %d: %v", i, err)
					}
				}
				want := w.log.want(t)
				same(t, want, w.rows(tables[1]))
				if fails {
					for key := range want {
						if partitionOf(key, partitions) == sick {
							delete(want, key)
						}
					}
				}
				same(t, want, w.rows(tables[0]))
				if fails {
					return
				}
				var written []time.Time
				all, err := Places(t.Context(), w.db.Reader())
				if err != nil {
					t.Fatal(err)
				}
				for _, place := range all {
					written = append(written, place.UpdatedAt)
				}
				if len(written) != 2*partitions || !written[0].Equal(written[partitions-1]) {
					t.Errorf("the partitions of a projection were not written together: %v", written)
				}
			})
		}
	}
}
