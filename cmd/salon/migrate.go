package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Apply what is missing, to the event store and the reads database."`
	Status migrateStatusCmd `cmd:"" help:"Show which steps are applied."`
	Check  migrateCheckCmd  `cmd:"" help:"Say whether this release can run on the databases as they are; exit 1 and why when not. It changes nothing."`
	Down   migrateDownCmd   `cmd:"" help:"Undo the last step of the reads database. The event store is never migrated down: it is the truth."`
}

type migrateUpCmd struct {
	config.Servers `embed:""`
}

func (c *migrateUpCmd) Run(ctx context.Context, t *terminal) error {
	if err := migrateFlags(&c.Servers); err != nil {
		return err
	}
	if err := migrate(ctx, c.Servers); err != nil {
		return err
	}
	if withoutSchema(c.Events) {
		fmt.Fprintln(t.out, "The reads database is up to date. EventStoreDB has no schema: there is nothing to do for it.")
		return nil
	}
	fmt.Fprintln(t.out, "The event store and the reads database are up to date.")
	return nil
}

func migrateFlags(s *config.Servers) error {
	return usage(errors.Join(s.ReadFiles(), s.Need(true, false, true, false)))
}

// migrate brings both databases up to date.
func migrate(ctx context.Context, s config.Servers) error {
	if err := migrateEvents(ctx, s.Events); err != nil {
		return err
	}
	db, err := reads.Open(ctx, s.Reads)
	if err != nil {
		return err
	}
	err = db.Migrate(ctx)
	if err == nil {
		err = engine.Establish(ctx, db, allProjections()...)
	}
	return errors.Join(err, db.Close())
}

func migrateEvents(ctx context.Context, url string) error {
	if file, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return sqlite.Migrate(ctx, file)
	}
	if withoutSchema(url) {
		return nil
	}
	return postgres.Migrate(ctx, url)
}

// withoutSchema reports whether the event store is EventStoreDB, which makes streams as they are written.
func withoutSchema(events string) bool {
	scheme, _, _ := strings.Cut(events, ":")
	return scheme == "esdb" || scheme == "esdb+discover"
}

type migrateStatusCmd struct {
	config.Servers `embed:""`

	Output string `help:"table or json." default:"table" enum:"table,json" short:"o"`
}

// step is one step of a schema.
type step struct {
	Database  string     `json:"database"`
	Version   int64      `json:"version"`
	AppliedAt *time.Time `json:"applied_at"` // null while pending
}

func (c *migrateStatusCmd) Run(ctx context.Context, t *terminal) error {
	if err := migrateFlags(&c.Servers); err != nil {
		return err
	}
	steps, err := steps(ctx, c.Servers)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, steps)
	}
	return printSteps(t.out, steps)
}

func printSteps(out io.Writer, steps []step) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DATABASE\tVERSION\tAPPLIED")
	for _, s := range steps {
		applied := "pending"
		if s.AppliedAt != nil {
			applied = s.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", s.Database, s.Version, applied)
	}
	return w.Flush()
}

type migrateDownCmd struct {
	Reads     string `help:"Reads database: mysql://… or sqlite:FILE." placeholder:"URL"`
	ReadsFile string `help:"File that holds --reads." type:"path" placeholder:"FILE"`
}

func (c *migrateDownCmd) Run(ctx context.Context, t *terminal) error {
	s := config.Servers{Reads: c.Reads, ReadsFile: c.ReadsFile, Topics: config.Topics{Partitions: 1}}
	if err := errors.Join(s.ReadFiles(), s.Need(false, false, true, false)); err != nil {
		return usage(err)
	}
	db, err := reads.Open(ctx, s.Reads)
	if err != nil {
		return err
	}
	if err := errors.Join(db.MigrateDown(ctx), db.Close()); err != nil {
		return err
	}
	fmt.Fprintln(t.out, "The last step of the reads database is undone.")
	return nil
}

// steps lists both schemas' steps.
func steps(ctx context.Context, s config.Servers) ([]step, error) {
	var out []step
	add := func(database string, version int64, at time.Time) {
		st := step{Database: database, Version: version}
		if !at.IsZero() {
			st.AppliedAt = &at
		}
		out = append(out, st)
	}
	of := postgres.Migrations
	url, embedded := strings.CutPrefix(s.Events, "sqlite:")
	switch {
	case embedded:
		of = sqlite.Migrations
	case withoutSchema(s.Events):
		of = func(context.Context, string) ([]eventstore.Migration, error) { return nil, nil }
	}
	events, err := of(ctx, url)
	if err != nil {
		return nil, err
	}
	for _, m := range events {
		add("events", m.Version, m.AppliedAt)
	}
	db, err := reads.Open(ctx, s.Reads)
	if err != nil {
		return nil, err
	}
	rows, err := db.Migrations(ctx)
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	for _, m := range rows {
		add("reads", m.Version, m.AppliedAt)
	}
	return out, nil
}
