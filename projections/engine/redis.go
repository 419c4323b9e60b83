package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisTarget keeps a view in Redis: each table's rows of one ordering key are one hash of JSON values, a partition's
// progress is another, all under one hash tag. One script checks the claim and writes rows and progress.
type redisTarget struct {
	client    redis.UniversalClient
	p         Projection
	cacheRows int
}

func newRedisTarget(client redis.UniversalClient, p Projection, cacheRows int) *redisTarget {
	return &redisTarget{client, p, cacheRows}
}

// claimScript makes the progress where there is none: the view is whole again once it has come to where the log ends
// now. It answers epoch, seq, next_offset, last_pos, last_recorded_at, incarnation.
var claimScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'epoch', 0, 'seq', 0, 'next_offset', 0, 'last_pos', 0, 'last_recorded_at', 0, 'incarnation', '', 'whole_from', ARGV[2])
end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'claim', ARGV[1])
return redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'next_offset', 'last_pos', 'last_recorded_at', 'incarnation')`)

func (t *redisTarget) claim(ctx context.Context, topic string, part int32, logEnd int64) (owner, error) {
	o := &redisOwner{t: t, keys: redisKeys{t.p, topic, part}, unit: NewUnit()}
	o.at.Claim = rand.Text()
	answer, err := claimScript.Run(ctx, t.client, []string{o.keys.offset()}, o.at.Claim, logEnd).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", o.keys.offset(), err)
	}
	var n [5]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(answer[i], 10, 64); err != nil {
			return nil, fmt.Errorf("claim %s: %w", o.keys.offset(), err)
		}
	}
	o.at.Epoch, o.at.Seq, o.at.NextOffset, o.at.LastPos, o.at.Incarnation = n[0], n[1], n[2], uint64(n[3]), answer[5] //nolint:gosec // positions stay below 2^63
	if n[4] != 0 {
		o.at.LastRecordedAt = time.UnixMicro(n[4]).UTC()
	}
	return o, nil
}

type redisOwner struct {
	t    *redisTarget
	keys redisKeys
	at   Progress
	unit *Unit
}

func (o *redisOwner) progress() Progress { return o.at }

// maxOps is how many rows one script may write: it blocks the whole shard. Only a single event may exceed it.
const maxOps = 1000

// batchScript is the fence and the rows. ARGV: claim, epoch, seq, next_offset as they must be; seq, next_offset,
// last_pos, last_recorded_at, incarnation as they become; then for each of KEYS[2..]: how many fields to set, how many
// to delete, the fields and values, the fields. HSET takes 100 fields a call: Lua's unpack has a limit.
var batchScript = redis.NewScript(`
local now = redis.call('HMGET', KEYS[1], 'claim', 'epoch', 'seq', 'next_offset')
for i = 1, 4 do
  if now[i] ~= ARGV[i] then return 0 end
end
redis.call('HSET', KEYS[1], 'seq', ARGV[5], 'next_offset', ARGV[6], 'last_pos', ARGV[7], 'last_recorded_at', ARGV[8], 'incarnation', ARGV[9])
local at = 10
for k = 2, #KEYS do
  local sets, dels = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  at = at + 2
  while sets > 0 do
    local n = math.min(sets, 100)
    redis.call('HSET', KEYS[k], unpack(ARGV, at, at + 2 * n - 1))
    at, sets = at + 2 * n, sets - n
  end
  while dels > 0 do
    local n = math.min(dels, 100)
    redis.call('HDEL', KEYS[k], unpack(ARGV, at, at + n - 1))
    at, dels = at + n, dels - n
  end
