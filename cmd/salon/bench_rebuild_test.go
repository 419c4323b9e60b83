package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Figures are not looked at: they are the machine's. What is asked for has to be there, each with what it is held to; and no
// read may be stale, whatever the machine.
func TestARebuildIsMeasured(t *testing.T) {
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
			bench := exec.CommandContext(t.Context(), harness.Binary(t), "bench", "rebuild", "--json",
				"--sizes", "1000,2000", "--past", "2000", "--rounds", "1", "--each", "400ms")
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
			of := func(what string) measure {
				t.Helper()
				for _, m := range r.Results {
					if strings.HasPrefix(m.What, what) {
						return m
					}
				}
				t.Fatalf("no figure of %q:\n%s", what, out)
				return measure{}
			}
			for _, w := range workloads() {
				for _, size := range []string{"1000", "2000"} {
					if m := of(w.name + ": " + size + " events rebuilt (ceiling"); m.Value <= 0 || *m.Ceiling <= 0 || *m.Ratio <= 0 || m.Goal != "≥ 0.8 ×" {
						t.Errorf("%+v", m)
					}
				}
				if m := of(w.name + ": exponent of the time"); m.Goal == "" {
					t.Errorf("%+v", m)
				}
			}
			for _, what := range []string{
				"free slots: 2000 events in Redis", "chat rooms: 2000 events in Redis", "accepted → visible while a version is rebuilt, p99",
				"verification of two versions", "switch or rollback, the longest of 20", "reads with tokens meanwhile",
			} {
				if m := of(what); m.Value <= 0 || m.Goal == "" {
					t.Errorf("%+v", m)
				}
			}
			if m := of("verification of one against the store"); m.Value <= 0 {
				t.Errorf("%+v", m)
			}
			if m := of("of these stale"); m.Value != 0 || !m.Met {
				t.Errorf("%+v", m)
			}
		})
	}
}

// A history that the folds refuse would be no measure of anything.
func TestTheHistoriesOfTheBenchmarkAreWholeAndTakeTurns(t *testing.T) {
	t.Parallel()
	for _, w := range workloads() {
		d := engine.NewDecoder(codec(), w.of)
		u, n := engine.NewUnit(), 0
		revisions := map[string]eventstore.Revision{}
		last, inTurn := "", 0
		for r := range w.history(3000) {
			if n++; r.Key == last {
				inTurn++
			}
			last = r.Key
			if r.Revision != revisions[r.Stream] {
				t.Fatalf("%s: revision %d of %s, want %d", w.name, r.Revision, r.Stream, revisions[r.Stream])
			}
			revisions[r.Stream]++
			e, wanted, err := d.Event(w.of, r)
			if err != nil {
				t.Fatal(err)
			}
			if !wanted {
				continue
			}
			if err := u.Replay(w.of, e); err != nil {
				t.Fatal(err)
			}
		}
		rows := 0
		for _, table := range w.of.Tables {
			rows += len(u.Rows(table.Def()))
		}
		if n != 3000 || len(revisions) < 5 || inTurn > n/100 || rows < 400 {
			t.Errorf("%s: %d events of %d streams, %d after one of their own, %d rows", w.name, n, len(revisions), inTurn, rows)
		}
	}
}
