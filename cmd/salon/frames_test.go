package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/embedded"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/projections/chatrooms"
)

// asyncDocument is the committed AsyncAPI document, as somebody who has nothing else reads it.
type asyncDocument struct {
	Operations map[string]struct {
		Action   string
		Messages []map[string]string
	}
	Channels   map[string]struct{ Messages map[string]map[string]string }
	Components struct {
		Messages map[string]struct{ Payload *huma.Schema }
		Schemas  map[string]*huma.Schema
	}
	registry huma.Registry
	seen     map[string]bool // messages
}

func readAsyncDocument(t *testing.T, served []byte) *asyncDocument {
	t.Helper()
	var d asyncDocument
	// What huma writes and does not read.
	served = regexp.MustCompile(`\[\s*"array",\s*"null"\s*\]`).ReplaceAll(served, []byte(`"array"`))
	served = bytes.ReplaceAll(served, []byte(`"$ref"`), []byte(`"ref"`))
	if err := json.Unmarshal(served, &d); err != nil {
		t.Fatal(err)
	}
	for _, s := range d.Components.Schemas {
		s.PrecomputeMessages()
		for _, p := range s.Properties {
			p.PrecomputeMessages()
		}
	}
	d.registry, d.seen = schemaMap{huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer), d.Components.Schemas}, map[string]bool{}
	return &d
}

// schemaMap finds the schemas of a document that was read.
type schemaMap struct {
	huma.Registry
	schemas map[string]*huma.Schema
}

func (m schemaMap) SchemaFromRef(ref string) *huma.Schema {
	return m.schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
}

// messages are those of the operations with this action: "receive" is what the server receives.
func (d *asyncDocument) messages(action string) (out []string) {
	for _, o := range d.Operations {
		if o.Action == action {
			for _, m := range o.Messages {
				at := d.Channels["live"].Messages[m["ref"][strings.LastIndex(m["ref"], "/")+1:]]["ref"]
				out = append(out, strings.TrimPrefix(at, "#/components/messages/"))
			}
		}
	}
	slices.Sort(out)
	return out
}

// check holds a frame to the schemas of one direction: exactly one of them is its.
func (d *asyncDocument) check(t *testing.T, action string, frame []byte) {
	t.Helper()
	var value any
	if err := json.Unmarshal(frame, &value); err != nil {
		t.Fatalf("%s: %v", frame, err)
	}
	var fits []string
	var why []error
	for _, name := range d.messages(action) {
		var result huma.ValidateResult
		huma.Validate(d.registry, d.Components.Messages[name].Payload, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, &result)
		if len(result.Errors) == 0 {
			fits = append(fits, name)
			d.seen[name] = true
		}
		why = append(why, result.Errors...)
	}
	if len(fits) != 1 {
		t.Errorf("%s is %v by the document: %v", frame, fits, why)
	}
}

// phoneLine is a socket whose every frame, both ways, is held to the document.
type phoneLine struct {
	t    *testing.T
	conn *websocket.Conn
	d    *asyncDocument
}

func (p phoneLine) says(frame string) {
	p.t.Helper()
	p.d.check(p.t, "receive", []byte(frame))
	if err := p.conn.Write(p.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		p.t.Fatal(err)
	}
}

// hears reads on until a frame of this type.
func (p phoneLine) hears(kind string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for {
		_, frame, err := p.conn.Read(ctx)
		if err != nil {
			p.t.Fatalf("waiting for a %s: %v", kind, err)
		}
		p.d.check(p.t, "send", frame)
		if bytes.Contains(frame, []byte(`{"type":"`+kind+`"`)) {
			return
		}
	}
}

// TestFramesAreAsTheDocumentSays talks over two sockets of a whole system and holds every frame that is really sent, by
// either side, to the document that the system serves. At the end there was one of each type.
func TestFramesAreAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	url, kafka, key := wholeSystem(t)
	served, err := newClient(url, "").must(t.Context(), http.MethodGet, "/asyncapi.json", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := readAsyncDocument(t, served.body)
	mint := func(who domain.Actor) string {
		token, err := key.Mint(who.ID, string(who.Role), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	room := book(t, newTown([]string{url}, nil, mint), url, kongi, minji)
	dial := func(who domain.Actor) phoneLine {
		conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/v1/live",
			&websocket.DialOptions{Subprotocols: []string{"salon.v1", "bearer." + mint(who)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.CloseNow() })
		return phoneLine{t, conn, d}
	}
	her, him := dial(minji), dial(kongi)
	in := `"room_id":"` + room + `"`
	for _, p := range []phoneLine{her, him} {
		p.says(`{"type":"subscribe",` + in + `,"after_seq":0}`)
		p.hears("subscribed")
	}
	her.hears("presence")
	her.says(`{"type":"post",` + in + `,"client_message_id":"m1","text":"hi"}`)
	her.hears("posted")
	her.hears("message")
	him.hears("message")
	him.says(`{"type":"post",` + in + `,"client_message_id":"m1","image_url":"https://pics.example/1.jpg"}`)
	him.hears("posted")
	her.hears("message")
	him.says(`{"type":"typing",` + in + `}`)
	her.hears("typing")
	her.says(`{"type":"read",` + in + `,"seq":2}`)
	him.hears("read")
	her.says(`{"type":"post",` + in + `,"client_message_id":"m2","text":""}`)
	her.hears("error")
	her.says(`{"type":"ping"}`)
	her.hears("pong")
	him.says(`{"type":"unsubscribe",` + in + `}`)
	produceGarbage(t, kafka)
	her.hears("resync")

	var missing []string
	for _, name := range append(d.messages("send"), d.messages("receive")...) {
		if !d.seen[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		t.Errorf("never seen: %v", missing)
	}
	if d.seen["Read"] && !slices.Contains(d.messages("receive"), "Read") || len(d.messages("send")) < 9 || len(d.messages("receive")) < 6 {
		t.Errorf("the document's messages: %v and %v", d.messages("send"), d.messages("receive"))
	}
}

// wholeSystem is what `salon up` is, in the test's process, so that the test can reach its broker.
func wholeSystem(t *testing.T) (url, kafka string, key *auth.LocalKey) {
	t.Helper()
	folder, err := embedded.Open(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	if key, err = auth.LoadOrGenerateKeyFile(folder.File(authKeyName)); err != nil {
		t.Fatal(err)
	}
	master, err := sealed.LoadOrCreateMaster(folder.File(masterKeyName))
	if err != nil {
		t.Fatal(err)
	}
	servers, err := embedded.Start(folder.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Close)
	listener, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tel, err := telemetryOf(t.Context(), config.Observability{}, slog.LevelError, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Close() })
	n := &node{
		servers: embeddedServers(folder, servers), http: config.HTTP{HoldTTL: time.Minute}, tel: tel, masters: [][]byte{master}, verifier: key.Verifier(),
		listener: listener, alone: true,
	}
	if err := n.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	harness.Background(t, servers.Run)
	harness.Background(t, func(ctx context.Context) error { return n.run(ctx, []role{roleCommands, roleRelay, roleLive}) })
	url = "http://" + listener.Addr().String()
	if err := awaitReady(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return url, servers.Brokers()[0], key
}

// produceGarbage writes a record to every partition of the rooms' topic that nobody can read: something is missing there.
func produceGarbage(t *testing.T, kafka string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for part := range int32(embeddedPartitions) {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: chatrooms.Topic, Partition: part, Value: []byte("?")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}
