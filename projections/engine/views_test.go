package engine

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/dangdangsalon/salon/eventstore/wire"
)

// A claim that came to a stop while its version was dropped goes on when all keys are gone: it leaves none behind. A later one
// makes none.
func TestADroppedVersionGetsNoKeysAgain(t *testing.T) {
	t.Parallel()
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRefilling(t, sqliteURL(t), open)
			r.log.addMany(20, 400)
			r.project()
			_, err := r.claim(r.client).refill(t.Context())
			must(t, err)
			client, g := r.stopped(claimScript, 1)
			came := make(chan *redisOwner)
			go func() {
				o, err := r.target(client).claim(context.WithoutCancel(t.Context()), wire.BookingTopic, 0, 0)
				if err != nil {
					t.Error(err)
				}
				came <- o.(*redisOwner)
			}()
			<-g.arrived
			behind := r.view.Origin()
			must(t, r.db.Write(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
				return errors.Join(SetState(ctx, tx, behind, Live, Dropping), Forget(ctx, tx, behind))
			}))
			if _, err := r.target(r.client).claim(t.Context(), wire.BookingTopic, 0, 0); !errors.Is(err, ErrNotLive) {
				t.Errorf("a dropped version was claimed: %v", err)
			}
			must(t, Views{DB: r.db, Redis: r.client}.Remove(t.Context(), r.view, nil))
			close(g.open)
			o := <-came
			if o.missing() == "" {
				t.Error("a partition of which nothing is left need not be filled")
			}
			if _, err := o.refill(t.Context()); !errors.Is(err, ErrNotLive) {
				t.Errorf("filled from a version that was dropped: %v", err)
			}
			if left, err := r.client.Keys(t.Context(), "*:"+r.view.ID()+":*").Result(); err != nil || len(left) > 0 {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}

// A view answers those who ask for the life that it is of, and counts as filled in that one.
func TestAViewAnswersForOneLife(t *testing.T) {
	t.Parallel()
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRefilling(t, sqliteURL(t), open)
			r.log.addMany(20, 400)
			r.project()
			views := Views{DB: r.db, Redis: r.client}
			is := func(when string, wantFilled int, serving Serving, wantWhole bool) {
				t.Helper()
				rows, err := r.reader().Read(t.Context(), serving, wire.BookingTopic, "salon-1")
				must(t, err)
				filled, of, err := views.Filled(t.Context(), r.view)
				must(t, err)
				if filled != wantFilled || of != 1 || rows.Whole != wantWhole {
					t.Errorf("%s: filled %d of %d, whole %v; want %d, %v", when, filled, of, rows.Whole, wantFilled, wantWhole)
				}
			}
			first := Serving{Version: 1}
			is("before it was filled", 0, first, false)
			n, err := views.Fill(t.Context(), r.view)
			if err != nil || n != len(r.log.want(t)) {
				t.Fatalf("%d rows, %v", n, err)
			}
			is("filled", 1, first, true)
			is("asked for another version", 1, Serving{Version: 2}, false)
			is("asked for another life", 1, Serving{1, "second"}, false)
			_, err = r.db.Writer().ExecContext(t.Context(), "UPDATE projection_versions SET generation = 'second'")
			must(t, err)
			is("in another life", 0, Serving{1, "second"}, false)
			o := r.claim(r.client)
			if o.missing() != whyEarlier {
				t.Errorf("to be filled since %q", o.missing())
			}
			is("claimed in another life", 0, first, false)
			_, err = o.refill(t.Context())
			must(t, err)
			is("filled in another life", 1, Serving{1, "second"}, true)
			is("filled in another life, and asked for the first", 1, first, false)
		})
	}
}

// Partitions that are filled at the same time are read together, and one alone by its keys: the rows are the same. One that is
// taken away, or given up, in the middle holds up no other.
func TestPartitionsAreFilledTogetherOrAlone(t *testing.T) {
	t.Parallel()
	const parts = 8
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRefilling(t, sqliteURL(t), open)
			p, behind := r.view, r.view
			behind.Name, behind.Target, behind.Behind = p.Behind, SQL, ""
			_, err := r.db.Writer().ExecContext(t.Context(), "UPDATE projection_topics SET partitions = ?", parts)
			must(t, err)
			r.log.addMany(200, 2000)
			var events []Event
			for _, e := range r.log.snapshot() {
				if e.Type != (added{}).EventType() {
					continue
				}
				event, err := r.d.event(e)
				must(t, err)
				events = append(events, event)
			}
			for part := range int32(parts) {
				must(t, Apply(t.Context(), r.db, behind, wire.BookingTopic, part, parts, "test-1", events))
			}
			view := &View{Redis: r.client, Projection: p, Partitions: func(context.Context, string) (int, error) { return parts, nil }}
			views := Views{DB: r.db, Redis: r.client}
			n, err := views.Fill(t.Context(), p)
			if want := len(r.log.want(t)); err != nil || n != want {
				t.Fatalf("%d rows, want %d, %v", n, want, err)
			}
			same(t, r.log.want(t), viewRows(t, view, r.table, r.log))

			// Alone, with nothing of it left.
			keys := redisKeys{p, wire.BookingTopic, 5}
			for _, key := range r.client.Keys(t.Context(), keys.tag()+"*").Val() {
				must(t, r.client.Del(t.Context(), key).Err())
			}
			o, err := r.target(r.client).claim(t.Context(), wire.BookingTopic, 5, 0)
			must(t, err)
			_, err = o.(*redisOwner).refill(t.Context())
			must(t, err)
			same(t, r.log.want(t), viewRows(t, view, r.table, r.log))

			client, g := r.stopped(fillScript, 1)
			tg := r.target(client)
			results := make([]chan error, parts)
			given, giveUp := context.WithCancel(t.Context())
			for part := range results {
				o, err := tg.claim(t.Context(), wire.BookingTopic, int32(part), 0)
				must(t, err)
				ctx := t.Context()
				if part == 3 {
					ctx = given
				}
				results[part] = make(chan error, 1)
				go func() {
					_, err := o.(*redisOwner).refill(ctx)
					results[part] <- err
				}()
			}
			<-g.arrived
			_, err = r.target(r.client).claim(t.Context(), wire.BookingTopic, 6, 0)
			must(t, err)
			giveUp()
			if err := <-results[3]; !errors.Is(err, context.Canceled) {
				t.Errorf("given up: %v", err)
			}
			close(g.open)
			for part, result := range results {
				if part == 3 {
					continue
				}
				if err := <-result; part == 6 && !errors.Is(err, ErrFenced) || part != 6 && err != nil {
					t.Errorf("partition %d: %v", part, err)
				}
			}
			tg.rounds.Wait()
			if filled, _, err := views.Filled(t.Context(), p); filled != parts-2 || err != nil {
				t.Errorf("%d partitions are filled, want %d: %v", filled, parts-2, err)
			}
			_, err = views.Fill(t.Context(), p)
			must(t, err)
			same(t, r.log.want(t), viewRows(t, view, r.table, r.log))
		})
	}
}
