package eventstore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
)

var update = flag.Bool("update", false, "write docs/events.md again, and the sums of new fixtures")

const (
	fixtureFolder = "testdata/events"
	sumsFile      = "testdata/events.sums"
)

// fixture is one stored event as some release wrote it. The file is named after its type; a second one of a type has a
// word more: reservation.requested.v1.instant.json.
type fixture struct {
	file      string
	eventType string
	data      []byte
}

func fixtures(t testing.TB) []fixture {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(fixtureFolder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	var out []fixture
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(strings.TrimSuffix(filepath.Base(f), ".json"), ".")
		out = append(out, fixture{filepath.Base(f), strings.Join(parts[:min(3, len(parts))], "."), b})
	}
	return out
}

// What an old release wrote, this one reads, and what it understood of it is everything.
func TestFixturesAreRead(t *testing.T) {
	t.Parallel()
	codec := eventstore.Catalog()
	for _, f := range fixtures(t) {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			event, err := codec.Decode(f.eventType, f.data)
			if err != nil {
				t.Fatal(err)
			}
			again, err := codec.Encode(event)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(meaning(t, f.data), meaning(t, again)); event.EventType() == f.eventType && d != "" {
				t.Errorf("decoded and encoded again it is another event (-stored +again):\n%s", d)
			}
			twice, err := codec.Decode(event.EventType(), again)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(event, twice); d != "" {
				t.Errorf("decoded twice it is another event (-first +second):\n%s", d)
			}
		})
	}
}

func meaning(t *testing.T, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A new type, and a new field of an old one, come with a fixture that has them.
func TestEveryFieldHasAFixture(t *testing.T) {
	t.Parallel()
	codec := eventstore.Catalog()
	shown := map[string]map[string]bool{} // by type: the paths of fields that some fixture sets
	for _, f := range fixtures(t) {
		event, err := codec.Decode(f.eventType, f.data)
		if err != nil {
			t.Fatal(err)
		}
		if shown[event.EventType()] == nil {
			shown[event.EventType()] = map[string]bool{}
		}
		note(reflect.ValueOf(event), "", shown[event.EventType()])
	}
	for _, eventType := range codec.Types() {
		if shown[eventType] == nil {
			t.Errorf("%s has no fixture: add %s/%s.json with every field set", eventType, fixtureFolder, eventType)
			continue
		}
		event, err := codec.Decode(eventType, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths(reflect.TypeOf(event), "") {
			if !shown[eventType][path] {
				t.Errorf("%s: no fixture sets %s: add one that does, %s/%s.WORD.json", eventType, path, fixtureFolder, eventType)
			}
		}
	}
}

// paths lists the fields of a type down to its leaves; time.Time is a leaf.
func paths(t reflect.Type, at string) []string {
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		return paths(t.Elem(), at+"[]")
	case t.Kind() == reflect.Struct && t.PkgPath() != "time":
		var out []string
		for f := range t.Fields() {
			out = append(out, paths(f.Type, at+"."+f.Name)...)
		}
		return out
	}
	return []string{at}
}

// note collects the leaves that are set.
func note(v reflect.Value, at string, set map[string]bool) {
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		for i := range v.Len() {
			note(v.Index(i), at+"[]", set)
		}
	case v.Kind() == reflect.Struct && v.Type().PkgPath() != "time":
		for i := range v.NumField() {
			note(v.Field(i), at+"."+v.Type().Field(i).Name, set)
		}
	case !v.IsZero():
		set[at] = true
	}
}

// Fixtures are only ever added: a changed one would hide that what is stored cannot be read any more.
func TestFixturesNeverChange(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(sumsFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	known := map[string]string{}
	for line := range strings.Lines(string(b)) {
		sum, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
		known[file] = sum
	}
	var added []string
	for _, f := range fixtures(t) {
		sum := fmt.Sprintf("%x", sha256.Sum256(f.data))
		switch known[f.file] {
		case sum:
		case "":
			added = append(added, sum+"  "+f.file+"\n")
		default:
			t.Errorf("%s was changed: restore it, and add a fixture of another name", f.file)
		}
		delete(known, f.file)
	}
	for file := range known {
		t.Errorf("%s was removed: restore it", file)
	}
	if len(added) == 0 {
		return
	}
	if !*update {
		t.Fatalf("new fixtures: run `go generate ./eventstore`\n%s", strings.Join(added, ""))
	}
	lines := append(slices.Collect(strings.Lines(string(b))), added...)
	if err := os.WriteFile(sumsFile, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
}
