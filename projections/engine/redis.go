package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/projections/reads"
)

// redisTarget keeps a view in Redis: each table's rows of one ordering key are one hash of JSON values, a partition's
// progress is another, all under one hash tag. One script checks the claim and writes rows and progress.
//
// Redis may forget all of it, some of it, or the last of it. So an index, one more hash, counts the rows of each hash,
// and whoever reads or writes rows compares: a hash that has other rows than were written is seen before it is answered
// from or folded upon. What was lost is filled again, see refill.go; who looks at what nobody touches, see watch.go.
type redisTarget struct {
	client    redis.UniversalClient
	p         Projection
	cacheRows int
	db        *reads.DB // of the projection behind; nil: what is lost is read from the log again, and there is one life

	as string // the claim it makes, instead of a random one

	round  chan struct{} // one token: what is filled is read by one at a time
	rounds sync.WaitGroup

	mu     sync.Mutex
	joined []*filling             // what the next round fills
	known  map[redisPart]Progress // the last that this process wrote
	server serverLook
}

type redisPart struct {
	topic, generation string
	part              int32
}

func newRedisTarget(client redis.UniversalClient, p Projection, cacheRows int) *redisTarget {
	return &redisTarget{client: client, p: p, cacheRows: cacheRows, round: make(chan struct{}, 1), known: map[redisPart]Progress{}}
}

func (o *redisOwner) note() {
	o.t.mu.Lock()
	defer o.t.mu.Unlock()
	o.t.known[redisPart{o.keys.topic, o.generation, o.keys.part}] = o.at
}

// claimScript takes the partition. Where there is no progress, or that of an earlier life of the version, it makes one that
// is being filled, so that nothing is answered from it. It answers whose the partition was, and then what Progress and why
// need. ARGV: claim, why to fill what is not there, the name of what is parked, generation, why to fill what is of another.
var claimScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'epoch', 0, 'seq', 0, 'next_offset', 0, 'last_pos', 0, 'last_recorded_at', 0, 'incarnation', '',
    'whole_from', 0, 'hashes', redis.call('HLEN', KEYS[2]), 'filling', ARGV[2], 'generation', ARGV[4])
elseif (redis.call('HGET', KEYS[1], 'generation') or '') ~= ARGV[4] then
  redis.call('HSET', KEYS[1], 'filling', ARGV[5], 'generation', ARGV[4])
