package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// migrateCheckCmd is asked of the release that is to run, before anything is touched: it alone knows what it can read.
type migrateCheckCmd struct {
	config.Servers `embed:""`

	Since time.Time `help:"When this release ran last: events that were recorded since then are read, and have to be of types that it knows." format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME"`
}

func (c *migrateCheckCmd) Run(ctx context.Context, t *terminal) error {
	if err := migrateFlags(&c.Servers); err != nil {
		return err
	}
	said, eventsErr := c.checkEvents(ctx)
	also, readsErr := c.checkReads(ctx)
	if err := errors.Join(eventsErr, readsErr); err != nil {
		return fmt.Errorf("this release (%s) cannot run here: %s", versionLine(), strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	fmt.Fprintf(t.out, "This release (%s) can run here. Event store: %s. Reads database: %s.\n", versionLine(), said, also)
	return nil
}

const pending = "steps of its schema are missing (salon migrate up)"

func (c *migrateCheckCmd) checkEvents(ctx context.Context) (said string, err error) {
	s, err := openEvents(ctx, c.Events, nil)
	if errors.Is(err, postgres.ErrNotMigrated) || errors.Is(err, sqlite.ErrNotMigrated) {
		return pending, nil
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if c.Since.IsZero() {
		return "well", nil
	}
	head, err := s.Head(ctx)
	if err != nil {
		return "", err
	}
	from, err := s.LastPlace(ctx, head.Position, c.Since)
	if err != nil {
		return "", err
	}
	unknown, events := map[string]int{}, 0
	for r, err := range s.ReadAll(ctx, from.Position, eventstore.Filter{}) {
		if err != nil {
			return "", err
		}
		if events++; !codec().Knows(r.Type) {
			unknown[r.Type]++
		}
	}
	if len(unknown) > 0 {
		return "", fmt.Errorf("the event store has events of types that it does not know, and would stop at: %s", strings.Join(slices.Sorted(maps.Keys(unknown)), ", "))
	}
	return fmt.Sprintf("well, %d events since %s", events, c.Since.Format(time.RFC3339)), nil
}

func (c *migrateCheckCmd) checkReads(ctx context.Context) (said string, err error) {
	db, err := reads.Open(ctx, c.Reads)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Check(ctx); errors.Is(err, reads.ErrNotMigrated) {
		// A release before has all its steps, so this is a later one, and knows whatever version serves.
		return pending, nil
	} else if err != nil {
		return "", err
	}
	return "well", servedVersions(ctx, db, allProjections())
}

// servedVersions fails where reads are pointed at a version that the release does not know: nobody would keep its rows up to
// date, and no read could be answered from it.
func servedVersions(ctx context.Context, db *reads.DB, projections []engine.Projection) error {
	var errs []error
	for _, p := range projections {
		serving, found, err := engine.ServingOf(ctx, db.Reader(), p.Origin().Name)
		if err != nil {
			return err
		}
		if _, known := p.At(serving.Version); found && !known {
			errs = append(errs, fmt.Errorf("reads of %s are served by version %d, which it does not know: switch them first to one of its own, salon projections rollback %s@%d",
				p.Name, serving.Version, p.Name, p.Version))
		}
	}
	return errors.Join(errs...)
}
