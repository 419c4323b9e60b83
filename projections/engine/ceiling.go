package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// What the databases themselves can do, for `salon bench project`: the rows of a run that took place, written again by
// a plain client that knows no events, no claims and no offsets.

// Plain is the rows that the batches of one run came to: partition by partition, batch by batch.
type Plain struct {
	Rows  int // written or removed, all batches together
	p     Projection
	parts [][]plainBatch
}

type plainBatch struct {
	statements []plainStatement // SQL
	hashes     []plainHash      // Redis
}

type plainStatement struct {
	query string
	args  []any
}

type plainHash struct {
	key        string
	sets, dels []any
}

type statements []plainStatement

func (s *statements) exec(_ context.Context, query string, args ...any) error {
	*s = append(*s, plainStatement{query, args})
	return nil
}

// NewPlain folds the store's events of one topic into the rows of another version of the projection, with the batches
// of a run that applied them all. Everything is encoded here, so that Write measures the database alone. Folded, a batch
// has each row once, as the engine writes it; otherwise the rows of each event, one event after the other.
func NewPlain(ctx context.Context, t *Runner, p Projection, topic string, partitions int, run []Applied, folded bool) (*Plain, error) {
	byPart := make([][]Event, partitions)
	d := newDecoder(t.Codec, p, nil)
	for r, err := range t.Store.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return nil, err
		}
		if wire.TopicOf(r.Stream) != topic || !p.Uses(r.Type) {
			continue
		}
		e, err := d.event(r)
		if err != nil {
			return nil, err
		}
		part := PartitionOf(e.Key, partitions)
		byPart[part] = append(byPart[part], e)
	}
	plain := &Plain{p: p}
	for part, events := range byPart {
		var batches []plainBatch
		u := NewUnit()
		for _, a := range run {
			if a.Topic != topic || int(a.Part) != part {
				continue
			}
			n := slices.IndexFunc(events, func(e Event) bool { return e.Position > a.Position })
			if n < 0 {
				n = len(events)
			}
			var b plainBatch
			portion := n
			if !folded {
				portion = 1
			}
			for some := range slices.Chunk(events[:n], max(1, portion)) {
				if err := u.Replay(p, some...); err != nil {
					return nil, err
				}
				plain.Rows += len(u.changed)
				if err := plain.encode(ctx, t, topic, int32(part), u, &b); err != nil { //nolint:gosec // a partition's number
					return nil, err
				}
				for _, id := range u.changed {
					u.rows[id].dirty = false
				}
				u.changed = u.changed[:0]
			}
			events = events[n:]
			batches = append(batches, b)
		}
		if len(events) > 0 {
			return nil, fmt.Errorf("%s/%d: the run's batches end before %d of the events", topic, part, len(events))
		}
		plain.parts = append(plain.parts, batches)
	}
	return plain, nil
}

func (pl *Plain) encode(ctx context.Context, t *Runner, topic string, part int32, u *Unit, b *plainBatch) error {
	if pl.p.Target == SQL {
		changes := u.changes()
		s := statements(b.statements)
		for _, table := range pl.p.Tables {
			if err := newTableSQL(table.Def(), t.DB.Dialect(), pl.p.Version).write(ctx, &s, changes[table.Def()]); err != nil {
				return err
			}
		}
		b.statements = s
		return nil
	}
	keys := redisKeys{pl.p, topic, part}
	hashes := map[string]*plainHash{}
	for _, id := range u.changed {
		row := u.rows[id]
		key := keys.rows(id.table, row.ordering)
		h := hashes[key]
		if h == nil {
			h = &plainHash{key: key}
			hashes[key] = h
		}
		if row.row == nil {
			h.dels = append(h.dels, id.key)
			continue
		}
		text, err := json.Marshal(row.row)
		if err != nil {
			return err
		}
		h.sets = append(h.sets, id.key, text)
	}
	for _, h := range hashes {
		b.hashes = append(b.hashes, *h)
	}
	return nil
}

// Write writes all of it, a transaction or a pipeline for each batch, all partitions at once as the engine does. The
// tables of an SQL projection must be there.
func (pl *Plain) Write(ctx context.Context, t *Runner) error {
	group, ctx := errgroup.WithContext(ctx)
	target := newSQLTarget(t.DB, pl.p, 0)
	defer target.close()
	for _, batches := range pl.parts {
		group.Go(func() error {
			for _, b := range batches {
				var err error
				if pl.p.Target == SQL {
					err = b.commit(ctx, target)
				} else {
					err = b.pipe(ctx, t.Redis)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (b plainBatch) commit(ctx context.Context, target *sqlTarget) error {
	if len(b.statements) == 0 {
		return nil
	}
	tx, err := target.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.end()
	for _, s := range b.statements {
		if err := tx.exec(ctx, s.query, s.args...); err != nil {
			tx.tx.Rollback()
			return err
		}
	}
	return tx.tx.Commit()
}

func (b plainBatch) pipe(ctx context.Context, client redis.UniversalClient) error {
	if len(b.hashes) == 0 {
		return nil
	}
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, h := range b.hashes {
			if len(h.sets) > 0 {
				p.HSet(ctx, h.key, h.sets...)
			}
			for _, field := range h.dels {
				p.HDel(ctx, h.key, field.(string))
			}
		}
		return nil
	})
	return err
}
