package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	domaininbox "github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/reads"
)

// life is a random life of two salons and a chat, recorded in a store and projected into a reads database command by
// command, as the live engine does.
type life struct {
	*world

	random *rand.Rand
	log    *foldtest.Log
	salons []*foldtest.Salon
	noted  int // events of the log that are in the store
	seq    uint64
	holds  int

	db      *reads.DB
	applied uint64
	then    []capture
}

// capture is the live rows right after a command: by projection, ordering key, and row.
type capture struct {
	position uint64
	rows     map[string]map[string]map[string]any
}

const room = "kim.00000000000000000000000001" // of the first reservation

func newLife(t *testing.T, w *world) *life {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := &life{world: w, random: rand.New(rand.NewPCG(seed, 0)), log: foldtest.NewLog()} //nolint:gosec // a test's dice
	db, err := reads.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "reads.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.db = db
	if err := engine.EnsureTables(t.Context(), db, w.past.Projections...); err != nil {
		t.Fatal(err)
	}
	return l
}

// live goes on for so many commands, and captures after each.
func (l *life) live(commands int) {
	l.t.Helper()
	for range commands {
		l.step()
		for ; l.noted < len(l.log.Events); l.noted++ {
			e := l.log.Events[l.noted]
			l.append(e.Stream, e.Key, e.By, "test", e.Event)
		}
		l.project()
		l.then = append(l.then, l.capture())
	}
}

func (l *life) step() {
	if len(l.salons) < 2 {
		l.salons = append(l.salons, l.log.Open([]string{"kim", "lee"}[len(l.salons)], "Asia/Seoul", "seoul/gangnam-gu"))
		return
	}
	s := l.salons[l.random.IntN(2)]
	ana, kim := domain.Actor{ID: "ana", Role: domain.Customer}, domain.Actor{ID: "kim", Role: domain.Groomer}
	by := []domain.Actor{ana, kim}[l.random.IntN(2)]
	switch l.random.IntN(8) {
	case 0:
		var opening []domain.Event
		if l.seq == 0 {
			opening = []domain.Event{chat.Opened{RoomID: room, CustomerID: "ana", GroomerID: "kim"}}
		}
		l.seq++
		l.append(eventstore.ChatStream(room), room, by, "post_message", append(opening, chat.MessagePosted{
			RoomID: room, Seq: l.seq, Sender: by, ClientMessageID: strconv.FormatUint(l.seq, 10), Text: foldtest.Seal(by.Subject(), fmt.Sprint("안녕 ", l.seq)),
		})...)
	case 1:
		if l.seq > 0 {
			l.append(eventstore.ChatReadStream(room, string(by.Role)), room, by, "mark_read", chat.ReadMarked{RoomID: room, Reader: by, Seq: l.seq})
		}
	case 2:
		l.append(eventstore.InboxStream(ana), ana.Subject(), ana, "read_inbox", domaininbox.Read{Reader: ana, Through: l.applied})
	case 3:
		l.holds++
		id := fmt.Sprintf("%s.h%025d", s.ID, l.holds)
		from := time.Now().Add(time.Duration(l.holds) * time.Hour).UTC().Truncate(time.Second)
		s.Record(domain.Actor{ID: s.ID, Role: domain.Groomer}, groomer.TimeOffAdded{
			TimeOffID: id, From: from, To: from.Add(time.Hour), Reason: foldtest.Seal("groomer:"+s.ID, "병원"),
		})
		if l.random.IntN(2) == 0 {
			s.Record(domain.Actor{ID: s.ID, Role: domain.Groomer}, groomer.TimeOffRemoved{TimeOffID: id})
		}
	default:
		l.visit(s)
	}
}

// visit is a step of a visit to come: a calendar forgets those that are over, by the time at which events are recorded.
func (l *life) visit(s *foldtest.Salon) {
	start := time.Now().UTC().Truncate(15*time.Minute).AddDate(0, 0, 1+l.random.IntN(5)).Add(time.Duration(l.random.IntN(40)) * 15 * time.Minute)
	i := l.random.IntN(len(s.Visits) + 2)
	if i >= len(s.Visits) {
		s.Request(fmt.Sprintf("c%d", l.random.IntN(3)), start)
		return
	}
	v := s.Visits[i]
	move := func(v *foldtest.Visit) { s.Move(v, start) }
	cancel := func(v *foldtest.Visit) { s.Cancel(v, 25*l.random.IntN(5)) }
	steps := map[groomer.Status][]func(*foldtest.Visit){
		groomer.StatusRequested: {s.Confirm, s.Decline, s.Expire, move, cancel},
		groomer.StatusConfirmed: {s.CheckIn, s.Miss, move, cancel, s.Remind},
		groomer.StatusCheckedIn: {s.Complete},
	}[v.Status]
	if len(steps) > 0 {
		steps[l.random.IntN(len(steps))](v)
	}
}

