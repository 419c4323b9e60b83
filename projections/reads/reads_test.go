package reads_test

import (
	"context"
	crand "crypto/rand"
	"database/sql"
	"errors"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dangdangsalon/salon/projections/reads"
)

// onDatabases runs a test on SQLite and on the servers that SALON_TEST_* name.
func onDatabases(t *testing.T, run func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		run(t, "sqlite:"+filepath.Join(t.TempDir(), "with space?.db"))
	})
	for name, variable := range map[string]string{"mysql": "SALON_TEST_MYSQL", "mariadb": "SALON_TEST_MARIADB"} {
		if server := os.Getenv(variable); server != "" && !testing.Short() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, database(t, server))
			})
		}
	}
}

// database makes one for a test, with defaults unlike ours.
func database(t *testing.T, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr = u.User.Username(), "tcp", u.Host
	c.Passwd, _ = u.User.Password()
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	admin := sql.OpenDB(connector)
	name := "reads_" + strings.ToLower(crand.Text()[:12])
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name+" CHARACTER SET latin1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.Background(), "DROP DATABASE "+name); err != nil {
			t.Error(err)
		}
		admin.Close()
	})
	u.Path = "/" + name
	return u.String()
}

func open(t *testing.T, url string) *reads.DB {
	t.Helper()
	db, err := reads.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, db *reads.DB, query string, args ...any) int64 {
	t.Helper()
	var n int64
	err := db.Write(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, query, args...)
		if err == nil {
			n, err = r.RowsAffected()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMigrationsAreCheckedAndUndone(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		db := open(t, url)
		if err := db.Check(t.Context()); !errors.Is(err, reads.ErrNotMigrated) {
			t.Fatalf("an empty database: %v", err)
		}
		for range 2 {
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := db.Migrations(t.Context())
		if err != nil || len(list) == 0 || list[0].AppliedAt.IsZero() {
			t.Fatalf("%+v, %v", list, err)
		}
		if err := db.MigrateDown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := db.Check(t.Context()); !errors.Is(err, reads.ErrNotMigrated) {
			t.Fatalf("after going down: %v", err)
		}
	})
}

// read is one value of the table n.
func read(ctx context.Context, t *testing.T, q reads.Queryer, id int) (v int) {
	t.Helper()
	if err := q.QueryRowContext(ctx, "SELECT v FROM n WHERE id = ?", id).Scan(&v); err != nil {
		t.Error(err)
	}
	return v
}

func TestASnapshotSeesOneState(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		db := open(t, url)
		exec(t, db, "CREATE TABLE n (id INT PRIMARY KEY, v INT)")
		exec(t, db, "INSERT INTO n (id, v) VALUES (1, 1), (2, 1)")
		err := db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) error {
			first := read(ctx, t, q, 1)
			exec(t, db, "UPDATE n SET v = 2")
			if second := read(ctx, t, q, 2); first != 1 || second != 1 {
				t.Errorf("read %d, then %d of the state after", first, second)
			}
			if rows, err := q.QueryContext(ctx, "DELETE FROM n"); err == nil {
				defer rows.Close()
				t.Errorf("a snapshot let itself be written through: %v", rows.Err())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// The connection went back without its snapshot.
		for range 10 {
			_ = db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) error {
				if v := read(ctx, t, q, 1); v != 2 {
					t.Errorf("a later snapshot read %d", v)
				}
				return nil
			})
		}
	})
}

func TestASnapshotThatPanicsIsOver(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		db := open(t, url)
		exec(t, db, "CREATE TABLE n (id INT PRIMARY KEY, v INT)")
		exec(t, db, "INSERT INTO n (id, v) VALUES (1, 1)")
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not come through")
				}
			}()
			_ = db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) error {
				read(ctx, t, q, 1)
				panic("a screen's fault")
			})
		}()
		exec(t, db, "UPDATE n SET v = 2")
		if v := read(t.Context(), t, db.Reader(), 1); v != 2 {
			t.Errorf("the next reader is told %d", v)
		}
	})
}

