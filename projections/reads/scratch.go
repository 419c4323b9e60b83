package reads

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"
)

// Scratch makes a migrated database of its own on the MySQL server of a URL, for `salon bench`, and answers how to drop
// it. The user has to be one that may create databases.
func Scratch(ctx context.Context, rawURL string) (scratch string, drop func(context.Context) error, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", nil, errors.New("reads database: the URL cannot be parsed")
	}
	db, err := Open(ctx, rawURL)
	if err != nil {
		return "", nil, err
	}
	name := "salon_bench_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := db.write.ExecContext(ctx, "CREATE DATABASE "+name+" DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		return "", nil, errors.Join(fmt.Errorf("make a database for the benchmark: %w", err), db.Close())
	}
	drop = func(ctx context.Context) error {
		_, err := db.write.ExecContext(ctx, "DROP DATABASE "+name)
		return errors.Join(err, db.Close())
	}
	u.Path = "/" + name
	own, err := Open(ctx, u.String())
	if err != nil {
		return "", nil, errors.Join(err, drop(ctx))
	}
	if err := errors.Join(own.Migrate(ctx), own.Close()); err != nil {
		return "", nil, errors.Join(err, drop(ctx))
	}
	return u.String(), drop, nil
}