// project has the live engine's own code write what is new.
func (l *life) project() {
	l.t.Helper()
	var fresh []eventstore.Recorded
	for r, err := range l.store.ReadAll(l.t.Context(), l.applied, eventstore.Filter{}) {
		if err != nil {
			l.t.Fatal(err)
		}
		fresh = append(fresh, r)
	}
	for _, p := range l.past.Projections {
		d := engine.NewDecoder(l.past.Codec, p)
		for _, topic := range p.Topics {
			var events []engine.Event
			for _, r := range fresh {
				if wire.TopicOf(r.Stream) != topic {
					continue
				}
				if e, wanted, err := d.Event(p, r); err != nil {
					l.t.Fatal(err)
				} else if wanted {
					events = append(events, e)
				}
			}
			if err := engine.Apply(l.t.Context(), l.db, p, topic, 0, 1, "test", events); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	if len(fresh) > 0 {
		l.applied = fresh[len(fresh)-1].Position
	}
}

// capture reads every row of every table, as the driver gives it and nothing of audit's has touched it.
func (l *life) capture() capture {
	l.t.Helper()
	c := capture{l.applied, map[string]map[string]map[string]any{}}
	for _, p := range l.past.Projections {
		c.rows[p.ID()] = map[string]map[string]any{}
		for _, table := range p.Tables {
			d := table.Def().At(p.Version)
			rows, err := l.db.Reader().QueryContext(l.t.Context(), "SELECT "+d.ColumnList("")+", ordering_key FROM "+d.Name(p.Version))
			if err != nil {
				l.t.Fatal(err)
			}
			for rows.Next() {
				values, pointers := make([]any, len(d.Columns)+1), []any{}
				for i := range values {
					pointers = append(pointers, &values[i])
				}
				if err := rows.Scan(pointers...); err != nil {
					l.t.Fatal(err)
				}
				key := fmt.Sprint(values[len(d.Columns)])
				if c.rows[p.ID()][key] == nil {
					c.rows[p.ID()][key] = map[string]any{}
				}
				name := d.Base
				for _, i := range d.PK {
					name += pointer(fmt.Sprint(values[i]))
				}
				c.rows[p.ID()][key][name] = l.shown(d, values)
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	return c
}

// shown is a stored row as an answer should show it: written once more, apart from what audit does.
func (l *life) shown(d *engine.Def, values []any) map[string]any {
	out := map[string]any{}
	for i, c := range d.Columns {
		switch v := values[i].(type) {
		case int64:
			out[c.Name] = json.Number(strconv.FormatInt(v, 10))
			if c.Kind == engine.Time {
				out[c.Name] = nil
				if v != 0 {
					out[c.Name] = time.UnixMicro(v).UTC().Format(time.RFC3339Nano)
				}
			}
		case string:
			out[c.Name] = v
			if c.Kind == engine.JSON {
				out[c.Name] = opened(asJSON(l.t, json.RawMessage(v)))
			}
		default:
			l.t.Fatalf("column %s is a %T", c.Name, v)
		}
	}
	return out
}

// opened opens foldtest's texts: their cipher is the text.
func opened(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if _, sealed := v["c"]; sealed && len(v) == 3 {
			cipher, _ := v["c"].(string)
			var plain []byte
			_ = json.Unmarshal([]byte(strconv.Quote(cipher)), &plain)
			if len(plain) == 0 {
				return nil
			}
			return string(plain)
		}
		for k := range v {
			v[k] = opened(v[k])
		}
	case []any:
		for i := range v {
			v[i] = opened(v[i])
		}
	}
	return v
}

// numbers makes what SQL keeps as a number one.
func numbers(row map[string]any) map[string]any {
	for k, v := range row {
		if b, ok := v.(bool); ok {
			row[k] = json.Number("0")
			if b {
				row[k] = json.Number("1")
			}
		}
	}
	return row
}

// rowsAt asks for a key's rows and lists them by name; nil when there are none.
func (l *life) rowsAt(p engine.Projection, key, at string) map[string]any {
	l.t.Helper()
	got, err := l.past.Rows(l.t.Context(), p.ID(), key, l.moment("at", at), MostRows)
	if errors.Is(err, errNoRow) || errors.Is(err, errBefore) {
		return nil
	}
	if err != nil {
		l.t.Fatal(err)
	}
	if got.Key != key { // rows of another key, which have this one's name
		return nil
	}
	if got.Stopped != nil || got.Total != len(got.Rows) {
		l.t.Fatalf("%s of %s: %+v", p.ID(), key, got)
	}
	out := map[string]any{}
	for _, r := range got.Rows {
		row := asJSON(l.t, r.Row).(map[string]any)
		name := r.Table
		for _, table := range p.Tables {
			if d := table.Def(); d.Base == r.Table {
				for _, i := range d.PK {
					name += pointer(fmt.Sprint(row[d.Columns[i].Name]))
				}
			}
		}
		out[name] = row
	}
	return out
}

func TestRowsAsOfThenAreWhatTheLiveRowsWere(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		l := newLife(t, w)
		l.live(50)
		keys := map[string]bool{}
		for _, c := range l.then {
			for _, rows := range c.rows {
				for key := range rows {
					keys[key] = true
				}
			}
		}
		looked := 0
		each := 1
		if _, all := w.store.(*sqlite.Store); !all {
			each = 6 // the same folds
		}
		for i := len(l.then) - 1; i >= 0; i -= each {
			c := l.then[i]
			for _, p := range l.past.Projections {
				for key := range keys {
					want := map[string]any{}
					for name, row := range c.rows[p.ID()][key] {
						want[name] = row
					}
					got := l.rowsAt(p, key, fmt.Sprintf("position:%d", c.position))
					for _, row := range got {
						numbers(row.(map[string]any))
					}
					if got == nil {
						got = map[string]any{}
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("%s, key %s, position %d (-live then +as of)\n%s", p.ID(), key, c.position, diff)
					}
					looked += len(want)
				}
			}
		}
		if looked < 100 {
			t.Errorf("only %d rows were there to compare", looked)
		}
	})
}

func TestADifferenceLeadsFromOneStateToTheOther(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		l := newLife(t, w)
		l.live(50)
		events := l.all()
		for range 5 {
			i, j := l.random.IntN(len(events)), l.random.IntN(len(events))
			from, to := events[min(i, j)].Position, events[max(i, j)].Position
			for _, stream := range []string{"groomer-kim", "chat-" + room, "inbox-customer-ana"} {
				l.streamLeads(stream, from, to)
			}
			for _, p := range l.past.Projections {
				for _, key := range []string{"kim", room} {
					l.rowsLead(p, key, from, to)
				}
			}
		}
	})
}