// Whoever reads leaves at any moment, that of the beginning included, and the next caller on the connection has an answer.
func TestWhoLeavesASnapshotLeavesNoneOpen(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		db := open(t, url)
		exec(t, db, "CREATE TABLE n (id INT PRIMARY KEY, v INT)")
		exec(t, db, "INSERT INTO n (id, v) VALUES (1, 0)")
		read := func(ctx context.Context) (v int, err error) {
			return v, db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
				return q.QueryRowContext(ctx, "SELECT v FROM n WHERE id = 1").Scan(&v)
			})
		}
		took := time.Hour // a read, once there is a connection
		for range 10 {
			begun := time.Now()
			if _, err := read(t.Context()); err != nil {
				t.Fatal(err)
			}
			took = min(took, time.Since(begun))
		}
		left := 0
		for turn := 1; turn <= 2000; turn++ {
			ctx, leave := context.WithCancel(t.Context())
			go func(after time.Duration) {
				for begun := time.Now(); time.Since(begun) < after; { // a timer is too coarse to hit the beginning
				}
				leave()
			}(rand.N(took / 2))
			if _, err := read(ctx); err != nil {
				left++
			}
			leave()
			exec(t, db, "UPDATE n SET v = v + 1")
			if v, err := read(t.Context()); err != nil || v != turn {
				t.Fatalf("after %d callers of whom %d had left: %d, %v", turn, left, v, err)
			}
		}
		if left == 0 {
			t.Error("nobody left")
		}
	})
}

// Otherwise a fence that sets what was there already would look like a lost claim.
func TestAnUpdateCountsTheRowsItFinds(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		db := open(t, url)
		exec(t, db, "CREATE TABLE n (id INT PRIMARY KEY, v INT)")
		exec(t, db, "INSERT INTO n (id, v) VALUES (1, 1)")
		if n := exec(t, db, "UPDATE n SET v = 1 WHERE id = 1"); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestAFailedWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		db := open(t, url)
		exec(t, db, "CREATE TABLE n (id INT PRIMARY KEY)")
		failed := errors.New("no")
		err := db.Write(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "INSERT INTO n (id) VALUES (1)"); err != nil {
				return err
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Fatal(err)
		}
		if n := exec(t, db, "DELETE FROM n"); n != 0 {
			t.Errorf("%d rows stayed", n)
		}
	})
}

func TestAWrongURLIsRefusedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "postgres://u:secret@h/db", "mysql://u:secret@h", "mysql://u:sec%zzret@h/db", "sqlite:/no/such/folder/x.db"} {
		db, err := reads.Open(t.Context(), url)
		if err == nil {
			db.Close()
			t.Errorf("%q was opened", url)
			continue
		}
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec%zz") {
			t.Errorf("the password is in %q", err)
		}
	}
}

// What a statement's values cause is the event's fault; what the state of the server causes is not.
func TestRefusesData(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		db := open(t, url)
		create := "CREATE TABLE picky (id VARCHAR(3) CHARACTER SET utf8mb4 NOT NULL PRIMARY KEY, n INT NOT NULL CHECK (n < 100))"
		bad := []string{
			"INSERT INTO picky VALUES ('a', NULL)", "INSERT INTO picky VALUES ('a', 100)", "INSERT INTO picky VALUES ('a', 1), ('a', 2)",
		}
		if db.Dialect() == reads.MySQL {
			bad = append(bad, "INSERT INTO picky VALUES ('long', 1)", "INSERT INTO picky VALUES ('a', 5000000000)",
				"INSERT INTO picky VALUES ('a', 'one')", "INSERT INTO picky VALUES (x'ff', 1)")
		} else {
			create = "CREATE TABLE picky (id INTEGER PRIMARY KEY, n INT NOT NULL CHECK (n < 100))"
			bad = append(bad[:2:2], "INSERT INTO picky VALUES ('no integer', 1)")
		}
		if _, err := db.Writer().ExecContext(t.Context(), create); err != nil {
			t.Fatal(err)
		}
		for _, statement := range bad {
			if _, err := db.Writer().ExecContext(t.Context(), statement); !reads.RefusesData(err) {
				t.Errorf("%s: %v is not said to be about data", statement, err)
			}
		}
		for _, statement := range []string{"INSERT INTO picky (nowhere) VALUES (1)", "INSERT INTO nothing VALUES (1)", "INSERT"} {
			if _, err := db.Writer().ExecContext(t.Context(), statement); err == nil || reads.RefusesData(err) {
				t.Errorf("%s: %v is said to be about data", statement, err)
			}
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := db.Writer().ExecContext(ended, bad[0]); err == nil || reads.RefusesData(err) {
			t.Errorf("%v is said to be about data", err)
		}
	})
}
