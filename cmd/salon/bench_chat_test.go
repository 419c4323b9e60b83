package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
)

// Figures are not looked at: they are the machine's. What is asked for has to be there, and something must have been
// delivered.
func TestChatIsMeasured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		servers func(t *testing.T) []string
	}{
		{"embedded", func(*testing.T) []string { return nil }},
		{"real servers", func(t *testing.T) []string {
			harness.NeedsServers(t)
			kafka, prefix := harness.Kafka(t)
			return []string{
				"SALON_EVENTS=" + harness.Postgres(t), "SALON_READS=" + harness.MySQL(t), "SALON_REDIS=" + harness.Redis(t),
				"SALON_KAFKA=" + kafka, "SALON_TOPIC_PREFIX=" + prefix,
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bench := exec.CommandContext(t.Context(), harness.Binary(t), "bench", "chat", "--json", "--each", "400ms", "--small")
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
			for _, what := range []string{
				"  alone 1: messages delivered", "  alone 1: bytes sent to sockets for a delivered message", "20 sockets, 50 messages/s in 5 rooms: post → on each of the other side's sockets, p99",
				"p99 beside 5 sockets that do not read", "20 sockets back at once, 5 missed messages each", "resident with 40 idle sockets",
			} {
				found := false
				for _, m := range r.Results {
					found = found || strings.HasPrefix(m.What, what) && m.Value > 0
				}
				if !found {
					t.Errorf("no figure of %q:\n%s", what, out)
				}
			}
			for _, what := range []string{"  of what they missed, asked of the event store", "  the same, asked of read model or store"} {
				if !slices.ContainsFunc(r.Results, func(m measure) bool { return m.What == what && m.Value == 0 && m.Met }) {
					t.Errorf("the windows suffice, and yet, or it is not said: %q\n%s", what, out)
				}
			}
		})
	}
}
