package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A view that is new, or has lost something, is filled from the SQL projection behind it, which has the same tables:
//
//	begin ──▶ clear what is there ──▶ copy rows and offset of one snapshot, page by page ──▶ finish: whole
//
// Between begin and finish progress has a field "filling" (why it came to that), so nothing is answered from the view,
// and no batch is applied. Each step is one script that checks claim and epoch: an owner that was replaced in the middle
// adds nothing to what its successor writes, and the successor of one that died finds "filling" and begins anew.
//
// Where nothing is behind, or nothing of it yet, the view begins with no rows at the first record of the log, and is
// whole once it has come to where the log ended.

// LostError is a view that does not have what its owner wrote: it forgot, went back, or rows went missing. Nothing is
// applied to it or answered from it until it was filled again.
type LostError struct {
	View string // key of its progress
	Why  string
}

func (e *LostError) Error() string { return fmt.Sprintf("view %s: %s", e.View, e.Why) }

// Why a view is filled.
const (
	whyNew      = "new"
	whyForgot   = "forgot everything"
	whyWentBack = "went back to an earlier state"
	whyIndex    = "lost its index"
	whyRelease  = "written by a release that counted no rows"
	whyEarlier  = "left over from an earlier life of this version"
)

const (
	// How long a round waits for other partitions, which have most often lost their rows at the same time.
	gathering = 20 * time.Millisecond
	// Pages of a round that are written at once, beside the reading.
	pagesAtOnce = 4
	// From one part in so many of the partitions on, a whole table is read rather than the rows of their keys.
	walkShare = 4
	// One script's worth while filling: it blocks the server.
	pageRows, pageBytes = 500, 512 << 10
	// How many ordering keys are listed by one statement, and how many of them have their rows read by one.
	listKeys, readKeys = 1000, 100
)

// found is what a claim found.
type found struct {
	claim                 string // whose it was
	epoch                 int64  // and since when
	at                    Progress
	filling, lost, hashes string
	indexed               int64
}

// because tells why what was found must be filled; "" when it need not.
func (o *redisOwner) because(f found) string {
	o.t.mu.Lock()
	known, ours := o.t.known[redisPart{o.keys.topic, o.generation, o.keys.part}]
	o.t.mu.Unlock()
	switch {
	case f.filling == whyNew && ours:
		return whyForgot
	case f.filling != "":
		return f.filling // whoever began to fill it did not end
	case f.lost != "":
		return "lost rows of " + f.lost
	case f.hashes == "":
		return whyRelease
	case f.hashes != strconv.FormatInt(f.indexed, 10):
		return whyIndex
	case ours && (f.epoch < known.Epoch || f.at.LastPos < known.LastPos || f.claim == known.Claim && f.at.Seq < known.Seq):
		return whyWentBack
	}
	return ""
}

// stands tells whether claim, epoch and seq, as read, are those of this claim: ErrFenced when another one has come, a
// LostError when the server knows less than we wrote.
func (o *redisOwner) stands(now []any) (seq int64, err error) {
	if now[0] == nil || now[1] == nil || now[2] == nil {
		return 0, &LostError{o.keys.offset(), whyForgot}
	}
	epoch, err := strconv.ParseInt(now[1].(string), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", o.keys.offset(), err)
	}
	if seq, err = strconv.ParseInt(now[2].(string), 10, 64); err != nil {
		return 0, fmt.Errorf("read %s: %w", o.keys.offset(), err)
	}
	switch {
	case epoch > o.at.Epoch || epoch == o.at.Epoch && now[0] != o.at.Claim:
		return seq, fenced(o.at.Claim, now[0].(string))
	case epoch < o.at.Epoch || seq < o.at.Seq:
		return seq, &LostError{o.keys.offset(), whyWentBack}
	}
	return seq, nil
}

// step runs a script of the refill, which answers 1 when the claim stood.
func (o *redisOwner) step(ctx context.Context, s *redis.Script, keys []string, args ...any) error {
	ok, err := s.Run(ctx, o.t.client, keys, args...).Int()
	if err == nil && ok == 1 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fill %s: %w", o.keys.offset(), err)
	}
	now, err := o.t.client.HMGet(ctx, o.keys.offset(), "claim", "epoch", "seq").Result()
	if err != nil {
		return fmt.Errorf("fill %s: %w", o.keys.offset(), err)
	}
	if _, err := o.stands(now); err != nil {
		return err
	}
	return &LostError{o.keys.offset(), whyWentBack} // it is ours, and does not know that it is being filled
}

// fencing begins each script of the refill. ARGV: claim, epoch.
const fencing = `
local now = redis.call('HMGET', KEYS[1], 'claim', 'epoch', 'filling')
if now[1] ~= ARGV[1] or now[2] ~= ARGV[2] then return 0 end
`

