package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/reads"
)

// tricky counts as added does, once the fold is mended; until then it fails as How says.
type tricky struct {
	N   int64
	How string
}

func (tricky) EventType() string { return "test.tricky.v1" }

// The ways to fail.
const (
	refused     = "refused"
	panicking   = "panicking"
	nameless    = "nameless"    // Keys panics
	undecodable = "undecodable" // the stored data is no tricky event
	tooLong     = "too long"    // the database takes no such row
)

// label is a second table, whose rows a database may refuse.
type label struct {
	Key  string `db:"key,pk"`
	Text string `db:"label"`
}

// lab is a world with a projection that can be mended.
type lab struct {
	*world
	p      Projection
	table  *Table[counter]
	redis  redis.UniversalClient
	mended atomic.Bool
	hook   atomic.Pointer[func(Event)] // called by each fold
	seen   *progress
}

func newLab(t *testing.T, w *world, client redis.UniversalClient) *lab {
	t.Helper()
	l := &lab{world: w, redis: client, seen: newProgress()}
	l.p, l.table = counters()
	labels := NewTable[label]("labels_" + l.p.Name)
	l.p.Tables = append(l.p.Tables, labels)
	l.p.Types = append(l.p.Types, tricky{})
	if client != nil {
		l.p.Target, l.p.Behind = Redis, "counters"
	}
	keys, fold := l.p.Keys, l.p.Fold
	l.p.Keys = func(e Event) []Ref {
		if x, ok := e.Event.(tricky); ok && x.How == nameless && !l.mended.Load() {
			panic("no such key")
		}
		return append(keys(e), labels.Ref(e.Key))
	}
	l.p.Fold = func(u *Unit, e Event) error {
		if hook := l.hook.Load(); hook != nil {
			(*hook)(e)
		}
		if x, ok := e.Event.(tricky); ok {
			if !l.mended.Load() {
				switch x.How {
				case refused:
					return fmt.Errorf("event of %q refused", e.Key)
				case panicking:
					panic("out of its depth")
				case tooLong:
					labels.Put(u, label{e.Key, strings.Repeat("댕", 300)})
				}
			}
			e.Event = added{x.N}
		}
		return fold(u, e)
	}
	return l
}

func (l *lab) runner() *Runner {
	r := l.world.runner(l.p, l.seen)
	r.Redis, r.FencedWait = l.redis, 10*time.Millisecond
	return r
}

func (l *lab) poison(key, how string) uint64 {
	if how == undecodable {
		return l.log.add(key, tricky{}.EventType(), "no object")
	}
	return l.log.add(key, tricky{}.EventType(), tricky{7, how})
}

// mend lets everything pass.
func (l *lab) mend() {
	l.mended.Store(true)
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	l.log.events = slices.Clone(l.log.events)
	for i, e := range l.log.events {
		if e.Type == (tricky{}).EventType() {
			l.log.events[i].Data, _ = json.Marshal(tricky{N: 7})
		}
	}
}

// expect compares the rows with the fold of the log, where each parked key ends before its position.
func (l *lab) expect(parked map[string]uint64) {
	l.t.Helper()
	d := newDecoder(eventstore.NewCodec(catalog()), Projection{}, nil)
	want := map[string]counter{}
	for _, r := range l.log.snapshot() {
		if from, waits := parked[r.Key]; waits && r.Position >= from || r.Type == (ignored{}).EventType() {
			continue
		}
		e, err := d.event(r)
		if err != nil {
			l.t.Fatal(err)
		}
		if x, ok := e.Event.(tricky); ok {
			e.Event = added{x.N}
		}
		want[r.Key] = want[r.Key].add(e)
	}
	if l.redis == nil {
		same(l.t, want, l.rows(l.table))
		return
	}
	v, got := l.view(l.runner()), map[string]counter{}
	for key := range want {
		rows, err := v.Read(l.t.Context(), Serving{Version: 1}, l.p.Topics[0], key)
		if err != nil {
			l.t.Fatal(err)
		}
		if from, waits := parked[key]; rows.Parked != waits || rows.ParkedFrom != from || !rows.Whole {
			l.t.Errorf("%q: parked %v from %d, whole %v; want %v from %d", key, rows.Parked, rows.ParkedFrom, rows.Whole, waits, from)
		}
		list, err := ViewTable(rows, l.table)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, r := range list {
			got[r.Key] = r
		}
	}
	same(l.t, want, got)
}

func (l *lab) parking() Parking { return Parking{DB: l.db, Redis: l.redis} }

func (l *lab) list() []Parked {
	l.t.Helper()
	out, err := l.parking().List(l.t.Context(), l.p)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *lab) waiting() map[string]uint64 {
	l.t.Helper()
	out := map[string]uint64{}
	for _, p := range l.list() {
		out[p.Key] = p.FromPos
	}
	return out
}

// labs runs a test on every target.
func labs(t *testing.T, run func(t *testing.T, l *lab)) {
	for name, url := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, newWorld(t, url(t)), nil)
			run(t, l)
		})
	}
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, newLab(t, newWorld(t, sqliteURL(t)), open(t)))
		})
	}
}

// limitLabels makes SQLite refuse what the others refuse by their column types.
func (l *lab) limitLabels() {
	l.t.Helper()
	if err := EnsureTables(l.t.Context(), l.db, l.p); err != nil {
		l.t.Fatal(err)
	}
	if l.db.Dialect() != reads.SQLite {
		return
	}
	name := l.p.Tables[1].Def().Name(1)
	if _, err := l.db.Writer().ExecContext(l.t.Context(), "CREATE TRIGGER limit_"+name+" BEFORE INSERT ON "+name+
		" WHEN length(new.label) > 191 BEGIN SELECT RAISE(ABORT, 'label too long'); END"); err != nil {
		l.t.Fatal(err)
	}
}
