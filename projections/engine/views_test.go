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
