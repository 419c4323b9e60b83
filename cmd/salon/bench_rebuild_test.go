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

// Figures are not looked at: they are the machine's. What is asked for has to be there, each with what it is held to.
func TestARebuildIsMeasuredBesideAPlainProgram(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		servers func(t *testing.T) []string
	}{
		{"embedded", func(*testing.T) []string { return nil }},
		{"real servers", func(t *testing.T) []string {
			harness.NeedsServers(t)
			return []string{"SALON_EVENTS=" + harness.Postgres(t), "SALON_READS=" + harness.MySQL(t)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bench := exec.CommandContext(t.Context(), harness.Binary(t), "bench", "rebuild", "--sizes", "2000,4000", "--json")
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
			for _, w := range workloads() {
				for what, ceiling := range map[string]bool{": 2000 events rebuilt (": true, ": 4000 events rebuilt (": true, ": 4000 events rebuilt, most of the heap": false} {
					found := false
					for _, m := range r.Results {
						found = found || strings.HasPrefix(m.What, w.name+what) && m.Value > 0 && (!ceiling || *m.Ceiling > 0 && *m.Ratio > 0)
					}
					if !found {
						t.Errorf("no figure, or no ceiling of %q:\n%s", w.name+what, out)
					}
				}
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