end
local was = redis.call('HMGET', KEYS[1], 'claim', 'epoch')
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'claim', ARGV[1])
local answer = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'next_offset', 'last_pos', 'last_recorded_at', 'incarnation', 'filling', 'lost', 'hashes')
answer[10] = redis.call('HGET', KEYS[2], ARGV[3]) or '0'
for i = 1, 9 do answer[i] = answer[i] or '' end
return {was[1] or '', was[2] or '0', tostring(redis.call('HLEN', KEYS[2])), unpack(answer)}`)

func (t *redisTarget) claim(ctx context.Context, topic string, part int32, logEnd int64) (owner, error) {
	o := &redisOwner{t: t, keys: redisKeys{t.p, topic, part}, unit: NewUnit(), logEnd: logEnd}
	o.at.Claim = cmp.Or(t.as, rand.Text())
	losses, err := t.evicts(ctx)
	if err != nil {
		// Without progress nothing is answered. To say more takes a write, which a server that is full would refuse.
		var evicts *EvictsError
		if errors.As(err, &evicts) {
			err = errors.Join(err, t.client.Unlink(ctx, o.keys.offset()).Err())
		}
		return nil, err
	}
	o.losses = losses
	if t.db != nil {
		// A version that is dropped has its keys removed: none is made again. One that is, by a claim that came to a stop right
		// here, is removed by the refill, which looks again.
		var state State
		if state, o.generation, err = life(ctx, t.db.Writer(), t.p); err == nil && state != Live {
			err = ErrNotLive
		}
		if err != nil {
			return nil, fmt.Errorf("claim %s: %w", o.keys.offset(), err)
		}
	}
	answer, err := claimScript.Run(ctx, t.client, []string{o.keys.offset(), o.keys.index()}, o.at.Claim, whyNew, o.keys.parkedName(), o.generation, whyEarlier).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", o.keys.offset(), err)
	}
	var n [7]int64 // the epoch before, hashes in the index, epoch, seq, next_offset, last_pos, last_recorded_at
	for i := range n {
		if n[i], err = strconv.ParseInt(answer[i+1], 10, 64); err != nil {
			return nil, fmt.Errorf("claim %s: %w", o.keys.offset(), err)
		}
	}
	o.at.Epoch, o.at.Seq, o.at.NextOffset, o.at.LastPos, o.at.Incarnation = n[2], n[3], n[4], uint64(n[5]), answer[8] //nolint:gosec // positions stay below 2^63
	if n[6] != 0 {
		o.at.LastRecordedAt = time.UnixMicro(n[6]).UTC()
	}
	o.why = o.because(found{claim: answer[0], epoch: n[0], at: o.at, filling: answer[9], lost: answer[10], hashes: answer[11], indexed: n[1]})
	if o.waiting, err = o.keys.waiting(ctx, t.client); err != nil {
		return nil, err
	}
	if answer[12] != strconv.Itoa(len(o.waiting)) && o.why == "" {
		o.why = "lost what is parked"
	}
	if o.why != "" && t.db == nil {
		if _, err := o.refill(ctx); err != nil {
			return nil, err
		}
	}
	return o, nil
}

type redisOwner struct {
	t       *redisTarget
	keys    redisKeys
	at      Progress
	waiting map[string]Parked
	unit    *Unit

	generation string // of the version: its life

	why    string   // the rows must be filled before anything is applied; "" when they need not
	logEnd int64    // at the claim
	losses int64    // of the server, when the rows were known to be there
	sample []string // names of hashes to be counted by the next looks
	cursor uint64   // where the index is listed on
}

func (o *redisOwner) progress() Progress { return o.at }

func (o *redisOwner) parked() map[string]Parked { return o.waiting }

func (o *redisOwner) asked(ctx context.Context) (keys []string, err error) {
	all, err := o.keys.readParked(ctx, o.t.client)
	slices.SortFunc(all, func(a, b Parked) int { return cmp.Or(a.RetryAt.Compare(b.RetryAt), cmp.Compare(a.Key, b.Key)) })
	for _, p := range all {
		if _, ours := o.waiting[p.Key]; ours && !p.RetryAt.IsZero() {
			keys = append(keys, p.Key)
		}
	}
	return keys, err
}

// maxOps is how many rows one script may write: it blocks the whole shard. Only a single event may exceed it.
const maxOps = 1000

// batchScript is the fence, a look at what is there, and the rows. ARGV: claim, epoch, seq, next_offset as they must be;
// seq, next_offset, last_pos, last_recorded_at, incarnation as they become; then the rows. It answers 1, or 0 when the
// claim does not stand, or 2 when rows are missing that were written, which it notes, or 3 when there were rows that the
// index does not know, left over from before that was lost: they are gone now, and must not have been folded upon.
var batchScript = redis.NewScript(writing + `
local now = redis.call('HMGET', KEYS[1], 'claim', 'epoch', 'seq', 'next_offset', 'hashes', 'filling', 'lost', 'whole_from')
for i = 1, 4 do
  if now[i] ~= ARGV[i] then return 0 end
end
if now[6] or now[7] then return 2 end
if redis.call('HLEN', KEYS[2]) ~= tonumber(now[5]) then
  redis.call('HSET', KEYS[1], 'lost', 'the index')
  return 2
end
local counts, strays = counted(10), false
for k = 3, #KEYS do
  if counts[k] then
    local is = redis.call('HLEN', KEYS[k])
    if counts[k] == 0 and is > 0 then
      redis.call('UNLINK', KEYS[k])
      strays = true
    elseif is ~= counts[k] then
      redis.call('HSET', KEYS[1], 'lost', KEYS[k])
      return 2
    end
  end
end
if strays then return 3 end
write(10, counts)
local whole_from = now[8]
if tonumber(ARGV[6]) >= tonumber(whole_from) then whole_from = 0 end
redis.call('HSET', KEYS[1], 'seq', ARGV[5], 'next_offset', ARGV[6], 'last_pos', ARGV[7], 'last_recorded_at', ARGV[8], 'incarnation', ARGV[9],
  'hashes', redis.call('HLEN', KEYS[2]), 'whole_from', whole_from)