var beginScript = redis.NewScript(fencing + `
redis.call('HSET', KEYS[1], 'filling', ARGV[3])
return 1`)

// begin makes the view answer nothing.
func (o *redisOwner) begin(ctx context.Context, why string) error {
	return o.step(ctx, beginScript, []string{o.keys.offset()}, o.at.Claim, o.at.Epoch, why)
}

// refill makes the rows equal to those behind, and the view whole again.
func (o *redisOwner) refill(ctx context.Context) (rows int, err error) {
	losses, err := o.t.evicts(ctx)
	if err != nil {
		return 0, err
	}
	if err := o.begin(ctx, o.why); err != nil {
		return 0, err
	}
	if err := o.clear(ctx); err != nil {
		return 0, err
	}
	var at Progress
	waiting, wholeFrom := map[string]Parked{}, o.logEnd
	if o.t.db != nil {
		f, err := o.copyRows(ctx)
		if errors.Is(err, ErrNotLive) {
			err = errors.Join(err, o.step(ctx, abandonScript, []string{o.keys.offset()}, o.at.Claim, o.at.Epoch))
		}
		if err != nil {
			return 0, err
		}
		if waiting = f.waiting; f.found {
			at, rows, wholeFrom = f.at, f.rows, 0
		}
	}
	at.Claim, at.Epoch, at.Seq = o.at.Claim, o.at.Epoch, o.at.Seq
	if err := o.finish(ctx, at, wholeFrom); err != nil {
		return 0, err
	}
	o.waiting = waiting
	o.at, o.why, o.losses, o.unit, o.sample, o.cursor = at, "", losses, NewUnit(), nil, 0
	o.note()
	return rows, nil
}

// abandonScript leaves nothing of a partition that was cleared: its version is not live any more.
var abandonScript = redis.NewScript(fencing + `
redis.call('UNLINK', KEYS[1])
return 1`)

var finishScript = redis.NewScript(fencing + `
if not now[3] then return 0 end
redis.call('HSET', KEYS[1], 'seq', ARGV[3], 'next_offset', ARGV[4], 'last_pos', ARGV[5], 'last_recorded_at', ARGV[6], 'incarnation', ARGV[7],
  'whole_from', ARGV[8], 'hashes', redis.call('HLEN', KEYS[2]))
redis.call('HDEL', KEYS[1], 'filling', 'lost')
return 1`)

func (o *redisOwner) finish(ctx context.Context, at Progress, wholeFrom int64) error {
	return o.step(ctx, finishScript, []string{o.keys.offset(), o.keys.index()}, o.at.Claim, o.at.Epoch,
		at.Seq, at.NextOffset, at.LastPos, micros(at.LastRecordedAt), at.Incarnation, wholeFrom)
}

// clearScript removes hashes and their names in the index. ARGV: claim, epoch, a name for each of KEYS[3..].
var clearScript = redis.NewScript(fencing + `
if not now[3] then return 0 end
for i = 3, #KEYS, 100 do
  redis.call('UNLINK', unpack(KEYS, i, math.min(i + 99, #KEYS)))
  redis.call('HDEL', KEYS[2], unpack(ARGV, i, math.min(i + 99, #KEYS)))
end
return 1`)

// clear removes all rows that the index knows. Those that it does not know, since it was lost itself, are let be: to find
// them would take a walk through all keys of the server. Nobody answers from them, and whoever writes a hash that the
// index does not know removes it first.
func (o *redisOwner) clear(ctx context.Context) error {
	if err := o.remove(ctx, []string{o.keys.parkedName(), o.keys.retriesName()}); err != nil {
		return err
	}
	for cursor := uint64(0); ; {
		fields, next, err := o.t.client.HScan(ctx, o.keys.index(), cursor, "", listKeys).Result()
		if err != nil {
			return fmt.Errorf("read %s: %w", o.keys.index(), err)
		}
		if err := o.remove(ctx, names(fields)); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// names are every second of the fields and values that HSCAN answers.
func names(fields []string) []string {
	out := make([]string, 0, len(fields)/2)
	for i := 0; i < len(fields); i += 2 {
		out = append(out, fields[i])
	}
	return out
}

func (o *redisOwner) remove(ctx context.Context, names []string) error {
	for part := range slices.Chunk(names, pageRows) {
		keys, args := []string{o.keys.offset(), o.keys.index()}, []any{o.at.Claim, o.at.Epoch}
		for _, name := range part {
			keys, args = append(keys, o.keys.tag()+name), append(args, name)
		}
		if err := o.step(ctx, clearScript, keys, args...); err != nil {
			return err
		}
	}
	return nil
}
