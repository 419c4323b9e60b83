package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// records are the log's events of one partition as Kafka has them.
func (l *log) records(part int32, partitions int) []*kgo.Record {
	var out []*kgo.Record
	var prev uint64
	for _, e := range l.snapshot() {
		if eventstore.Partition(e.Key, partitions) != part {
			continue
		}
		r := &kgo.Record{Topic: wire.BookingTopic, Partition: part, Offset: int64(len(out)), Value: e.Data}
		for _, h := range (wire.Record{Pos: e.Position, Prev: prev, Event: e}).Headers() {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
		}
		prev = e.Position
		out = append(out, r)
	}
	return out
}

// applyTo does what the Router's handler does.
func applyTo(ctx context.Context, o owner, d *decoder, records []*kgo.Record) error {
	for len(records) > 0 {
		b := &batch{topic: wire.BookingTopic, owner: o, records: records}
		if err := d.plan(b, o.progress()); err != nil {
			return err
		}
		n, err := o.apply(ctx, b)
		if err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// targets is what every target promises, on all of them: open makes one, rows reads the table back.
func targets(t *testing.T, run func(t *testing.T, tg target, l *log, d *decoder, rows func() map[string]counter)) {
	for name, url := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, table := counters()
			w := &world{t: t, log: newLog(), db: openReads(t, url(t))}
			if err := EnsureTables(t.Context(), w.db, p); err != nil {
				t.Fatal(err)
			}
			tg := newSQLTarget(w.db, p, 10)
			t.Cleanup(tg.close)
			run(t, tg, w.log, newDecoder(eventstore.NewCodec(catalog()), p, nil), func() map[string]counter { return w.rows(table) })
		})
	}
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, table := counters()
			p.Target = Redis
			// Several tests share a server; a topic of its own keeps the offsets apart as the name keeps the rows.
			l := newLog()
			client := open(t)
			v := &View{Redis: client, Projection: p, Partitions: func(context.Context, string) (int, error) { return 1, nil }}
			run(t, newRedisTarget(client, p, 10), l, newDecoder(eventstore.NewCodec(catalog()), p, nil), func() map[string]counter {
				return viewRows(t, v, table, l)
			})
		})
	}
}

func viewRows(t *testing.T, v *View, table *Table[counter], l *log) map[string]counter {
	t.Helper()
	out := map[string]counter{}
	keys := map[string]bool{}
	for _, e := range l.snapshot() {
		keys[e.Key] = true
	}
	for key := range keys {
		rows, err := v.Read(t.Context(), Serving{Version: 1}, wire.BookingTopic, key)
		if err != nil {
			t.Fatal(err)
		}
		if !rows.Whole {
			t.Fatalf("the view says that it is not whole, at position %d", rows.Position)
		}
		list, err := ViewTable(rows, table)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			out[r.Key] = r
		}
	}
	return out
}

func TestBatchesOfAnySizeGiveTheSameRows(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, tg target, l *log, d *decoder, rows func() map[string]counter) {
		l.addMany(40, 1300)
		records := l.records(0, 1)
		var o owner
		for size := 1; len(records) > 0; size = size*3%401 + 1 {
			if size%5 == 1 { // a new claim now and then: an empty cache
				var err error
				if o, err = tg.claim(t.Context(), wire.BookingTopic, 0, 0); err != nil {
					t.Fatal(err)
				}
			}
			n := min(size, len(records))
			if err := applyTo(t.Context(), o, d, records[:n]); err != nil {
				t.Fatal(err)
			}
			records = records[n:]
		}
		same(t, l.want(t), rows())
	})
}

func TestAStaleClaimIsRefused(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, tg target, l *log, d *decoder, rows func() map[string]counter) {
		l.addMany(5, 30)
		records := l.records(0, 1)
		stale := claimed(t, tg)
		if err := applyTo(t.Context(), stale, d, records[:10]); err != nil {
			t.Fatal(err)
		}
		fresh := claimed(t, tg)
		if got := fresh.progress().NextOffset; got != 10 {
			t.Fatalf("the new claim begins at %d, want 10", got)
		}
		// Before the new owner has written, and after it has.
		if err := applyTo(t.Context(), stale, d, records[10:20]); !errors.Is(err, ErrFenced) {
			t.Fatalf("a stale claim wrote: %v", err)
		}
		if err := applyTo(t.Context(), fresh, d, records[10:]); err != nil {
			t.Fatal(err)
		}
		if err := applyTo(t.Context(), stale, d, records[10:20]); !errors.Is(err, ErrFenced) {
			t.Fatalf("a stale claim wrote: %v", err)
		}
		same(t, l.want(t), rows())
	})
}

// An epoch alone may come back after a fail-over that lost it: then two claims have the same epoch.
func TestAnEpochThatComesBackIsRefused(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, tg target, l *log, d *decoder, rows func() map[string]counter) {
		l.addMany(5, 30)
		records := l.records(0, 1)
		lost, standing := claimed(t, tg), claimed(t, tg)
		switch o := lost.(type) {
		case *sqlOwner:
			o.at.Epoch = standing.progress().Epoch
		case *redisOwner:
			o.at.Epoch = standing.progress().Epoch
		}
		if err := applyTo(t.Context(), lost, d, records[:10]); !errors.Is(err, ErrFenced) {
			t.Fatalf("a claim with the epoch of another wrote: %v", err)
		}
		if err := applyTo(t.Context(), standing, d, records); err != nil {
			t.Fatal(err)
		}
		same(t, l.want(t), rows())
	})
}

