package engine

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/projections/reads"
)

// Name marks the rows that the unit does not hold yet as absent, as the engine does for rows it looked for and did not
// find. A fold over a whole history needs no database: every row it may read was put by the unit itself, or is absent.
func (u *Unit) Name(refs ...Ref) {
	for _, r := range refs {
		id := rowID{r.table, r.key}
		if _, held := u.rows[id]; !held {
			u.rows[id] = &slot{ordering: u.key}
		}
	}
}

// Uses reports whether the projection folds events of this type; others it skips by name.
func (p Projection) Uses(eventType string) bool {
	for _, e := range p.Types {
		if e.EventType() == eventType {
			return true
		}
	}
	return false
}

// Replay folds events that follow one another from the beginning, in memory.
func (u *Unit) Replay(p Projection, events ...Event) (err error) {
	defer caught(&err)
	for _, e := range events {
		if !p.Uses(e.Event.EventType()) {
			continue
		}
		u.key = e.Key
		if p.Keys != nil {
			u.Name(p.Keys(e)...)
		}
		if err := u.Fold(p, e); err != nil {
			return err
		}
	}
	return nil
}

// Rows lists the rows of a table that the unit holds, in no particular order.
func (t *Table[R]) Rows(u *Unit) []R {
	var out []R
	for _, row := range u.Rows(&t.d) {
		out = append(out, *row.(*R))
	}
	return out
}

// Rows lists the rows of any table that the unit holds, as pointers to its row type, in no particular order.
func (u *Unit) Rows(d *Def) []any {
	var out []any
	for id, s := range u.rows {
		if id.table == d && s.row != nil {
			out = append(out, s.row)
		}
	}
	return out
}

// Len is how many rows the unit holds, with those that it knows to be absent.
func (u *Unit) Len() int { return len(u.rows) }

// Keyed are the rows of any table that the unit holds, each with its ordering key.
func (u *Unit) Keyed(d *Def) iter.Seq2[any, string] {
	return func(yield func(row any, ordering string) bool) {
		for id, s := range u.rows {
			if id.table == d && s.row != nil && !yield(s.row, s.ordering) {
				return
			}
		}
	}
}

// Apply claims a partition of an SQL projection and folds events into it that follow what it has, without a log to
// read them from: events of other partitions, and those that it has already, are left out. Its tables must be there.
func Apply(ctx context.Context, db *reads.DB, p Projection, topic string, part int32, partitions int, incarnation string, events []Event) error {
	target := newSQLTarget(db, p, 0)
	defer target.close()
	return applyEvents(ctx, target, p, topic, part, partitions, incarnation, events)
}

// ApplyView is Apply for a Redis projection, which is whole from then on.
func ApplyView(ctx context.Context, client redis.UniversalClient, p Projection, topic string, part int32, partitions int, incarnation string, events []Event) error {
	return applyEvents(ctx, newRedisTarget(client, p, 0), p, topic, part, partitions, incarnation, events)
}

func applyEvents(ctx context.Context, t target, p Projection, topic string, part int32, partitions int, incarnation string, events []Event) error {
	if !slices.Contains(p.Topics, topic) {
		return fmt.Errorf("%s does not read %s", p.ID(), topic)
	}
	o, err := t.claim(ctx, topic, part, 0)
	if err != nil {
		return err
	}
	// In portions: a view writes at most maxOps rows at a time, and an event seldom more than four.
	for portion := range slices.Chunk(events, maxOps/4) {
		b := &batch{topic: topic, part: part, owner: o, after: o.progress()}
		b.after.Incarnation = incarnation
		for _, e := range portion {
			if e.Position <= b.after.LastPos || PartitionOf(e.Key, partitions) != part {
				continue
			}
			b.after.LastPos, b.after.LastRecordedAt = e.Position, e.At
			b.after.NextOffset++
			if p.Uses(e.Event.EventType()) && !b.waits(e.Key) {
				b.events = append(b.events, e)
			}
		}
		if _, err := o.apply(ctx, b); err != nil {
			return err
		}
	}
	return nil
}
