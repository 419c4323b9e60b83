package eventstore_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/eventstore"
)

const document = "../docs/events.md"

// family is what the events of one catalogue have in common.
type family struct {
	title, stream, key, topic string
	events                    []domain.Event
}

func families() []family {
	return []family{
		{"A groomer's book", "groomer-{groomer_id}", "the groomer's ID", "salon.booking.v1", groomer.Catalog()},
		{"Chat", "chat-{room_id}", "the room's ID", "salon.chat.v1", chat.Catalog()},
		{"Inbox", "inbox-{role}-{sub}", "the person, `{role}:{sub}`", "salon.booking.v1", inbox.Catalog()},
		{"Admins", "admin-{role}-{sub}", "the caller, `{role}:{sub}`", "", admin.Catalog()},
	}
}

// streamOf are the types that stand in another stream than their family's.
var streamOf = map[string]string{chat.ReadMarked{}.EventType(): "chatread-{room_id}-{role}"}

// TestEventsDocument holds docs/events.md to the code; with -update it writes it.
func TestEventsDocument(t *testing.T) {
	t.Parallel()
	var listed int
	for _, f := range families() {
		listed += len(f.events)
	}
	if listed != len(eventstore.Catalog().Types()) {
		t.Fatalf("families() lists %d types, the catalogue has %d", listed, len(eventstore.Catalog().Types()))
	}
	want := describe(t)
	if *update {
		if err := os.WriteFile(document, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is stale: run `go generate ./eventstore` (-want +got):\n%s", document, d)
	}
}

func describe(t *testing.T) []byte {
	d := &describer{t: t, docs: readDocs(t), seen: map[reflect.Type]bool{}, examples: map[string][]fixture{}}
	for _, f := range fixtures(t) {
		d.examples[f.eventType] = append(d.examples[f.eventType], f)
	}
	d.line("<!-- Generated from the catalogues by `go generate ./eventstore`. Do not edit. -->")
	d.line("# Events\n")
	d.line("Every event type that is stored, by stream. A type is permanent: a compatible change is a new optional field, " +
		"anything else a new version with an upcaster in `eventstore/upcast.go`.\n")
	d.line("Beside its data each event has `position`, `stream`, `revision`, `id`, `type`, `key` (the ordering key), " +
		"`recorded_at`, a content hash, and the metadata of its command:\n")
	d.fields(reflect.TypeFor[eventstore.Metadata]())
	for _, f := range families() {
		d.line("## %s\n", f.title)
		topic := "`" + f.topic + "`"
		if f.topic == "" {
			topic = "none, it stays in the store"
		}
		d.line("Ordering key: %s. Topic: %s.\n", f.key, topic)
		d.line("| type | stream | meaning |\n|---|---|---|")
		for _, e := range f.events {
			stream := f.stream
			if s, ok := streamOf[e.EventType()]; ok {
				stream = s
			}
			meaning, _, _ := strings.Cut(d.doc(reflect.TypeOf(e)), ". ")
			d.line("| [`%s`](#%s) | `%s` | %s |", e.EventType(), strings.ReplaceAll(e.EventType(), ".", ""), stream, strings.TrimSuffix(meaning, "."))
		}
		d.line("")
		for _, e := range f.events {
			d.event(e)
		}
	}
	d.line("## Values\n")
	for len(d.values) > 0 {
		v := d.values[0]
		d.values = d.values[1:]
		d.line("### %s\n\n%s\n", v.Name(), d.doc(v))
		d.fields(v)
	}
	return append(bytes.TrimSpace(d.out.Bytes()), '\n')
}

type describer struct {
	t        *testing.T
	out      bytes.Buffer
	docs     map[string]string // by package path and type, or type and field
	examples map[string][]fixture
	values   []reflect.Type // met and still to be described
	seen     map[reflect.Type]bool
}

func (d *describer) line(format string, args ...any) { fmt.Fprintf(&d.out, format+"\n", args...) }

func (d *describer) event(e domain.Event) {
	d.line("### %s\n\n%s\n", e.EventType(), d.doc(reflect.TypeOf(e)))
	d.fields(reflect.TypeOf(e))
	for _, x := range d.examples[e.EventType()] {
		d.line("<details><summary>%s</summary>\n\n```json\n%s```\n\n</details>\n", strings.TrimSuffix(x.file, ".json"), x.data)
	}
}

// doc is the Go comment of a type: what is said in the code is said here.
func (d *describer) doc(t reflect.Type) string {
	text := d.docs[t.PkgPath()+"."+t.Name()]
	if text == "" {
		d.t.Fatalf("%s.%s has no comment", t.PkgPath(), t.Name())
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, t.Name()+" "), "is ")
	return strings.ToUpper(text[:1]) + d.storedNames(t, text[1:])
}

