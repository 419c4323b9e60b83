package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/dangdangsalon/salon/eventstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNotMigrated says what to do when the database lacks the tables of this release.
var ErrNotMigrated = errors.New("the event store's schema is not up to date: run `salon migrate up`")

func provider(url string) (*goose.Provider, func() error, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, nil, errors.New("--events is not a valid postgres:// URL")
	}
	db := stdlib.OpenDB(*c)
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, nil, err
	}
	// Without a lock two processes that start together both make the tables, and one of them fails.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60), lock.WithUnlockTimeout(1, 60)) // seconds between tries, tries
	if err != nil {
		return nil, nil, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, steps, goose.WithTableName("events_migrations"), goose.WithSessionLocker(locker))
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return p, db.Close, nil
}

// Migrate brings the schema up to date. Several processes may call it at once.
func Migrate(ctx context.Context, url string) error {
	p, done, err := provider(url)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	if err = errors.Join(err, done()); err != nil {
		return unavailable("migrate the event store", err)
	}
	return nil
}

// Migrations lists the steps of this release and when the database got each.
func Migrations(ctx context.Context, url string) ([]eventstore.Migration, error) {
	p, done, err := provider(url)
	if err != nil {
		return nil, err
	}
	status, err := p.Status(ctx)
	if err = errors.Join(err, done()); err != nil {
		return nil, unavailable("list the event store's migrations", err)
	}
	out := make([]eventstore.Migration, len(status))
	for i, s := range status {
		out[i] = eventstore.Migration{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt}
	}
	return out, nil
}

// lastMigration is the newest step of this release; a test compares it with the folder.
const lastMigration = 6

// checkSchema asks by the read pool: goose would need a connection of its own at every start.
func (s *Store) checkSchema(ctx context.Context) error {
	var at, floor int64
	var encoding string
	var demands bool
	err := s.read.QueryRow(ctx, "SELECT coalesce(max(version_id), 0), current_setting('server_encoding'), to_regclass('events_floor') IS NOT NULL FROM events_migrations WHERE is_applied").Scan(&at, &encoding, &demands)
	if err == nil && demands {
		err = s.read.QueryRow(ctx, "SELECT coalesce(max(least), 0) FROM events_floor").Scan(&floor)
	}
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "42P01": // undefined_table
		return ErrNotMigrated
	case refused != nil && (strings.HasPrefix(refused.Code, "28") || refused.Code == "3D000" || refused.Code == "42501"):
		// invalid authorization, invalid database, insufficient privilege: waiting would not help
		return fmt.Errorf("the event store's server refuses us, check user, password and database of --events: %s (SQLSTATE %s)", refused.Message, refused.Code)
	case err != nil:
		return unavailable("connect", err)
	case at < lastMigration:
		return ErrNotMigrated
	case encoding != "UTF8":
		// Names and hashes are of UTF-8; what another encoding cannot hold would fail a whole group.
		return fmt.Errorf("the event store's database has encoding %s: create it with ENCODING 'UTF8'", encoding)
	}
	return eventstore.CheckFloor("event store", floor, lastMigration)
}
