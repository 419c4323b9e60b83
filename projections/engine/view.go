package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
)

// View reads a Redis projection: rows and their position in one script, so that they agree.
type View struct {
	Redis      redis.UniversalClient
	Projection Projection
	// Partitions is how many partitions a topic has (0: not known yet, nothing is whole). It chooses the hash tag.
	Partitions func(ctx context.Context, topic string) (int, error)
}

// ViewRows is what a View held of one ordering key at one moment.
type ViewRows struct {
	Position    uint64 // of the last event applied to the partition
	Incarnation string // of the store that Position belongs to
	// Whole is false when Redis has not (or no longer) everything up to Position: answer from the SQL projection behind.
	Whole  bool
	tables map[*Def]map[string]string
}

// readScript answers, for one partition, progress and then one hash for each key asked.
var readScript = redis.NewScript(`
local answer = {redis.call('HMGET', KEYS[1], 'last_pos', 'next_offset', 'whole_from', 'incarnation')}
for i = 2, #KEYS do answer[i] = redis.call('HGETALL', KEYS[i]) end
return answer`)

// Read reads all tables' rows of one ordering key.
func (v *View) Read(ctx context.Context, topic, orderingKey string) (ViewRows, error) {
	n, err := v.Partitions(ctx, topic)
	if err != nil || n == 0 {
		return ViewRows{}, err
	}
	k := redisKeys{v.Projection, topic, eventstore.Partition(orderingKey, n)}
	keys := []string{k.offset()}
	for _, t := range v.Projection.Tables {
		keys = append(keys, k.rows(t.Def(), orderingKey))
	}
	answer, err := readScript.Run(ctx, v.Redis, keys).Slice()
	if err != nil {
		return ViewRows{}, fmt.Errorf("read %s: %w", k.offset(), err)
	}
	if len(answer) != len(keys) {
		return ViewRows{}, fmt.Errorf("read %s: %d answers for %d keys", k.offset(), len(answer), len(keys))
	}
	out := ViewRows{tables: map[*Def]map[string]string{}}
	out.Position, out.Incarnation, out.Whole, err = wholeness(answer[0])
	if err != nil || !out.Whole {
		return ViewRows{}, err
	}
	for i, t := range v.Projection.Tables {
		fields, ok := answer[i+1].([]any)
		if !ok {
			return ViewRows{}, fmt.Errorf("read %s: not a hash", keys[i+1])
		}
		rows := make(map[string]string, len(fields)/2)
		for j := 0; j+1 < len(fields); j += 2 {
			rows[fields[j].(string)] = fields[j+1].(string)
		}
		out.tables[t.Def()] = rows
	}
	return out, nil
}

// wholeness reads last_pos, next_offset, whole_from and incarnation. A view whose hash was made new is whole from the
// offset at which the log ended at that moment.
func wholeness(answer any) (position uint64, incarnation string, whole bool, err error) {
	fields, ok := answer.([]any)
	if !ok || len(fields) != 4 {
		return 0, "", false, errors.New("read a view's offset: not four fields")
	}
	var n [3]int64
	for i := range n {
		s, ok := fields[i].(string)
		if !ok {
			return 0, "", false, nil // no offset: Redis is new, or forgot
		}
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return 0, "", false, fmt.Errorf("read a view's offset: %w", err)
		}
	}
	incarnation, _ = fields[3].(string)
	return uint64(n[0]), incarnation, n[1] >= n[2], nil //nolint:gosec // positions stay below 2^63
}

// ViewTable decodes one table's rows, in no particular order.
func ViewTable[R any](rows ViewRows, t *Table[R]) ([]R, error) {
	out := make([]R, 0, len(rows.tables[&t.d]))
	for key, text := range rows.tables[&t.d] {
		var r R
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return nil, fmt.Errorf("decode %s %q: %w", t.d.Base, key, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Rows decodes any table's rows, as pointers to its row type.
func (r ViewRows) Rows(d *Def) ([]any, error) {
	var out []any
	for key, text := range r.tables[d] {
		row := reflect.New(d.row).Interface()
		if err := json.Unmarshal([]byte(text), row); err != nil {
			return nil, fmt.Errorf("decode %s %q: %w", d.Base, key, err)
		}
		out = append(out, row)
	}
	return out, nil
}

// redisKeys spells the keys of one partition of a view. The hash tag keeps them on one shard.
type redisKeys struct {
	p     Projection
	topic string
	part  int32
}

func (k redisKeys) tag() string {
	return "{" + k.topic + "/" + strconv.Itoa(int(k.part)) + "}:"
}

func (k redisKeys) offset() string { return k.tag() + "offset:" + k.p.ID() }

func (k redisKeys) rows(d *Def, orderingKey string) string {
	return k.tag() + d.Name(k.p.Version) + ":" + orderingKey
}