// goName is a name of two words or more, which no sentence has by chance.
var goName = regexp.MustCompile(`\b[A-Z][a-z]+([A-Z][A-Za-z]*)+\b`)

// storedNames puts the names of fields and events as they are stored in the place of Go's.
func (d *describer) storedNames(t reflect.Type, text string) string {
	return goName.ReplaceAllStringFunc(text, func(name string) string {
		if f, ok := t.FieldByName(name); ok {
			stored, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return "`" + stored + "`"
		}
		for _, family := range families() {
			for _, e := range family.events {
				if reflect.TypeOf(e).Name() == name {
					return "`" + e.EventType() + "`"
				}
			}
		}
		return name
	})
}

func (d *describer) fields(t reflect.Type) {
	d.line("| field | type | |\n|---|---|---|")
	d.rows(t)
	d.line("")
}

func (d *describer) rows(t reflect.Type) {
	for f := range t.Fields() {
		if f.Anonymous {
			d.rows(f.Type)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		about := d.storedNames(t, d.docs[t.PkgPath()+"."+t.Name()+"."+f.Name])
		if options != "" {
			about = strings.TrimSuffix("optional; "+about, "; ")
		}
		d.line("| `%s` | %s | %s |", name, d.typeName(f.Type), about)
	}
}

// typeName is the type as JSON has it; a value of ours is described in a section of its own.
func (d *describer) typeName(t reflect.Type) string {
	switch {
	case t.String() == "time.Time":
		return "time"
	case t.String() == "uuid.UUID":
		return "UUID"
	case t == reflect.TypeFor[[]byte]():
		return "bytes (base64)"
	case t.Kind() == reflect.Slice:
		return "list of " + d.typeName(t.Elem())
	case t.Kind() == reflect.Struct:
		if !d.seen[t] {
			d.seen[t] = true
			d.values = append(d.values, t)
		}
		return fmt.Sprintf("[%s](#%s)", t.Name(), strings.ToLower(t.Name()))
	case t.PkgPath() != "":
		return fmt.Sprintf("%s (%s)", t.Kind(), t.Name())
	case strings.HasPrefix(t.Kind().String(), "int"), strings.HasPrefix(t.Kind().String(), "uint"):
		return "integer"
	}
	return t.Kind().String()
}

// readDocs reads the comments of all types and fields that an event may have.
func readDocs(t *testing.T) map[string]string {
	docs := map[string]string{}
	for _, folder := range []string{"domain", "domain/groomer", "domain/chat", "domain/inbox", "domain/admin", "domain/schedule", "eventstore"} {
		files, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				g, ok := decl.(*ast.GenDecl)
				if !ok || g.Tok != token.TYPE {
					continue
				}
				for _, spec := range g.Specs {
					readType(docs, "github.com/dangdangsalon/salon/"+folder, g, spec.(*ast.TypeSpec))
				}
			}
		}
	}
	return docs
}

func readType(docs map[string]string, folder string, g *ast.GenDecl, s *ast.TypeSpec) {
	of := folder + "." + s.Name.Name
	docs[of] = oneLine(g.Doc.Text())
	body, ok := s.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range body.Fields.List {
		for _, n := range f.Names {
			docs[of+"."+n.Name] = oneLine(f.Doc.Text() + " " + f.Comment.Text())
		}
	}
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
}
