package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
)

// Figures are not looked at: they are the machine's. What is asked for has to be there, each with what it is held to.
func TestTheProjectorIsMeasuredBesideWhatItsDatabasesCanDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		database string
		servers  func(t *testing.T) []string
	}{
		{"embedded", "SQLite", func(*testing.T) []string { return nil }},
		{"real servers", "MySQL", func(t *testing.T) []string {
			harness.NeedsServers(t)
			brokers, prefix := harness.Kafka(t)
			return []string{
				"SALON_EVENTS=" + harness.Postgres(t), "SALON_READS=" + harness.MySQL(t), "SALON_REDIS=" + harness.Redis(t),
				"SALON_KAFKA=" + brokers, "SALON_TOPIC_PREFIX=" + prefix,
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bench := exec.CommandContext(t.Context(), harness.Binary(t), "bench", "project", "--project", "2000", "--each", "100ms", "--json")
			bench.Env = append(withoutSalon(os.Environ()), c.servers(t)...)
			var said strings.Builder
			bench.Stderr = &said
			out, err := bench.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, said.String())
			}
			var r report
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatal(err)
			}
			for want, ceiling := range map[string]bool{
				"events into " + c.database + ", live": true, "events into Redis, live": true,
				"processor time of an event in ten projections": true, "accepted → visible in " + c.database + " at 100/s, p50": false,
				"accepted → visible in " + c.database + " at 1000/s, p99": false, "accepted → visible in Redis at 2000/s, p99": false,
			} {
				found := false
				for _, m := range r.Results {
					found = found || strings.HasPrefix(m.What, want) && m.Value > 0 && m.Goal != "" && (!ceiling || *m.Ceiling > 0 && *m.Ratio > 0)
				}
				if !found {
					t.Errorf("no figure, or no ceiling of %q:\n%s", want, out)
				}
			}
		})
	}
}

func withoutSalon(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "SALON_") {
			out = append(out, kv)
		}
	}
	return out
}
