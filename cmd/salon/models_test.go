package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// place is one partition of one topic.
type place struct {
	topic string
	part  int32
}

// ends tells the last position of each partition that has events, and one ordering key of it.
func (h past) ends(partitions int) (last map[place]uint64, key map[place]string) {
	last, key = map[place]uint64{}, map[place]string{}
	for _, r := range h.recorded {
		if topic := wire.TopicOf(r.Stream); topic != "" {
			at := place{topic, eventstore.Partition(r.Key, partitions)}
			last[at], key[at] = r.Position, r.Key
		}
	}
	return last, key
}

// models are the read models of a system.
type models struct {
	db         *reads.DB
	redis      *redis.Client // nil: without views
	partitions int
}

func (m models) view(p engine.Projection) *engine.View {
	return &engine.View{Redis: m.redis, Projection: p, Partitions: func(context.Context, string) (int, error) { return m.partitions, nil }}
}

// caughtUp waits until every projection has folded the whole history.
func (m models) caughtUp(t *testing.T, h past) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last any = "not asked yet"
	for {
		behind, err := m.behind(ctx, h)
		if err == nil && len(behind) == 0 {
			return
		}
		if ctx.Err() == nil {
			if last = behind; err != nil {
				last = err
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not caught up in a minute: %v", last)
		case <-tick.C:
		}
	}
}

