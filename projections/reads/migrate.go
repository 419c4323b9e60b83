package reads

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/dangdangsalon/salon/eventstore"
)

//go:embed migrations
var migrations embed.FS

// ErrNotMigrated says what to do when the database lacks the tables of this release.
var ErrNotMigrated = errors.New("the reads database's schema is not up to date: run `salon migrate up`")

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero while pending
}

func (db *DB) provider() (*goose.Provider, error) {
	dialect := goose.DialectMySQL
	if db.dialect == SQLite {
		dialect = goose.DialectSQLite3
	}
	steps, err := fs.Sub(migrations, "migrations/"+db.dialect.String())
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(dialect, db.write, steps, goose.WithTableName("reads_migrations"))
	if err != nil {
		return nil, fmt.Errorf("migrations of the reads database: %w", err)
	}
	return p, nil
}

// Migrate brings the system tables up to date. The tables of a projection belong to its version and are made by
// engine.EnsureTables.
func (db *DB) Migrate(ctx context.Context) error {
	p, err := db.provider()
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the reads database: %w", err)
	}
	return nil
}

// MigrateDown undoes the last step.
func (db *DB) MigrateDown(ctx context.Context) error {
	p, err := db.provider()
	if err != nil {
		return err
	}
	if _, err := p.Down(ctx); err != nil {
		return fmt.Errorf("undo the last migration of the reads database: %w", err)
	}
	return nil
}

// Migrations lists the steps, oldest first.
func (db *DB) Migrations(ctx context.Context) ([]Migration, error) {
	p, err := db.provider()
	if err != nil {
		return nil, err
	}
	status, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrations of the reads database: %w", err)
	}
	out := make([]Migration, len(status))
	for i, s := range status {
		out[i] = Migration{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt}
	}
	return out, nil
}

// Check returns ErrNotMigrated while a step is pending, and an eventstore.NewerSchemaError when a later release has taken away what
// this one needs. It changes nothing.
func (db *DB) Check(ctx context.Context) error {
	p, err := db.provider()
	if err != nil {
		return err
	}
	pending, err := p.HasPending(ctx)
	if err != nil {
		return fmt.Errorf("check the reads database: %w", err)
	}
	if pending {
		return ErrNotMigrated
	}
	schema := "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'reads_floor'"
	if db.dialect == SQLite {
		schema = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'reads_floor'"
	}
	var demands, floor int64
	err = db.read.QueryRowContext(ctx, schema).Scan(&demands)
	if err == nil && demands > 0 {
		err = db.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(least), 0) FROM reads_floor").Scan(&floor)
	}
	if err != nil {
		return fmt.Errorf("check the reads database: %w", err)
	}
	steps := p.ListSources()
	return eventstore.CheckFloor("reads database", floor, steps[len(steps)-1].Version)
}