func TestARecordFromTwoRelaysIsAppliedOnce(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, tg target, l *log, d *decoder, rows func() map[string]counter) {
		l.addMany(5, 40)
		records := l.records(0, 1)
		// A second relay repeats 10…24 after 30: offsets go on, positions go back.
		var twice []*kgo.Record
		for _, r := range append(append(append([]*kgo.Record{}, records[:30]...), records[10:25]...), records[25:]...) {
			c := *r
			c.Offset = int64(len(twice))
			twice = append(twice, &c)
		}
		o := claimed(t, tg)
		for len(twice) > 0 {
			n := min(7, len(twice))
			if err := applyTo(t.Context(), o, d, twice[:n]); err != nil {
				t.Fatal(err)
			}
			twice = twice[n:]
		}
		same(t, l.want(t), rows())
	})
}

func TestAHoleEndsTheBatch(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, tg target, l *log, d *decoder, rows func() map[string]counter) {
		l.addMany(5, 20)
		records := l.records(0, 1)
		o := claimed(t, tg)
		err := applyTo(t.Context(), o, d, append(append([]*kgo.Record{}, records[:8]...), records[9:]...))
		var hole *HoleError
		if !errors.As(err, &hole) || hole.Last != 8 || hole.Prev != 9 {
			t.Fatalf("got %v, want a hole after position 8", err)
		}
		if got := claimed(t, tg).progress(); got.NextOffset != 8 || got.LastPos != 8 {
			t.Errorf("what came before the hole was not applied, or more was: %+v", got)
		}
	})
}

func TestAFailedBatchLeavesNothing(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, tg target, l *log, d *decoder, rows func() map[string]counter) {
		l.addMany(5, 20)
		l.add("salon-1", spoiled{}.EventType(), spoiled{})
		records := l.records(0, 1)
		o := claimed(t, tg)
		var fold *foldError
		if err := applyTo(t.Context(), o, d, records); !errors.As(err, &fold) {
			t.Fatalf("got %v, want the fold's error", err)
		}
		again := claimed(t, tg)
		if got := again.progress(); got.NextOffset != 0 || got.Seq != 0 {
			t.Errorf("progress moved: %+v", got)
		}
		if err := applyTo(t.Context(), again, d, records[:20]); err != nil {
			t.Fatal(err)
		}
		same(t, l.want(t), rows())
	})
}

func TestAnUnknownTypeStops(t *testing.T) {
	t.Parallel()
	targets(t, func(t *testing.T, tg target, l *log, d *decoder, rows func() map[string]counter) {
		l.add("salon-1", strange, added{})
		var unknown *eventstore.UnknownTypeError
		if err := applyTo(t.Context(), claimed(t, tg), d, l.records(0, 1)); !errors.As(err, &unknown) {
			t.Fatalf("got %v, want an unknown type", err)
		}
	})
}

func claimed(t *testing.T, tg target) owner {
	t.Helper()
	o, err := tg.claim(t.Context(), wire.BookingTopic, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A view that was made new is whole from the offset at which its log ended then.
func TestANewViewIsWholeFromTheEndOfItsLog(t *testing.T) {
	t.Parallel()
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := counters()
			p.Target = Redis
			l, client := newLog(), open(t)
			l.addMany(5, 20)
			tg, d := newRedisTarget(client, p, 10), newDecoder(eventstore.NewCodec(catalog()), p, nil)
			v := &View{Redis: client, Projection: p, Partitions: func(context.Context, string) (int, error) { return 1, nil }}
			whole := func() bool {
				rows, err := v.Read(t.Context(), Serving{Version: 1}, wire.BookingTopic, "salon-1")
				if err != nil {
					t.Fatal(err)
				}
				return rows.Whole
			}
			if whole() {
				t.Error("whole before it was there")
			}
			records := l.records(0, 1)
			step := func(from, to int, logEnd int64) {
				t.Helper()
				o, err := tg.claim(t.Context(), wire.BookingTopic, 0, logEnd)
				if err != nil {
					t.Fatal(err)
				}
				if err := applyTo(t.Context(), o, d, records[from:to]); err != nil {
					t.Fatal(err)
				}
			}
			if step(0, 10, 20); whole() {
				t.Error("whole at half of the log")
			}
			// A later claim, with a longer log, moves nothing: a view that is behind is whole, as of its position.
			if step(10, 20, 500); !whole() {
				t.Error("not whole at the end of the log")
			}
		})
	}
}

func TestAUnitForgetsWhatIsWritten(t *testing.T) {
	t.Parallel()
	p, table := counters()
	u := NewUnit()
	e := Event{Fact: domain.Fact{Event: added{1}}, Key: "a", Position: 1}
	u.missing(p.Keys(e), e.Key, nil)
	if err := u.Fold(p, e); err != nil {
		t.Fatal(err)
	}
	u.key = "b"
	table.Put(u, counter{Key: "b"}) // written, never read
	u.settle(10)
	if n := len(u.changes()); n != 0 {
		t.Errorf("%d tables would be written again", n)
	}
	if n := len(u.rows); n != 1 {
		t.Errorf("%d rows kept, want the one that was read", n)
	}
	u.settle(0)
	if n := len(u.rows); n != 0 {
		t.Errorf("%d rows kept over the limit", n)
	}
}
