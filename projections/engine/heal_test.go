package engine

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// Retention took records that nobody had read: the store has them.
func TestALogThatBeginsAfterOurOffsetIsFilledFromTheStore(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]Target{"sql": SQL, "redis": Redis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sqliteURL(t))
			p, table := counters()
			first, second := newProgress(), newProgress()
			w.log.addMany(50, 5000)
			w.start(w.relay().Run)
			other, _ := counters()
			w.start(w.runner(other, first).Run) // tells when the log has it all
			first.wait(t, w.log.last(w.partitions))
			w.cutLog(p.Topics[0], 400)
			r := w.runner(p, second)
			if target == Redis {
				p.Target, p.Behind = Redis, "counters"
				r.Projection, r.Redis = p, redisClient(t, "redis://"+miniredis.RunT(t).Addr()+"/0")
			}
			w.start(r.Run)
			second.wait(t, w.log.last(w.partitions))
			filled := int64(0)
			for _, s := range r.Status() {
				filled += s.Filled
			}
			if filled < 4*400 {
				t.Errorf("%d events are said to have come from the store", filled)
			}
			w.log.addMany(50, 500)
			second.wait(t, w.log.last(w.partitions))
			if target == Redis {
				same(t, w.log.want(t), viewRows(t, w.view(r), table, w.log))
				return
			}
			w.equal(table)
		})
	}
}

// cutLog removes the records of each partition below an offset, as retention does.
func (w *world) cutLog(topic string, below int64) {
	w.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	var cut kadm.Offsets
	for part := range int32(w.partitions) { //nolint:gosec // a partition count
		cut.AddOffset(w.prefix+topic, part, below, -1)
	}
	answers, err := kadm.NewClient(client).DeleteRecords(w.t.Context(), cut)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) view(r *Runner) *View {
	return &View{Redis: r.Redis, Projection: r.Projection, Partitions: func(context.Context, string) (int, error) { return w.partitions, nil }}
}

// A log that lacks records in its midst, and a marker that tells of events which the log does not have.
func TestAHoleIsFilledFromTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	w.partitions = 1
	w.prefix = "one."
	w.topics()
	p, table := counters()
	seen := newProgress()
	w.log.addMany(10, 1000)
	records := w.log.records(0, 1)
	mark := func(pos, prev uint64) *kgo.Record {
		m := wire.Marker{Incarnation: "test-2", At: w.log.place(pos), Prev: w.log.place(prev)}
		r := &kgo.Record{}
		for _, h := range m.Headers() {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
		}
		return r
	}
	written := append([]*kgo.Record{}, records[:100]...)
	written = append(written, records[400:500]...) // after a hole
	written = append(written, records[410:420]...) // a duplicate
	written = append(written, mark(700, 700))      // which names events that are not in the log
	written = append(written, records[650:800]...)
	written = append(written, mark(1000, 1000))
	w.write(p.Topics[0], written)
	r := w.runner(p, seen)
	w.start(r.Run)
	seen.wait(t, w.log.last(1))
	w.equal(table)
	status := eventually(t, func() (PartitionStatus, bool) { // written after those who watch were told
		s := r.Status()
		return s[0], s[0].LastPos == w.log.last(1)[0]
	})
	if status.Filled != 300+200+200 || status.Incarnation != "test-2" || status.Lag() != 0 {
		t.Errorf("%+v", status)
	}

	// Killed in the midst of a fill, it goes on from the last portion.
	again, other := counters()
	killed := w.runner(again, newProgress())
	killed.Store = breaking{w.log, 300}
	stop := w.start(killed.Run)
	eventually(t, func() (uint64, bool) {
		for _, s := range killed.Status() {
			if s.Error != "" {
				return s.LastPos, true
			}
		}
		return 0, false
	})
	stop()
	finished := newProgress()
	w.start(w.runner(again, finished).Run)
	finished.wait(t, w.log.last(1))
	w.equal(other)
}

