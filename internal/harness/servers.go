// Package harness gives tests real servers and real processes.
//
// The servers are those that SALON_TEST_* name (`make services` starts them and writes .run/env). Each test gets a
// place of its own on them: a database, a topic prefix, a Redis database. A variable that is not set fails the test:
// a server that was not there must never look like a test that passed. Tests that need servers are left out by
// `go test -short` alone.
package harness

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// NeedsServers leaves the test out under -short.
func NeedsServers(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers; -short leaves those out")
	}
}

func server(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run `make services` and `. .run/env`, or name a server of yours", name)
	}
	return v
}

// name is a new name for something on a shared server.
func name() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return "t" + hex.EncodeToString(b[:])
}

// Postgres makes a database and answers its URL.
func Postgres(t testing.TB) string {
	t.Helper()
	base := server(t, "SALON_TEST_POSTGRES")
	return database(t, "pgx", base, base, `"`, " WITH (FORCE)")
}

// MySQL makes a database on MySQL and answers its URL.
func MySQL(t testing.TB) string { return mysql(t, "SALON_TEST_MYSQL") }

// MariaDB makes a database on MariaDB and answers its URL.
func MariaDB(t testing.TB) string { return mysql(t, "SALON_TEST_MARIADB") }

func mysql(t testing.TB, variable string) string {
	t.Helper()
	base := server(t, variable)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("%s is not a URL", variable)
	}
	return database(t, "mysql", u.User.String()+"@tcp("+u.Host+")/", base, "`", "")
}

func database(t testing.TB, driver, dsn, base, quote, dropOption string) string {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	n := quote + name() + quote
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+n); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // the test's own is over
		defer cancel()
		if _, err := db.ExecContext(ctx, "DROP DATABASE "+n+dropOption); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
		_ = db.Close()
	})
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + strings.Trim(n, quote)
	return u.String()
}

// Redis answers the URL of an empty Redis database that no other test uses meanwhile.
func Redis(t testing.TB) string {
	t.Helper()
	base := server(t, "SALON_TEST_REDIS")
	o, err := redis.ParseURL(base)
	if err != nil {
		t.Fatalf("SALON_TEST_REDIS: %v", err)
	}
	locks := redis.NewClient(o)
	t.Cleanup(func() { _ = locks.Close() })
	// Database 0 keeps who has which of the others; a lease outlives any test, should its process be killed.
	for n := 1; n < 16; n++ {
		lease := "harness:database:" + strconv.Itoa(n)
		got, err := locks.SetNX(t.Context(), lease, os.Getpid(), 20*time.Minute).Result()
		if err != nil {
			t.Fatalf("lease a Redis database: %v", err)
		}
		if !got {
			continue
		}
		own := *o
		own.DB = n
		c := redis.NewClient(&own)
		if err := c.FlushDB(t.Context()).Err(); err != nil {
			t.Fatalf("empty the test's Redis database: %v", err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = c.FlushDB(ctx).Err()
			_ = c.Close()
			_ = locks.Del(ctx, lease).Err()
		})
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + strconv.Itoa(n)
		return u.String()
	}
	t.Fatal("all Redis databases are leased: is another run under way, or was one killed less than 20 minutes ago?")
	return ""
}

// Kafka answers the brokers and a prefix for the test's topics and groups, which are deleted at the end.
func Kafka(t testing.TB) (brokers, prefix string) {
	t.Helper()
	brokers, prefix = server(t, "SALON_TEST_KAFKA"), name()+"."
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...))
		if err != nil {
			t.Errorf("delete the test's topics: %v", err)
			return
		}
		defer c.Close()
		admin := kadm.NewClient(c)
		topics, err := admin.ListTopics(ctx)
		if err != nil {
			t.Errorf("delete the test's topics: %v", err)
			return
		}
		var own []string
		for _, topic := range topics.Names() {
			if strings.HasPrefix(topic, prefix) {
				own = append(own, topic)
			}
		}
		if len(own) == 0 {
			return
		}
		if _, err := admin.DeleteTopics(ctx, own...); err != nil {
			t.Errorf("delete the test's topics: %v", err)
		}
	})
	return brokers, prefix
}