return 1`)

// apply folds as many events as one script may write and leaves the rest for the next call. Rows are read before the
// script: nobody but this claim writes them, and the script checks that the claim stands.
func (o *redisOwner) apply(ctx context.Context, b *batch) (int, error) {
	keys, args, after, done, err := o.fold(ctx, b)
	if err != nil {
		o.unit = NewUnit()
		return 0, err
	}
	ok, err := batchScript.Run(ctx, o.t.client, keys, args...).Int()
	if err == nil && ok == 3 {
		o.unit = NewUnit()
		return o.apply(ctx, b)
	}
	switch {
	case err == nil && ok == 2:
		return 0, &LostError{o.keys.offset(), "rows are missing"}
	case err == nil && ok != 1:
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
	b.change.done(o.waiting)
	o.note()
	o.unit.settle(o.t.cacheRows)
	return done, nil
}

// fold is everything before the script: rows are loaded and folded, and what is to be written is spelled.
func (o *redisOwner) fold(ctx context.Context, b *batch) (keys []string, args []any, after Progress, done int, err error) {
	defer caught(&err)
	after, done = b.after, len(b.records)
	if err := o.load(ctx, b); err != nil {
		return nil, nil, after, 0, err
	}
	for i, e := range b.events {
		if err := o.unit.Fold(o.t.p, e); err != nil {
			return nil, nil, after, 0, err
		}
		if len(o.unit.changed) >= maxOps && i < len(b.events)-1 {
			if at, n, ok := b.until(i); ok {
				after, done = at, n
				break
			}
		}
	}
	if keys, args, err = o.ops(after); err != nil {
		return nil, nil, after, 0, &foldError{err}
	}
	keys, args, err = b.change.ops(o.keys, keys, args)
	return keys, args, after, done, err
}

// until is the progress after event i of the batch, and how many records that is. What is left of a parked key waits on.
// ok is false for a portion that fills a hole: its events are of no records, and it goes in whole.
func (b *batch) until(i int) (after Progress, records int, ok bool) {
	e := b.events[i]
	after = b.after
	if b.change != nil {
		b.change.reached(e, b.events[i+1])
		return after, 0, true
	}
	after.LastPos, after.LastRecordedAt = e.Position, e.At
	for i, r := range b.records {
		if pos, err := number(r, "pos"); err == nil && pos == e.Position {
			after.NextOffset = r.Offset + 1
			return after, i + 1, true
		}
	}
	return b.after, 0, false
}

// load reads the missing rows with one HMGET for each hash, in one round trip.
func (o *redisOwner) load(ctx context.Context, b *batch) error {
	b.name(o.t.p, o.unit)
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
	w := writes{keys: o.keys}
	changes := o.unit.changes()
	for _, t := range o.t.p.Tables {
		for _, c := range changes[t.Def()] {
			h := w.hash(t.Def(), c.slot.ordering)
			if c.slot.row == nil {
				h.dels = append(h.dels, c.key)
			} else if err := h.set(t.Def(), c.key, c.slot.row); err != nil {
				return nil, nil, err
			}
		}
	}
	keys, args = w.script(o.at.Claim, o.at.Epoch, o.at.Seq, o.at.NextOffset,
		o.at.Seq+1, after.NextOffset, after.LastPos, micros(after.LastRecordedAt), after.Incarnation)
	return keys, args, nil
}

// resolve finds out what has become of a script that did not answer, or answered that the claim does not stand.
func (o *redisOwner) resolve(ctx context.Context, lost error) error {
	now, err := o.t.client.HMGet(ctx, o.keys.offset(), "claim", "epoch", "seq").Result()
	if err != nil {
		return fmt.Errorf("write %s, outcome unknown: %w", o.keys.offset(), errors.Join(lost, err))
	}
	switch seq, err := o.stands(now); {
	case err != nil:
		return err
	case seq == o.at.Seq+1:
		return nil
	}
	return fmt.Errorf("write %s: %w", o.keys.offset(), lost)
}
