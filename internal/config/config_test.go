package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNeedComplainsAboutEverythingAtOnceAndNeverShowsASecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what    string
		servers Servers
		want    []string // parts of the complaint; none: no complaint
	}{
		{"all there", Servers{Events: "postgres://u:secret@h/db", Kafka: "h:9092,i:9092", Reads: "mysql://u:secret@h/db", Redis: "redis://h:6379/0", Topics: Topics{Partitions: 8}}, nil},
		{"files", Servers{Events: "sqlite:/tmp/e.db", Kafka: "h:1", Reads: "sqlite:r.db", Redis: "rediss://h/0", Topics: Topics{Partitions: 1}}, nil},
		{"EventStoreDB", Servers{Events: "esdb://u:secret@h:2113?tls=false", Kafka: "h:1", Reads: "sqlite:r.db", Redis: "rediss://h/0", Topics: Topics{Partitions: 1}}, nil},
		{"EventStoreDB, a cluster", Servers{Events: "esdb://u:secret@h:2113,i:2113,j:2113", Kafka: "h:1", Reads: "sqlite:r.db", Redis: "rediss://h/0", Topics: Topics{Partitions: 1}}, nil},
		{"EventStoreDB by name", Servers{Events: "esdb+discover://h:2113", Kafka: "h:1", Reads: "sqlite:r.db", Redis: "rediss://h/0", Topics: Topics{Partitions: 1}}, nil},
		{"EventStoreDB nowhere", Servers{Events: "esdb://?tls=secret", Kafka: "h:1", Reads: "sqlite:r.db", Redis: "rediss://h/0", Topics: Topics{Partitions: 1}}, []string{"--events is not a valid esdb URL"}},
		{"nothing", Servers{}, []string{"--events is missing", "SALON_EVENTS", "--kafka is missing", "--reads is missing", "--redis is missing", "--partitions: 0"}},
		{"another scheme", Servers{Events: "oracle://u:secret@h/db", Kafka: "h:1", Reads: "r.db", Redis: "http://h", Topics: Topics{Partitions: 8}}, []string{"--events has to start with postgres:", "--reads has to", "--redis has to"}},
		{"no host", Servers{Events: "postgres:///db?password=secret", Kafka: "h", Reads: "mysql:secret", Redis: "redis:", Topics: Topics{Partitions: 2000}}, []string{"--events is not a valid", `"h" is not host:port`, "--reads is not a valid", "--redis is redis: and names nothing", "--partitions: 2000"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			err := c.servers.Need(true, true, true, true)
			if (err == nil) != (len(c.want) == 0) {
				t.Fatalf("complaint: %v", err)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the complaint lacks %q:\n%v", part, err)
				}
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the complaint shows a secret: %v", err)
			}
		})
	}
}

func TestASecretComesFromAFileOrFromTheFlagNotFromBoth(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(file, []byte("postgres://u:p@h/db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Servers{EventsFile: file}
	if err := s.ReadFiles(); err != nil || s.Events != "postgres://u:p@h/db" {
		t.Errorf("from the file: %q, %v", s.Events, err)
	}
	if err := s.ReadFiles(); err == nil || !strings.Contains(err.Error(), "both given") {
		t.Errorf("both given: %v", err)
	}
	missing := Servers{RedisFile: file + "-not-there"}
	if err := missing.ReadFiles(); err == nil || !strings.Contains(err.Error(), "--redis-file") {
		t.Errorf("missing file: %v", err)
	}
}
