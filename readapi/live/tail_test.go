package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/chatrooms"
)

const tailTopic = "t.chat"

// line is a log with one partition that the test writes, and a tail that follows it.
type line struct {
	t      *testing.T
	broker *harness.Broker
	client *kgo.Client
	admin  *kadm.Client
	said   chan string // what the tail says: "3", "missing", "ready", "stopped"
}

func newLine(t *testing.T, since, silence time.Duration) *line {
	t.Helper()
	l := &line{t: t, broker: harness.NewBroker(t), said: make(chan string, 1000)}
	l.connect()
	follower := &tail{
		topic: tailTopic, brokers: []string{l.broker.Addr}, since: since, silence: silence, log: slog.New(slog.DiscardHandler),
		record:  func(_ int32, r wire.Record) { l.said <- fmt.Sprint(r.Pos) },
		missing: func(int32) { l.said <- "missing" },
		ready:   func(int) { l.said <- "ready" },
		stopped: func(error) { l.said <- "stopped" },
	}
	harness.Background(t, func(ctx context.Context) error {
		follower.run(ctx)
		return nil
	})
	return l
}

// connect makes a client that knows no topic yet.
func (l *line) connect() {
	l.t.Helper()
	var err error
	if l.client, err = kgo.NewClient(kgo.SeedBrokers(l.broker.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(l.client.Close)
	l.admin = kadm.NewClient(l.client)
}

func (l *line) create() {
	l.t.Helper()
	if r, err := l.admin.CreateTopic(l.t.Context(), 1, 1, nil, tailTopic); err != nil || r.Err != nil {
		l.t.Fatal(err, r.Err)
	}
}

func (l *line) remove() {
	l.t.Helper()
	if r, err := l.admin.DeleteTopic(l.t.Context(), tailTopic); err != nil || r.Err != nil {
		l.t.Fatal(err, r.Err)
	}
}

func (l *line) write(headers []wire.Header) {
	l.t.Helper()
	rec := &kgo.Record{Topic: tailTopic, Value: []byte("{}")}
	for _, h := range headers {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	if err := l.client.ProduceSync(ctx, rec).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
}

// event writes the event at a position of a life, whose partition's former one is at prev.
func (l *line) event(life string, pos, prev uint64) {
	l.t.Helper()
	l.write(wire.Record{Pos: pos, Prev: prev, Incarnation: life, Event: eventstore.Recorded{
		Position: pos, Stream: "chat-kim.1", Key: "kim.1", ID: uuid.New(), Type: "chat.message_posted.v1", RecordedAt: time.Now(),
	}}.Headers())
}

func (l *line) marker(life string, prev uint64) {
	l.t.Helper()
	p := wire.Place{Position: prev, Stream: "chat-kim.1", ID: uuid.New()}
	l.write(wire.Marker{Incarnation: life, At: p, Prev: p}.Headers())
}

// says wants the tail to say this next, whatever stops come between.
func (l *line) says(want ...string) {
	l.t.Helper()
	var got []string
	for len(got) < len(want) {
		select {
		case s := <-l.said:
			if s != "stopped" {
				got = append(got, s)
			}
		case <-time.After(30 * time.Second):
			l.t.Fatalf("the tail says %v, and no more of %v", got, want)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Fatalf("(-want +got):\n%s", diff)
	}
}

func TestTheTailTellsEachEventOnceAndSeesWhatIsMissing(t *testing.T) {
	t.Parallel()
	l := newLine(t, time.Hour, kafkaSilent)
	for s := range l.said { // there is no topic
		if s == "stopped" {
			break
		}
	}
	l.create()
	l.says("ready")

	l.event("a", 3, 1) // it begins here: what was before is not missing
	l.event("a", 5, 3)
	l.event("a", 3, 1) // a relay that begins a while back
	l.event("a", 5, 3)
	l.event("a", 8, 5)
	l.says("3", "5", "8")

	l.event("a", 12, 10)
	l.says("missing", "12")
	l.marker("a", 12)
	l.event("a", 13, 12)
	l.says("13")
	l.marker("a", 17) // only a marker shows it
	l.says("missing")
	l.event("a", 18, 17)
	l.says("18")

	l.write([]wire.Header{{Key: "pos", Value: "nineteen"}})
	l.says("missing")
	l.event("a", 20, 19)
	l.says("missing", "20")
	l.write([]wire.Header{{Key: "marker", Value: "1"}}) // says nothing that could be missing
	l.event("a", 21, 20)
	l.says("21")

	l.event("b", 15, 14) // the store was restored, and lives on
	l.says("missing", "15")
	l.event("a", 22, 21) // somebody has not noticed
	l.marker("a", 22)
	l.event("b", 16, 15)
	l.says("16")
}

func TestTheTailGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	l := newLine(t, time.Nanosecond, kafkaSilent) // it begins at the end
	l.create()
	l.says("ready")
	l.event("a", 1, 0)
	l.says("1")

	l.broker.Close()
	l.broker.Open(t)
	l.event("a", 2, 1)
	l.says("2")

	// What it was at is gone, as after a long time away; the log is there, and shorter, as after a broker lost its end.
	l.remove()
	l.create()
	l.connect()
	l.event("a", 1, 0)
	l.event("a", 2, 1)
	l.event("a", 3, 2)
	for s := ""; s != "3"; {
		select {
		case s = <-l.said:
		case <-time.After(30 * time.Second):
			t.Fatal("the tail does not come back")
		}
		if s == "1" || s == "2" {
			t.Fatalf("it tells %s again", s)
		}
	}
	l.event("a", 4, 3)
	l.says("4")
}

// TestATailThatIsCutOffSaysSo: the client under it tries again and says nothing. A quiet log is another thing.
func TestATailThatIsCutOffSaysSo(t *testing.T) {
	t.Parallel()
	l := newLine(t, time.Hour, 2*time.Second)
	l.create()
	for s := range l.said {
		if s == "ready" {
			break
		}
	}
	quiet := time.After(5 * time.Second) // more than Kafka may say nothing
	for waiting := true; waiting; {
		select {
		case s := <-l.said:
			t.Fatalf("the tail says %q of a quiet log", s)
		case <-quiet:
			waiting = false
		}
	}
	l.broker.Close()
	select {
	case s := <-l.said:
		if s != "stopped" {
			t.Errorf("the tail says %q without Kafka", s)
		}
	case <-time.After(time.Minute):
		t.Error("the tail does not say that it hears nothing")
	}
	l.broker.Open(t)
	l.event("a", 1, 0)
	l.says("ready", "1")
}

// TestATailThatWasAwayBeginsWhereItWas: however long that was, and whatever the log has forgotten since.
func TestATailThatWasAwayBeginsWhereItWas(t *testing.T) {
	t.Parallel()
	l := newLine(t, time.Nanosecond, kafkaSilent)
	l.create()
	l.says("ready")
	for pos := range uint64(5) {
		l.event("a", pos+1, pos)
	}
	l.says("1", "2", "3", "4", "5")
	missed := 0
	other := &tail{
		topic: tailTopic, since: time.Nanosecond, next: map[int32]int64{0: 2}, missing: func(int32) { missed++ },
	}
	at, err := other.start(t.Context(), l.admin)
	if err != nil || at[0] != 2 || missed > 0 {
		t.Errorf("after two records it begins at %v, %v", at, err)
	}
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: tailTopic, At: 4})
	if _, err := l.admin.DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
	at, err = other.start(t.Context(), l.admin)
	if err != nil || at[0] < 4 || missed != 1 {
		t.Errorf("after the log lost what it has not read, it begins at %v with %d holes, %v", at, missed, err)
	}
}

// TestAnEventThatCannotBeReadConcernsItsRoomAlone: a release that knows more types writes them beside this one.
func TestAnEventThatCannotBeReadConcernsItsRoomAlone(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, func(c *Config) {
		c.Decode = func(wire.Record) (chatrooms.Change, error) {
			return chatrooms.Change{}, errors.New("of a later release")
		}
	})
	g.partitions.Store(1)
	p := g.dial("customer:c1")
	for _, room := range []string{kims, lees} {
		p.subscribe(room, 0)
		p.hears("subscribed 0")
	}
	for _, c := range []struct {
		key  string
		want []string
	}{
		{kims, []string{kims}},
		{"kim.0000000000000000000000000x", nil}, // nobody is there
		{"", []string{kims, lees}},              // whose it is cannot be told
		{"*", []string{kims, lees}},
	} {
		g.record(0, wire.Record{Event: eventstore.Recorded{Key: c.key, Type: "chat.sung.v1"}})
		told := map[string]bool{}
		for range c.want {
			f, err := p.hear()
			if err != nil {
				t.Fatal(err)
			}
			again, ok := f.(*Resync)
			if !ok {
				t.Fatalf("after an event of %q: %s", c.key, short(f))
			}
			told[again.RoomID] = true
		}
		p.still()
		for _, room := range c.want {
			if !told[room] {
				t.Errorf("after an event of %q nobody in %s begins again", c.key, room)
			}
			p.subscribe(room, 0)
			p.hears("subscribed 0")
		}
	}
}