// A store that does not have what the log names is another history: nothing of it is applied.
func TestAStoreThatLacksTheRecordsEventFillsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	w.partitions = 1
	w.prefix = "one."
	w.topics()
	p, _ := counters()
	seen := newProgress()
	w.log.addMany(10, 100)
	w.write(p.Topics[0], append(w.log.records(0, 1)[:10:10], w.log.records(0, 1)[50:]...))
	restored := newLog()
	restored.addMany(10, 100)
	r := w.runner(p, seen)
	r.Store = restored
	w.start(r.Run)
	status := eventually(t, func() (PartitionStatus, bool) {
		for _, s := range r.Status() {
			if s.Error != "" {
				return s, true
			}
		}
		return PartitionStatus{}, false
	})
	if !strings.Contains(status.Error, "another one") || status.LastPos != 10 {
		t.Errorf("at %d: %s", status.LastPos, status.Error)
	}
}

// breaking is a store that fails after some events.
type breaking struct {
	*log
	after int
}

func (b breaking) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := 0
		for e, err := range b.log.ReadAll(ctx, after, f) {
			if n++; n > b.after && f.StreamPrefix == "" {
				yield(eventstore.Recorded{}, eventstore.ErrUnavailable)
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// A topic that was deleted and made again is refused until somebody says that it is meant to be.
func TestATopicMadeAgainIsRefusedUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	p, table := counters()
	seen := newProgress()
	w.log.addMany(50, 500)
	stopRelay := w.start(w.relay().Run)
	grouped := func() *Runner {
		r := w.runner(p, seen)
		r.Alone, r.SessionTimeout = false, 6*time.Second
		return r
	}
	stop := w.start(grouped().Run)
	seen.wait(t, w.log.last(w.partitions))
	stop()
	stopRelay()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.DeleteTopics(t.Context(), p.Topics[0]); err != nil {
		t.Fatal(err)
	}
	w.topics()
	w.start(w.relay().Run)
	var refused *TopicReplacedError
	if _, err := grouped().tryPrepare(t.Context()); !errors.As(err, &refused) {
		t.Fatalf("want a refusal, got %v", err)
	}
	w.start(grouped().Run)
	if err := AcceptTopics(t.Context(), w.db, w.brokers, w.prefix, p.Topics); err != nil {
		t.Fatal(err)
	}
	w.log.addMany(50, 500)
	seen.wait(t, w.log.last(w.partitions))
	w.equal(table)
}

// write puts records into partition 0, as they are.
func (w *world) write(topic string, records []*kgo.Record) {
	w.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	for _, r := range records {
		r.Topic, r.Partition = w.prefix+topic, 0
		copied := *r
		if err := client.ProduceSync(w.t.Context(), &copied).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// place names the event at a position.
func (l *log) place(pos uint64) wire.Place {
	e := l.snapshot()[pos-1]
	return wire.Place{Position: pos, Stream: e.Stream, Revision: e.Revision, ID: e.ID}
}

// A partition that has records and brings none is deaf; one that has brought them all, or has some in hand, is not.
func TestAClientThatBringsNothingIsNoticed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(w *worker)
		deaf    bool
	}{
		"nothing comes":         {func(*worker) {}, true},
		"all has come":          {func(w *worker) { w.tail = 9 }, false},
		"records wait":          {func(w *worker) { w.pending = []*kgo.Record{{Offset: 4}} }, false},
		"it is not ours":        {func(w *worker) { w.status.Claimed = false }, false},
		"the log ends below us": {func(w *worker) { w.tail = 12 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(&subscriber{r: &Runner{}}, 0)
			defer w.lose()
			w.tail, w.status.Claimed = 5, true
			c.prepare(w)
			n := 0
			for range deaf + 2 { // the first look has none before it
				n = w.hears(9)
			}
			if n > deaf != c.deaf {
				t.Errorf("after %d looks: %d", deaf+2, n)
			}
			if w.status.LogEnd != 9 {
				t.Errorf("the log's end is not noted: %d", w.status.LogEnd)
			}
			w.tail++
			if n := w.hears(9); n != 0 {
				t.Errorf("something came, and still: %d", n)
			}
		})
	}
}
