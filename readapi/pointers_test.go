package readapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
)

// A database that is away moves no pointer: what served last is taken to serve, and it is not asked for each read.
func TestPointersWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fails error
		looks, at := 0, engine.Serving{Version: 1}
		p := &pointers{look: func(context.Context, string) (engine.Serving, error) { looks++; return at, fails }}
		ask := func(ctx context.Context, wantVersion, wantLooks int, wantErr error) {
			t.Helper()
			s, err := p.serving(ctx, "calendar")
			if !errors.Is(err, wantErr) || err == nil && s.Version != wantVersion || looks != wantLooks {
				t.Errorf("version %d, %v, after %d looks; want %d, %v, %d", s.Version, err, looks, wantVersion, wantErr, wantLooks)
			}
		}
		away := errors.New("away")
		fails = away
		ask(t.Context(), 0, 1, away)
		fails = nil
		ask(t.Context(), 1, 2, nil)
		ask(t.Context(), 1, 3, nil)
		at.Version = 2
		gone, leave := context.WithCancel(t.Context())
		leave()
		fails = gone.Err()
		if _, err := p.serving(gone, "calendar"); !errors.Is(err, context.Canceled) {
			t.Errorf("whoever has gone: %v", err)
		}
		seen := looks // none or one
		fails = nil
		ask(t.Context(), 2, seen+1, nil) // that said nothing of the database
		fails = away
		at.Version = 3
		ask(t.Context(), 2, seen+2, nil)
		ask(t.Context(), 2, seen+2, nil)
		fails = nil
		<-time.After(unasked)
		ask(t.Context(), 3, seen+3, nil)
	})
}

// A database that is silent costs a read that can do without it a while, and those that follow nothing.
func TestPointersWhileTheDatabaseIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := false
		p := &pointers{look: func(ctx context.Context, _ string) (engine.Serving, error) {
			if silent {
				<-ctx.Done()
				return engine.Serving{}, ctx.Err()
			}
			return engine.Serving{Version: 1}, nil
		}}
		for i, want := range []time.Duration{0, lookFor, 0} {
			silent = i > 0
			began := time.Now()
			if s, err := p.serving(t.Context(), "calendar"); err != nil || s.Version != 1 || time.Since(began) != want {
				t.Errorf("read %d: version %d, %v, after %v; want %v", i, s.Version, err, time.Since(began), want)
			}
		}
	})
}
