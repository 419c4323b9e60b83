package archtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/internal/archtest"
)

func loadModule(t *testing.T) []archtest.Package {
	t.Helper()
	root := filepath.Join("..", "..")
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil || !strings.HasPrefix(string(mod), "module "+archtest.Module+"\n") {
		t.Fatalf("%s is not the root of module %s: %v", root, archtest.Module, err)
	}
	pkgs, err := archtest.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	for _, v := range archtest.Table().Check(loadModule(t)) {
		t.Error(v)
	}
}

// Load finding nothing would make the test above pass for ever.
func TestLoadSeesTheModule(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range loadModule(t) {
		seen[p.Path] = true
	}
	for _, want := range []string{"domain", "domain/groomer", "eventstore", "eventstore/wire", "internal/archtest"} {
		if !seen[want] {
			t.Errorf("package %s was not loaded", want)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, p := range loadModule(t) {
		if why := docMissing(p); why != "" {
			t.Errorf("%s: %s", p.Path, why)
		}
	}
}

func docMissing(p archtest.Package) string {
	begin := "Package " + p.Name + " "
	if p.Name == "main" {
		begin = "Command " + filepath.Base(p.Path) + " "
	}
	if !strings.HasPrefix(p.Doc, begin) {
		return "the package comment must begin with \"" + begin + "\": the job, then the promises"
	}
	return ""
}

func TestDocMissing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		pkg  archtest.Package
		want bool
	}{
		{"none", archtest.Package{Path: "domain", Name: "domain"}, true},
		{"another package's", archtest.Package{Path: "domain", Name: "domain", Doc: "Package chat talks.\n"}, true},
		{"its own", archtest.Package{Path: "domain", Name: "domain", Doc: "Package domain holds events.\n"}, false},
		{"a command's", archtest.Package{Path: "cmd/salon", Name: "main", Doc: "Command salon runs the roles.\n"}, false},
		{"a command that calls itself main", archtest.Package{Path: "cmd/salon", Name: "main", Doc: "Package main runs.\n"}, true},
	} {
		if got := docMissing(c.pkg) != ""; got != c.want {
			t.Errorf("%s: missing = %v, want %v", c.name, got, c.want)
		}
	}
}

// Each case is one import that must be refused or allowed, and a word of the reason that must be printed.
func TestTable(t *testing.T) {
	t.Parallel()
	const ours = archtest.Module + "/"
	for _, c := range []struct{ pkg, imports, reason string }{
		{"domain/groomer", "time", ""},
		{"domain/groomer", ours + "domain/schedule", ""},
		{"domain/groomer", ours + "eventstore", "pure values"},
		{"domain/groomer", "golang.org/x/text/unicode/norm", "standard library alone"},
		{"domain/groomer", "github.com/google/uuid", "standard library alone"},
		{"eventstore/wire", ours + "domain", ""},
		{"eventstore/relay", ours + "commands", "knows nothing of who writes"},
		{"eventstore/relay", "github.com/twmb/franz-go/pkg/kgo", ""},
		{"eventstore", "github.com/twmb/franz-go/pkg/kgo", "few places speak Kafka"},
		{"eventstore/postgres", "github.com/jackc/pgx/v5/pgxpool", ""},
		{"eventstore/sqlite", "github.com/jackc/pgx/v5", "eventstore/postgres"},
		{"cmd/salon", "github.com/jackc/pgx/v5", "eventstore/postgres"},
		{"cmd/salon", "github.com/EventStore/EventStore-Client-Go/v4/esdb", "only eventstore/esdb"},
		{"eventstore/sqlite", "modernc.org/sqlite", ""},
		{"projections/engine", "modernc.org/sqlite", ""},
		{"readapi", "modernc.org/sqlite", "one home each"},
		{"commands", ours + "eventstore", ""},
		{"commands", ours + "internal/problem", ""},
		{"commands", ours + "eventstore/postgres", "main's choice"},
		{"commands", ours + "projections/calendar", "late by design"},
		{"commands", "github.com/redis/go-redis/v9", "without it"},
		{"projections/calendar", ours + "eventstore/wire", ""},
		{"projections/calendar", ours + "eventstore/relay", "interface that main fills"},
		{"projections/calendar", ours + "commands", "issues no commands"},
		{"projections/calendar", "github.com/danielgtaylor/huma/v2", "beside what it drives"},
		{"projections/admin", "github.com/danielgtaylor/huma/v2", ""},
		{"projections/calendar", "github.com/ThreeDotsLabs/watermill/message", "one message in flight"},
		{"reactors/notify", "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka", ""},
		{"projections/engine", "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka", "hole in the log"},
		{"reactors", ours + "projections/engine", ""},
		{"reactors", ours + "projections/calendar", "neither read models"},
		{"readapi", ours + "projections/calendar", ""},
		{"readapi", ours + "eventstore", "never imports eventstore"},
		{"readapi", ours + "eventstore/wire", "never imports eventstore"},
		{"readapi", ours + "commands", "never imports eventstore"},
		{"readapi", ours + "domain/groomer", "never imports eventstore"},
		{"readapi/live", ours + "eventstore/wire", ""},
		{"readapi/live", ours + "readapi", ""},
		{"readapi/live", ours + "eventstore", "small interfaces"},
		{"readapi/live", ours + "domain", "small interfaces"},
		{"readapi", "github.com/coder/websocket", "live gateway"},
		{"audit", ours + "projections/engine", ""},
		{"audit", ours + "commands", "issues no commands"},
		{"internal/problem", ours + "eventstore", ""},
		{"internal/problem", ours + "commands", "no layer above"},
		{"internal/httpserver", "github.com/twmb/franz-go/pkg/kfake", "in-process broker"},
		{"internal/embedded", "github.com/twmb/franz-go/pkg/kfake", ""},
		{"internal/embedded", "github.com/twmb/franz-go/pkg/kgo", "few places speak Kafka"},
		{"cmd/salon", ours + "eventstore/postgres", ""},
		{"cmd/salon", ours + "internal/harness", "for tests"},
		{"eventstore/storetest", ours + "internal/harness", ""},
		{"eventstore/storetest", "testing", ""},
		{"commands", "testing", "test flags"},
		{"commands", "pgregory.net/rapid", "for tests"},
		{"commands", "github.com/somebody/something", "no line in internal/archtest/rules.go names this library"},
		{"helpers", ours + "domain", "no layer in internal/archtest/rules.go names this folder"},
	} {
		t.Run(c.pkg+" imports "+strings.TrimPrefix(c.imports, ours), func(t *testing.T) {
			t.Parallel()
			found := archtest.Table().Check([]archtest.Package{{
				Path: c.pkg, Imports: []archtest.Import{{Path: c.imports, File: c.pkg + "/x.go", Line: 7}},
			}})
			switch {
			case c.reason == "" && len(found) > 0:
				t.Errorf("refused: %v", found)
			case c.reason != "" && len(found) != 1:
				t.Errorf("allowed, want a refusal that says %q", c.reason)
			case c.reason != "" && !strings.Contains(found[0].String(), c.reason):
				t.Errorf("refused with %q, want a reason that says %q", found[0], c.reason)
			case c.reason != "" && !strings.HasPrefix(found[0].String(), c.pkg+"/x.go:7: "):
				t.Errorf("%q does not say where", found[0])
			}
		})
	}
}

