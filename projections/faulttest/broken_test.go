package faulttest

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// change is one piece of the engine's source that is replaced by another.
type change struct{ file, from, to string }

// breaks are protections of the engine, each with the source that switches it off and the faults that must show it. The
// engine itself has no such switch: the children are built from a copy that differs in these places.
func breaks() []struct {
	name    string
	changes []change
	faults  []string
} {
	return []struct {
		name    string
		changes []change
		faults  []string
	}{
		{
			name: "the fence", faults: []string{"projector frozen"},
			changes: []change{
				{
					"sql.go", `AND claim = ? AND epoch = ? AND commit_seq = ? AND next_offset = ?"`,
					`AND (claim = ? OR TRUE) AND (epoch = ? OR TRUE) AND (commit_seq = ? OR TRUE) AND (next_offset = ? OR TRUE)"`,
				},
				{"redis.go", `if now[i] ~= ARGV[i] then return 0 end`, `if now[i] ~= ARGV[i] and false then return 0 end`},
			},
		},
		{
			name: "contiguity", faults: []string{"log truncated past the offset"},
			changes: []change{{"batch.go", `if prev > b.after.LastPos && pos > b.after.LastPos {`, `if false {`}},
		},
		{
			name: "dropping by pos", faults: []string{"old records repeated"},
			changes: []change{{"batch.go", `if pos <= b.after.LastPos {`, `if false {`}},
		},
	}
}

// brokenBinary builds this test with a changed engine.
func brokenBinary(t *testing.T, changes []change) string {
	t.Helper()
	dir := t.TempDir()
	engine, err := filepath.Abs(filepath.Join("..", "engine"))
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, c := range changes {
		file := filepath.Join(engine, c.file)
		from := file
		if again := overlay.Replace[file]; again != "" {
			from = again
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), c.from); n != 1 {
			t.Fatalf("%s has %d times %q: the engine has changed, and what breaks it must follow", c.file, n, c.from)
		}
		overlay.Replace[file] = filepath.Join(dir, c.file)
		if err := os.WriteFile(overlay.Replace[file], []byte(strings.Replace(string(source), c.from, c.to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "broken.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build a broken engine: %v\n%s", err, out)
	}
	return binary
}

// seesBroken runs a system whose engine lacks something, until the oracle sees it: an oracle that was never seen to be
// red shows nothing.
func seesBroken(t *testing.T, s *servers, binary string, faults []string) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's dice
	w := newWorld(t, s, binary)
	const most = 15
	for round := range most {
		var done []string
		for _, k := range kinds() {
			if k.name == faults[round%len(faults)] {
				clear(w.taken)
				k.hurt(&fault{w: w, t: t, dice: dice})
				done = append(done, k.name)
			}
		}
		if len(done) == 0 || t.Failed() {
			t.Fatalf("no such fault, or it failed: %v", faults)
		}
		ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
		_ = w.oracle.recovered(ctx) // a broken engine may never recover; what it has written counts
		found, err := w.oracle.compare(ctx)
		cancel()
		if err != nil {
			t.Logf("compare: %v", err)
		}
		if found.sum() > 0 {
			t.Logf("red after %d: %d lost, %d doubled, %d swapped, such as\n%s", round+1, found.Lost, found.Doubled, found.Swapped, strings.Join(found.Says[:1], ""))
			return
		}
	}
	t.Errorf("the oracle has seen nothing in %d faults", most)
}
