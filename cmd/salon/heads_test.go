package main

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/internal/harness"
)

// Whoever has the database and the key of seals can cut the history and seal it anew, and nothing in the store shows it. The
// heads in Kafka do, also when the new ones were written behind them.
func TestHeadsInKafkaShowAHistorySignedAnew(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	events, dir := harness.Postgres(t), t.TempDir()
	kafka, prefix := harness.Kafka(t)
	well(t, "keys", dir)
	if err := postgres.Migrate(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, sealKeyName)
	seal := []string{"events", "seal", "--events", events, "--seal-key-file", key}
	verify := []string{"events", "verify", "--events", events, "--key", key + ".pub"}
	heads := []string{"--kafka", kafka, "--topic-prefix", prefix}
	and := func(args []string, more ...string) []string { return append(append([]string{}, args...), more...) }

	call(t, and(seal, heads...)...).refused(t, 1, prefix+relay.SealsTopic, "salon topics ensure") // it sealed all the same
	well(t, and([]string{"topics", "ensure"}, heads...)...)
	well(t, seal...) // as if it had died before Kafka had the head
	for range 3 {
		well(t, and(seal, heads...)...) // each call is an event of its own
	}
	if out := well(t, and(verify, heads...)...); !strings.Contains(out, "5 of the 5 seals") || !strings.Contains(out, "everything is as it was stored") {
		t.Error(out)
	}
	call(t, and(verify, "--kafka", kafka, "--seal-file", key)...).refused(t, 2, "--seal-file and --kafka")

	db, err := sql.Open("pgx", events)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: events})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	forge(t, s, db, 3)
	if _, err := db.ExecContext(t.Context(), "DELETE FROM seals WHERE block >= 3"); err != nil {
		t.Fatal(err)
	}
	call(t, and(verify, heads...)...).refused(t, 1, "seal 3 was kept elsewhere, and is missing")
	call(t, and(seal, heads...)...).refused(t, 1, "the store ends at seal 2", "elsewhere there is seal 5")
	for range 4 {
		well(t, seal...)
	}
	if out := well(t, verify...); !strings.Contains(out, "everything is as it was stored") {
		t.Errorf("nothing in the store shows it: %s", out)
	}
	call(t, and(verify, heads...)...).refused(t, 1, "seal 3 is another one than was kept elsewhere")
	call(t, and(seal, heads...)...).refused(t, 1, "elsewhere there is another seal 5 than in the store")
	topic := &relay.Heads{Brokers: strings.Split(kafka, ","), Prefix: prefix}
	if err := topic.Keep(t.Context(), s.Seals(t.Context(), 2)); err != nil {
		t.Fatal(err)
	}
	call(t, and(verify, heads...)...).refused(t, 1, "seal 3 is another one than was kept elsewhere")
}

// forge changes the event at a position, with its hash.
func forge(t *testing.T, s *postgres.Store, db *sql.DB, position uint64) {
	t.Helper()
	for r, err := range s.ReadAll(t.Context(), position-1, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		changed := r
		changed.Data = bytes.Replace(r.Data, []byte("seal-events"), []byte("verify-events"), 1)
		if hash := eventstore.ContentHash(changed); hash != r.Hash {
			if _, err := db.ExecContext(t.Context(), "UPDATE events SET data = $1, hash = $2 WHERE position = $3", changed.Data, hash[:], position); err != nil {
				t.Fatal(err)
			}
			return
		}
		break
	}
	t.Fatalf("the event at position %d is not as it is expected", position)
}