// behind lists the partitions that have not come to the end of the history.
func (m models) behind(ctx context.Context, h past) (behind []string, err error) {
	last, keys := h.ends(m.partitions)
	var places []engine.Place
	err = m.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) (err error) {
		places, err = engine.Places(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	at := map[string]uint64{}
	for _, p := range places {
		at[fmt.Sprint(p.Projection, p.Topic, p.Part)] = p.LastPos
	}
	for _, p := range allProjections() {
		for where, want := range last {
			if !slices.Contains(p.Topics, where.topic) || p.Target == engine.Redis && m.redis == nil {
				continue
			}
			got := at[fmt.Sprint(p.ID(), where.topic, where.part)]
			if p.Target == engine.Redis {
				rows, err := m.view(p).Read(ctx, engine.Serving{Version: 1}, where.topic, keys[where])
				if err != nil {
					return nil, err
				}
				if got = rows.Position; !rows.Whole {
					got = 0
				}
			}
			if got < want {
				behind = append(behind, fmt.Sprintf("%s of %s/%d stands at %d, not at %d", p.ID(), where.topic, where.part, got, want))
			}
		}
	}
	return behind, nil
}

// differences compares rows by their primary keys, column by column. A column may have what the row of also has instead.
func differences(d *engine.Def, want, also, got []any) (diff []string, err error) {
	index := func(rows []any) (map[string][]any, error) {
		out := map[string][]any{}
		for _, r := range rows {
			values, err := d.Values(r)
			if err != nil {
				return nil, err
			}
			var key []string
			for _, c := range d.PK {
				key = append(key, fmt.Sprint(values[c]))
			}
			out[strings.Join(key, " ")] = values
		}
		return out, nil
	}
	wanted, err := index(want)
	if err != nil {
		return nil, err
	}
	instead, err := index(also)
	if err != nil {
		return nil, err
	}
	found, err := index(got)
	if err != nil {
		return nil, err
	}
	for key, w := range wanted {
		g, there := found[key]
		if !there {
			diff = append(diff, fmt.Sprintf("%s lacks the row %s", d.Base, key))
			continue
		}
		for i, c := range d.Columns {
			if other := instead[key]; w[i] != g[i] && (other == nil || other[i] != g[i]) {
				diff = append(diff, fmt.Sprintf("%s, row %s: %s is %v, the fold says %v", d.Base, key, c.Name, g[i], w[i]))
			}
		}
	}
	for key := range found {
		if _, there := wanted[key]; !there {
			diff = append(diff, fmt.Sprintf("%s has the row %s, the fold has none", d.Base, key))
		}
	}
	return diff, nil
}

// equalFold compares every row of every table and view with the fold of the history.
func (m models) equalFold(ctx context.Context, h past) (wrong []string, err error) {
	for _, p := range allProjections() {
		if p.Target == engine.Redis && m.redis == nil {
			continue
		}
		u, err := h.fold(p)
		if err != nil {
			return nil, err
		}
		// A view that was filled again knows what the one behind it knows: how many messages a mark has read, for one.
		behind := engine.NewUnit()
		for _, b := range allProjections() {
			if b.Name == p.Behind {
				if behind, err = h.fold(b); err != nil {
					return nil, err
				}
			}
		}
		var held map[*engine.Def][]any
		if p.Target == engine.Redis {
			held, err = m.viewed(ctx, h, p)
		} else {
			held, err = m.stored(ctx, p)
		}
		if err != nil {
			return nil, err
		}
		for _, t := range p.Tables {
			diff, err := differences(t.Def(), u.Rows(t.Def()), behind.Rows(t.Def()), held[t.Def()])
			if err != nil {
				return nil, err
			}
			for _, s := range diff {
				wrong = append(wrong, p.ID()+": "+s)
			}
		}
	}
	return wrong, nil
}

// fold is a projection of the whole history, in memory.
func (h past) fold(p engine.Projection) (*engine.Unit, error) {
	u := engine.NewUnit()
	for _, e := range h.events {
		if slices.Contains(p.Topics, wire.TopicOf(e.Stream)) {
			if err := u.Replay(p, e); err != nil {
				return nil, err
			}
		}
	}
	return u, nil
}

// stored reads all rows of a projection's tables.
func (m models) stored(ctx context.Context, p engine.Projection) (map[*engine.Def][]any, error) {
	out := map[*engine.Def][]any{}
	err := m.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) (err error) {
		for _, t := range p.Tables {
			if out[t.Def()], err = engine.QueryAll(ctx, q, t.Def(), p.Version); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// viewed reads a view's rows key by key, as the screens do.
func (m models) viewed(ctx context.Context, h past, p engine.Projection) (map[*engine.Def][]any, error) {
	out, read := map[*engine.Def][]any{}, map[string]bool{}
	for _, e := range h.events {
		topic := wire.TopicOf(e.Stream)
		if !slices.Contains(p.Topics, topic) || read[e.Key] {
			continue
		}
		read[e.Key] = true
		rows, err := m.view(p).Read(ctx, engine.Serving{Version: 1}, topic, e.Key)
		if err != nil || !rows.Whole {
			return nil, fmt.Errorf("view of %s: whole %v, %w", e.Key, rows.Whole, err)
		}
		for _, t := range p.Tables {
			of, err := rows.Rows(t.Def())
			if err != nil {
				return nil, err
			}
			out[t.Def()] = append(out[t.Def()], of...)
		}
	}
	return out, nil
}

// logged checks what Kafka holds: in each partition the store's events in the store's order, the first occurrences
// complete, each naming the one before it (G3).
func logged(ctx context.Context, brokers, prefix string, partitions int, h past) (wrong []string, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ConsumeTopics(prefix+wire.BookingTopic, prefix+wire.ChatTopic))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, prefix+wire.BookingTopic, prefix+wire.ChatTopic)
	if err != nil {
		return nil, err
	}
	missing := int64(0)
	listed.Each(func(o kadm.ListedOffset) { missing += o.Offset })
	records := map[place][]wire.Record{}
	for missing > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for r := range fetches.RecordsAll() {
			missing--
			at := place{strings.TrimPrefix(r.Topic, prefix), r.Partition}
			header := func(name string) string {
				for _, h := range r.Headers {
					if h.Key == name {
						return string(h.Value)
					}
				}
				return ""
			}
			if wire.IsMarker(header) {
				continue
			}
			w, err := wire.Parse(header, r.Value)
			if err != nil {
				return nil, err
			}
			records[at] = append(records[at], w)
		}
	}
	want := map[place][]eventstore.Recorded{}
	for _, r := range h.recorded {
		at := place{wire.TopicOf(r.Stream), eventstore.Partition(r.Key, partitions)}
		want[at] = append(want[at], r)
	}
	for at, events := range want {
		n, last := 0, uint64(0)
		for _, w := range records[at] {
			if w.Pos <= last {
				continue // a repetition, of a relay that was replaced
			}
			if n == len(events) || w.Prev != last || w.Event.ID != events[n].ID || w.Event.Hash != events[n].Hash || eventstore.ContentHash(w.Event) != w.Event.Hash {
				wrong = append(wrong, fmt.Sprintf("%s/%d: the first occurrence %d is position %d after %d", at.topic, at.part, n, w.Pos, w.Prev))
				break
			}
			last = w.Pos
			n++
		}
		if n < len(events) {
			wrong = append(wrong, fmt.Sprintf("%s/%d has %d of %d events", at.topic, at.part, n, len(events)))
		}
	}
	return wrong, nil
}
