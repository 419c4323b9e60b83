package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/internal/harness"
)

// Figures are not looked at: they are the machine's. What is asked for has to be there, each with what it is held to.
func TestAppendsAreMeasuredBesideWhatTheirDatabaseCanDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		url  func(t *testing.T) string
		want []string
	}{
		{"SQLite", func(*testing.T) string { return "" }, []string{"appends, 32 callers", "events read in order", "events read by slices"}},
		{"PostgreSQL", func(t *testing.T) string {
			harness.NeedsServers(t)
			return harness.Postgres(t)
		}, []string{"appends, 1 caller", "appends, 32 callers", "appends, 256 callers", "appends, 2 processes", "events read in order"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := c.url(t)
			bench := exec.CommandContext(t.Context(), harness.Binary(t), "bench", "append", "--each", "20ms", "--read", "3200", "--json")
			bench.Env = append(os.Environ(), "SALON_EVENTS="+url)
			if url == "" {
				bench.Env = os.Environ()
			}
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
			for _, want := range c.want {
				found := false
				for _, m := range r.Results {
					found = found || strings.HasPrefix(m.What, want) && m.Value > 0 && m.Ceiling != nil && *m.Ceiling > 0 && *m.Ratio > 0 && m.Goal != ""
				}
				if !found {
					t.Errorf("no figure, or no ceiling of %q:\n%s", want, out)
				}
			}
			if url == "" {
				return
			}
			// What was measured was not the store that was named.
			if _, err := postgres.Open(t.Context(), postgres.Config{URL: url}); err == nil {
				t.Error("the database that was named has tables now")
			}
		})
	}
}
