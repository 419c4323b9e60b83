package engine

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
)

// databases are the reads databases a suite runs on: SQLite always, and the servers that SALON_TEST_* name.
func databases(t *testing.T) map[string]func(t *testing.T) string {
	all := map[string]func(t *testing.T) string{"sqlite": sqliteURL}
	if testing.Short() {
		return all
	}
	for name, variable := range map[string]string{"mysql": "SALON_TEST_MYSQL", "mariadb": "SALON_TEST_MARIADB"} {
		if server := os.Getenv(variable); server != "" {
			all[name] = func(t *testing.T) string { return mysqlURL(t, server) }
		}
	}
	return all
}

// mysqlURL makes a database for one test.
func mysqlURL(t *testing.T, server string) string {
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
	name := "engine_" + strings.ToLower(rand.Text()[:12])
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
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

// redises are the Redis servers a suite runs on.
func redises(t *testing.T) map[string]func(t *testing.T) *redis.Client {
	all := map[string]func(t *testing.T) *redis.Client{"miniredis": func(t *testing.T) *redis.Client {
		return redisClient(t, "redis://"+miniredis.RunT(t).Addr()+"/0")
	}}
	if address := os.Getenv("SALON_TEST_REDIS"); address != "" && !testing.Short() {
		all["redis"] = func(t *testing.T) *redis.Client { return redisClient(t, address) }
	}
	return all
}

func redisClient(t *testing.T, address string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(options)
	t.Cleanup(func() { c.Close() })
	return c
}

// realKafka is the real broker, when there is one: a prefix of their own keeps the tests topics apart.
func realKafka() string {
	if testing.Short() {
		return ""
	}
	return os.Getenv("SALON_TEST_KAFKA")
}
