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

// View reads the versions of a Redis projection: rows and their position in one script, so that they agree.
type View struct {
	Redis      redis.UniversalClient
	Projection Projection // the newest
	// Partitions is how many partitions a topic has (0: not known yet, nothing is whole). It chooses the hash tag.
	Partitions func(ctx context.Context, topic string) (int, error)
}

// ViewRows is what a View held of one ordering key at one moment.
type ViewRows struct {
	Position    uint64 // of the last event applied to the partition
	Incarnation string // of the store that Position belongs to
	// Whole is false when Redis has not (or no longer) everything up to Position: answer from the SQL projection behind.
	Whole bool
	// Parked: the rows are those before ParkedFrom, and later events of the key wait. The projection behind may have them.
	Parked     bool
	ParkedFrom uint64
	tables     map[*Def]map[string]string
}

// readScript answers, for one partition, progress, what is parked of the ordering key ("" if it is not) and then one
// hash for each key asked; no progress, and nothing else, when the view is not whole, or not of this life of its version. A hash that does not have as many
// rows as were written is noted, for the owner to fill the view again: eviction, or a hand, leaves progress as it was. One
// that the index does not know was left over from before the index was lost, and counts as none.
// ARGV: the ordering key, the names in the index of KEYS[3..], the first of which is what is parked, and the generation.
var readScript = redis.NewScript(`
local now = redis.call('HMGET', KEYS[1], 'last_pos', 'next_offset', 'whole_from', 'incarnation', 'hashes', 'filling', 'lost', 'generation')
if not now[5] or now[6] or now[7] or (now[8] or '') ~= ARGV[#ARGV] then return {{}} end
local lost = redis.call('HLEN', KEYS[2]) ~= tonumber(now[5]) and 'the index'
local answer = {{now[1], now[2], now[3], now[4]}, ''}
for i = 3, #KEYS do
  local want = tonumber(redis.call('HGET', KEYS[2], ARGV[i - 1]) or 0)
  if i > 3 then answer[i - 1] = {} end
  if want > 0 and redis.call('HLEN', KEYS[i]) ~= want then
    lost = ARGV[i - 1]
  elseif want > 0 and i == 3 then
    answer[2] = redis.call('HGET', KEYS[3], ARGV[1]) or ''
  elseif want > 0 then
    answer[i - 1] = redis.call('HGETALL', KEYS[i])
  end
end
if lost then
  redis.pcall('HSET', KEYS[1], 'lost', lost) -- refused by a server that is full, or a replica
  return {{}}
end
return answer`)

// Read reads all tables' rows of one ordering key, as the version that serves has them. Of a version that this release does
// not know nothing is whole.
func (v *View) Read(ctx context.Context, serving Serving, topic, orderingKey string) (ViewRows, error) {
	p, known := v.Projection.At(serving.Version)
	if !known {
		return ViewRows{}, nil
	}
	n, err := v.Partitions(ctx, topic)
	if err != nil || n == 0 {
		return ViewRows{}, err
	}
	k := redisKeys{p, topic, eventstore.Partition(orderingKey, n)}
	keys, names := []string{k.offset(), k.index(), k.parked()}, []any{orderingKey, k.parkedName()}
	for _, t := range p.Tables {
		keys, names = append(keys, k.rows(t.Def(), orderingKey)), append(names, k.name(t.Def(), orderingKey))
	}
	names = append(names, serving.Generation)
	answer, err := readScript.Run(ctx, v.Redis, keys, names...).Slice()
	if err != nil {
		return ViewRows{}, fmt.Errorf("read %s: %w", k.offset(), err)
	}
	if len(answer) == 0 {
		return ViewRows{}, fmt.Errorf("read %s: no answer", k.offset())
	}
	out := ViewRows{tables: map[*Def]map[string]string{}}
	out.Position, out.Incarnation, out.Whole, err = wholeness(answer[0])
	if err != nil || !out.Whole {
		return ViewRows{}, err
	}
	if len(answer) != len(keys)-1 {
		return ViewRows{}, fmt.Errorf("read %s: %d answers for %d keys", k.offset(), len(answer), len(keys))
	}
	if text, _ := answer[1].(string); text != "" {
		var p Parked
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return ViewRows{}, fmt.Errorf("decode %s %q: %w", k.parked(), orderingKey, err)
		}
		out.Parked, out.ParkedFrom = true, p.FromPos
	}
	for i, t := range p.Tables {
		fields, ok := answer[i+2].([]any)
		if !ok {
			return ViewRows{}, fmt.Errorf("read %s: not a hash", keys[i+2])
		}
		rows := make(map[string]string, len(fields)/2)
		for j := 0; j+1 < len(fields); j += 2 {
			rows[fields[j].(string)] = fields[j+1].(string)
		}
		out.tables[t.Def()] = rows
	}
	return out, nil
}

// wholeness reads last_pos, next_offset, whole_from and incarnation. A view that began with nothing is whole from the
// offset at which the log ended at that moment; one that is being filled, or has lost something, answers no fields.
func wholeness(answer any) (position uint64, incarnation string, whole bool, err error) {
	fields, ok := answer.([]any)
	if ok && len(fields) == 0 {
		return 0, "", false, nil
	}
	if !ok || len(fields) != 4 {
		return 0, "", false, errors.New("read a view's offset: not four fields")
	}
	var n [3]int64
	for i := range n {
		s, ok := fields[i].(string)
		if !ok {
			return 0, "", false, fmt.Errorf("read a view's offset: field %d is missing", i)
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

// redisKeys spells the keys of one partition of a version of a view. The hash tag keeps them on one shard, and what follows
// it is the version's alone: {salon.booking.v1/3}:slots_v2:calendar_salons:kim. An index has their last part.
type redisKeys struct {
	p     Projection
	topic string
	part  int32
}

func (k redisKeys) tag() string {
	return "{" + k.topic + "/" + strconv.Itoa(int(k.part)) + "}:" + k.p.ID() + ":"
}

func (k redisKeys) offset() string { return k.tag() + "offset" }

// index is the hash that counts the rows of each hash, by its name.
func (k redisKeys) index() string { return k.tag() + "index" }

func (k redisKeys) name(d *Def, orderingKey string) string { return d.Base + ":" + orderingKey }

func (k redisKeys) rows(d *Def, orderingKey string) string { return k.tag() + k.name(d, orderingKey) }
