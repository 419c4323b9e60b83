package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
)

// Figures are not looked at: they are the machine's. What is asked for has to be there, each with what it is held to; that the
// answers are of the history, the benchmark looks at itself.
func TestAuditsAreMeasured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		servers func(t *testing.T) []string
		hashing string
	}{
		{"SQLite", func(*testing.T) []string { return nil }, "appends, 32 callers (ceiling: if a hash took no time)"},
		{"PostgreSQL", func(t *testing.T) []string {
			harness.NeedsServers(t)
			return []string{"SALON_EVENTS=" + harness.Postgres(t)}
		}, "appends, 32 callers (ceiling: a server that hashes nothing)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bench := exec.CommandContext(t.Context(), harness.Binary(t), "bench", "audit", "--json", "--among", "2000", "--rounds", "1", "--each", "20ms")
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
			of := map[string]measure{}
			for _, m := range r.Results {
				of[m.What] = m
			}
			for what, goal := range map[string]string{
				"state of a stream of 1,000 events, p99":                                         "< 20 ms",
				"difference of a stream of 1,000 events, p99":                                    "< 20 ms",
				"row of a read model, of a key of 1,000 events, p99":                             "< 20 ms",
				"difference of a row, of a key of 1,000 events, p99":                             "< 20 ms",
				"events by actor, among 2000, p99":                                               "< 50 ms",
				"events by ordering key since a moment, among 2000, p99":                         "< 50 ms",
				"events verified by their hashes alone":                                          "≥ 300000 /s",
				"events verified with seals and commands":                                        "≥ 300000 /s",
				"events exported as JSON Lines, with commands":                                   "≥ 200000 /s",
				"appends, 32 callers, beside the follower of the look-ups (ceiling: without it)": "≥ 0.9 ×",
				c.hashing:                                "≥ 0.97 ×",
				"index on disk, for an event":            "",
				"events sealed":                          "",
				"state of a stream of 1,000 events, p50": "",
			} {
				if m := of[what]; m.Value <= 0 || m.Goal != goal || strings.HasSuffix(goal, "×") && (m.Ratio == nil || *m.Ratio <= 0) {
					t.Errorf("%s: %+v", what, m)
				}
			}
		})
	}
}