func (l *life) fieldsOfStream(stream string, position uint64) (map[string]any, bool) {
	l.t.Helper()
	s, err := l.past.State(l.t.Context(), stream, l.moment("at", fmt.Sprintf("position:%d", position)))
	if errors.Is(err, errBefore) || errors.Is(err, errStream("")) {
		return map[string]any{}, false
	}
	if err != nil {
		l.t.Fatal(err)
	}
	out := map[string]any{}
	for k, v := range s.State {
		leaves("/"+k, asJSON(l.t, v), out)
	}
	return out, true
}

func (l *life) fieldsOfRows(p engine.Projection, key string, position uint64) map[string]any {
	l.t.Helper()
	out := map[string]any{}
	for name, row := range l.rowsAt(p, key, fmt.Sprintf("position:%d", position)) {
		for column, v := range row.(map[string]any) {
			leaves("/"+name+"/"+column, v, out)
		}
	}
	return out
}

// leaves are the fields of an object; of one without any, none.
func leaves(at string, v any, into map[string]any) {
	if o, ok := v.(map[string]any); ok {
		for k, v := range o {
			leaves(at+"/"+k, v, into)
		}
		return
	}
	into[at] = v
}

func (l *life) streamLeads(stream string, from, to uint64) {
	l.t.Helper()
	before, _ := l.fieldsOfStream(stream, from)
	after, there := l.fieldsOfStream(stream, to)
	d, err := l.past.Diff(l.t.Context(), stream, l.moment("from", fmt.Sprintf("position:%d", from)), l.moment("to", fmt.Sprintf("position:%d", to)), MostChanges)
	if !there {
		if !errors.Is(err, errBefore) && !errors.Is(err, errStream("")) {
			l.t.Fatalf("%s is not there at %d, and the difference: %v", stream, to, err)
		}
		return
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.leads(stream, d, before, after, func(position uint64) map[string]any {
		fields, _ := l.fieldsOfStream(stream, position)
		return fields
	})
}

func (l *life) rowsLead(p engine.Projection, key string, from, to uint64) {
	l.t.Helper()
	before, after := l.fieldsOfRows(p, key, from), l.fieldsOfRows(p, key, to)
	d, err := l.past.RowsDiff(l.t.Context(), p.ID(), key, l.moment("from", fmt.Sprintf("position:%d", from)), l.moment("to", fmt.Sprintf("position:%d", to)), MostChanges)
	if len(before)+len(after) == 0 {
		if err == nil && d.Of != p.ID()+"/"+key {
			return // rows of another key, which have this one's name
		}
		if !errors.Is(err, errNoRow) && !errors.Is(err, errBefore) {
			l.t.Fatalf("%s has no rows of %s, and the difference: %v", p.ID(), key, err)
		}
		return
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.leads(p.ID()+"/"+key, d, before, after, func(position uint64) map[string]any { return l.fieldsOfRows(p, key, position) })
}

// leads checks that the changes made to what was give what is, and that each is of the event that they name: the last one
// right before which the field was another. It looks at the states alone.
func (l *life) leads(of string, d Diff, before, after map[string]any, at func(position uint64) map[string]any) {
	l.t.Helper()
	got := maps.Clone(before)
	for _, c := range asJSON(l.t, d).(map[string]any)["changes"].([]any) {
		change := c.(map[string]any)
		field := change["field"].(string)
		old, had := before[field]
		if was, said := change["before"]; had != said || !reflect.DeepEqual(old, was) {
			l.t.Fatalf("%s %s was %v (%t), not %v (%t)", of, field, old, had, was, said)
		}
		delete(got, field)
		if v, is := change["after"]; is {
			got[field] = v
		}
	}
	if diff := cmp.Diff(after, got); diff != "" {
		l.t.Fatalf("%s from %d to %d (-there then +by the changes)\n%s", of, d.From.Position, d.To.Position, diff)
	}
	if len(d.Changes) == 0 {
		return
	}
	c := d.Changes[l.random.IntN(len(d.Changes))]
	events := l.all()
	i := slices.IndexFunc(events, func(r eventstore.Recorded) bool { return r.Position == c.Event.Position })
	if i < 0 || events[i].ID != c.Event.ID || events[i].Type != c.Event.Type || !events[i].RecordedAt.Equal(c.At) {
		l.t.Fatalf("%s %s is said to be of %+v", of, c.Field, c.Cause)
	}
	if m, err := eventstore.DecodeMetadata(events[i].Metadata); err != nil || m.Actor.ID != c.Actor.ID || string(m.Actor.Role) != c.Actor.Role || m.CommandID != c.Command.ID || m.Command != c.Command.Name {
		l.t.Fatalf("%s %s is said to be of %+v, not %+v, %v", of, c.Field, c.Cause, m, err)
	}
	was := map[string]any{}
	if i > 0 {
		was = at(events[i-1].Position)
	}
	is := at(events[i].Position)
	if reflect.DeepEqual(was[c.Field], is[c.Field]) {
		_, wasThere := was[c.Field]
		if _, there := is[c.Field]; wasThere == there {
			l.t.Fatalf("%s %s did not change by the event at %d", of, c.Field, c.Event.Position)
		}
	}
	for _, r := range events[i+1:] {
		if r.Position > d.To.Position {
			break
		}
		if l.random.IntN(4) > 0 {
			continue
		}
		if now := at(r.Position); !reflect.DeepEqual(now[c.Field], is[c.Field]) {
			l.t.Fatalf("%s %s changed again by the event at %d, after %d", of, c.Field, r.Position, c.Event.Position)
		}
	}
}

func TestATimeIsTheLastEventRecordedByThen(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		for i := range 50 {
			w.append("inbox-customer-ana", "customer:ana", domain.Actor{ID: "ana", Role: domain.Customer}, "read_inbox", slices.Repeat([]domain.Event{domaininbox.Read{Through: uint64(i)}}, 1+i%3)...)
		}
		events := w.all()
		random := rand.New(rand.NewPCG(rand.Uint64(), 0)) //nolint:gosec // a test's dice
		for range 300 {
			e, bound := events[random.IntN(len(events))], events[random.IntN(len(events))].Position+uint64(random.IntN(2)) //nolint:gosec // small
			at := e.RecordedAt.Add(time.Duration(random.IntN(3)-1) * time.Microsecond)
			var want eventstore.Place
			for _, r := range events {
				if r.Position <= bound && !r.RecordedAt.After(at) {
					want = eventstore.Place{Position: r.Position, At: r.RecordedAt}
				}
			}
			got, err := w.store.LastPlace(t.Context(), bound, at)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("by %s, up to %d (-want +got)\n%s", at, bound, diff)
			}
		}
		if got, err := w.store.LastPlace(t.Context(), 1<<63, events[0].RecordedAt.Add(-time.Hour)); err != nil || got.Position != 0 {
			t.Errorf("before the first event: %+v, %v", got, err)
		}
	})
}