end
return 1`)

// apply folds as many events as one script may write and leaves the rest for the next call. Rows are read before the
// script: nobody but this claim writes them, and the script checks that the claim stands.
func (o *redisOwner) apply(ctx context.Context, b *batch) (int, error) {
	if err := o.load(ctx, b); err != nil {
		return 0, err
	}
	after, done := b.after, len(b.records)
	for i, e := range b.events {
		if err := o.unit.Fold(o.t.p, e); err != nil {
			return 0, err
		}
		if len(o.unit.changed) >= maxOps && i < len(b.events)-1 {
			after, done = b.until(e)
			break
		}
	}
	keys, args, err := o.ops(after)
	if err != nil {
		return 0, &foldError{err}
	}
	ok, err := batchScript.Run(ctx, o.t.client, keys, args...).Int()
	if err == nil && ok != 1 {
		err = ErrFenced // or the client sent the script twice, and the first answer was lost
	}
	if err != nil {
		if err := o.resolve(ctx, err); err != nil {
			return 0, err
		}
		o.unit = NewUnit()
	}
	after.Epoch, after.Claim, after.Seq = o.at.Epoch, o.at.Claim, o.at.Seq+1
	o.at = after
	o.unit.settle(o.t.cacheRows)
	return done, nil
}

// until is the progress after one event of the batch, and how many records that is.
func (b *batch) until(e Event) (Progress, int) {
	after := b.after
	after.LastPos, after.LastRecordedAt = e.Position, e.At
	for i, r := range b.records {
		if pos, err := number(r, "pos"); err == nil && pos == e.Position {
			after.NextOffset = r.Offset + 1
			return after, i + 1
		}
	}
	return b.after, len(b.records) // cannot be: the event came from one of them
}

// load reads the missing rows with one HMGET for each hash, in one round trip.
func (o *redisOwner) load(ctx context.Context, b *batch) error {
	b.name(o.t.p, o.unit, b.events)
	if len(b.refs) == 0 {
		return nil
	}
	type hash struct {
		d        *Def
		ordering string
	}
	fields := map[hash][]string{}
	for _, r := range b.refs {
		h := hash{r.table, r.ordering}
		fields[h] = append(fields[h], r.key)
	}
	answers := map[hash]*redis.SliceCmd{}
	_, err := o.t.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for h, f := range fields {
			answers[h] = p.HMGet(ctx, o.keys.rows(h.d, h.ordering), f...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load rows of %s: %w", o.keys.offset(), err)
	}
	for h, answer := range answers {
		for i, v := range answer.Val() {
			text, ok := v.(string)
			if !ok {
				continue // no such row
			}
			row := reflect.New(h.d.row)
			if err := json.Unmarshal([]byte(text), row.Interface()); err != nil {
				return &foldError{fmt.Errorf("decode %s %q: %w", h.d.Base, fields[h][i], err)}
			}
			o.unit.loaded(h.d, fields[h][i], row.Interface(), h.ordering)
		}
	}
	return nil
}

func (o *redisOwner) ops(after Progress) (keys []string, args []any, err error) {
	var at int64
	if !after.LastRecordedAt.IsZero() {
		at = after.LastRecordedAt.UnixMicro()
	}
	keys = []string{o.keys.offset()}
	args = []any{
		o.at.Claim, o.at.Epoch, o.at.Seq, o.at.NextOffset,
		o.at.Seq + 1, after.NextOffset, after.LastPos, at, after.Incarnation,
	}
	changes := o.unit.changes()
	for _, t := range o.t.p.Tables {
		type ops struct{ sets, dels []any }
		hashes := map[string]*ops{}
		var order []string
		for _, c := range changes[t.Def()] {
			h := hashes[c.slot.ordering]
			if h == nil {
				h = &ops{}
				hashes[c.slot.ordering] = h
				order = append(order, c.slot.ordering)
			}
			if c.slot.row == nil {
				h.dels = append(h.dels, c.key)
				continue
			}
			text, err := json.Marshal(c.slot.row)
			if err != nil {
				return nil, nil, fmt.Errorf("encode %s: %w", t.Def().Base, err)
			}
			h.sets = append(h.sets, c.key, text)
		}
		for _, ordering := range order {
			h := hashes[ordering]
			keys = append(keys, o.keys.rows(t.Def(), ordering))
			args = append(append(append(args, len(h.sets)/2, len(h.dels)), h.sets...), h.dels...)
		}
	}
	return keys, args, nil
}

// resolve finds out whether a script whose answer was lost has run.
func (o *redisOwner) resolve(ctx context.Context, lost error) error {
	now, err := o.t.client.HMGet(ctx, o.keys.offset(), "claim", "epoch", "seq").Result()
	if err != nil {
		return fmt.Errorf("write %s, outcome unknown: %w", o.keys.offset(), errors.Join(lost, err))
	}
	switch {
	case now[0] != o.at.Claim || now[1] != strconv.FormatInt(o.at.Epoch, 10):
		return ErrFenced
	case now[2] == strconv.FormatInt(o.at.Seq+1, 10):
		return nil
	}
	return fmt.Errorf("write %s: %w", o.keys.offset(), lost)
}