func TestNoRuleIsIdle(t *testing.T) {
	t.Parallel()
	table := archtest.Table()
	refused := func(pkg, path string) string {
		found := table.Check([]archtest.Package{{Path: pkg, Imports: []archtest.Import{{Path: path}}}})
		if len(found) != 1 {
			return ""
		}
		return found[0].Why
	}
	for _, l := range table.Layers {
		if got := refused(l.Folder, archtest.Module+"/nowhere"); got != l.Why {
			t.Errorf("layer %s never refuses anything; got reason %q", l.Folder, got)
		}
		if l.Why == "" {
			t.Errorf("layer %s has no reason", l.Folder)
		}
	}
	for _, l := range table.Libraries {
		if got := refused("domain", l.Path); got != l.Why {
			t.Errorf("library %s is not refused in domain with its own reason; got %q", l.Path, got)
		}
		if l.Why == "" {
			t.Errorf("library %s has no reason", l.Path)
		}
	}
}

func TestAtMost(t *testing.T) {
	t.Parallel()
	use := func(pkg string) archtest.Package {
		return archtest.Package{Path: pkg, Imports: []archtest.Import{{Path: "modernc.org/sqlite"}, {Path: "modernc.org/sqlite/lib"}}}
	}
	two := []archtest.Package{use("eventstore/sqlite"), use("projections/engine")}
	if found := archtest.Table().Check(two); len(found) > 0 {
		t.Errorf("two packages, several imports each: refused: %v", found)
	}
	found := archtest.Table().Check(append(two, use("projections/rebuild")))
	if len(found) != 2 || !strings.Contains(found[0].Why, "at most 2") {
		t.Errorf("a third package: %v, want both its imports refused", found)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"domain/event.go":         "// Package domain holds events.\npackage domain\n\nimport (\n\t\"time\"\n\n\tx \"example.org/x\"\n)\n",
		"domain/windows.go":       "//go:build windows\n\npackage domain\n\nimport _ \"example.org/w\"\n",
		"domain/event_test.go":    "package domain_test\n\nimport _ \"example.org/test\"\n",
		"domain/testdata/f/f.go":  "package f\n\nimport _ \"example.org/data\"\n",
		"deploy/tools/go.mod":     "module example.org/tools\n",
		"deploy/tools/tools.go":   "package tools\n\nimport _ \"example.org/tool\"\n",
		".run/x/x.go":             "package x\n\nimport _ \"example.org/run\"\n",
		"web/node_modules/m/m.go": "package m\n\nimport _ \"example.org/npm\"\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := archtest.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []archtest.Package{{
		Path: "domain", Name: "domain", Doc: "Package domain holds events.\n",
		Imports: []archtest.Import{
			{Path: "time", File: "domain/event.go", Line: 5},
			{Path: "example.org/x", File: "domain/event.go", Line: 7},
			{Path: "example.org/w", File: "domain/windows.go", Line: 5},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}
