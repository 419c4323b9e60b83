package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis loses without a word: a restart without data, a replica promoted before it had the last writes, eviction. A busy
// partition meets that with its next batch, an idle one makes no call that would. So the owner of each partition looks
// at it between batches, at least every lookEvery, and whoever reads or writes rows compares them with the index.

// lookEvery is how long a loss may stay unseen where nobody reads or writes.
const lookEvery = 500 * time.Millisecond

// lookHashes is how many hashes one look counts. All of a partition are counted in turn: of 50,000, in two minutes.
// Those that are read or written in the meantime are counted then.
const lookHashes = 200

// forgetful is an owner whose target may lose what was written: a view in Redis.
type forgetful interface {
	owner
	// missing tells why the rows must be filled before a batch is applied; "" when they need not.
	missing() string
	// refill fills them and moves progress to where they are.
	refill(ctx context.Context) (rows int, err error)
	// look returns a LostError when what was written is not there, ErrFenced when the partition has another owner.
	look(ctx context.Context) error
}

func (o *redisOwner) missing() string { return o.why }

// lookScript compares progress, the index and some hashes with what the owner wrote. ARGV: claim, epoch, seq and
// next_offset, then a name in the index for each of KEYS[3..]. It answers "" or what is wrong.
var lookScript = redis.NewScript(`
local now = redis.call('HMGET', KEYS[1], 'claim', 'epoch', 'seq', 'next_offset', 'hashes', 'filling', 'lost')
for i = 1, 4 do
  if now[i] ~= ARGV[i] then return 'claim' end
end
if now[6] or now[7] then return now[7] or now[6] end
local lost = redis.call('HLEN', KEYS[2]) ~= tonumber(now[5]) and 'the index'
for k = 3, #KEYS do
  if redis.call('HLEN', KEYS[k]) ~= tonumber(redis.call('HGET', KEYS[2], ARGV[k + 2]) or 0) then lost = ARGV[k + 2] end
end
if not lost then return '' end
redis.pcall('HSET', KEYS[1], 'lost', lost)
return lost`)

func (o *redisOwner) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	losses, err := o.t.evicts(ctx)
	if err != nil {
		return err
	}
	if losses != o.losses {
		return &LostError{o.keys.offset(), "Redis evicted keys"}
	}
	if len(o.sample) == 0 {
		fields, next, err := o.t.client.HScan(ctx, o.keys.index(), o.cursor, "", lookHashes).Result()
		if err != nil {
			return fmt.Errorf("look at %s: %w", o.keys.offset(), err)
		}
		o.sample, o.cursor = names(fields), next
	}
	n := min(len(o.sample), lookHashes)
	keys := []string{o.keys.offset(), o.keys.index()}
	args := []any{o.at.Claim, o.at.Epoch, o.at.Seq, o.at.NextOffset}
	for _, name := range o.sample[:n] {
		keys, args = append(keys, o.keys.tag()+name), append(args, name)
	}
	o.sample = o.sample[n:]
	wrong, err := lookScript.Run(ctx, o.t.client, keys, args...).Text()
	switch {
	case err != nil:
		return fmt.Errorf("look at %s: %w", o.keys.offset(), err)
	case wrong == "":
		return nil
	case wrong != "claim":
		return &LostError{o.keys.offset(), "lost rows of " + wrong}
	}
	now, err := o.t.client.HMGet(ctx, o.keys.offset(), "claim", "epoch", "seq").Result()
	if err != nil {
		return fmt.Errorf("look at %s: %w", o.keys.offset(), err)
	}
	if _, err := o.stands(now); err != nil {
		return err
	}
	return &LostError{o.keys.offset(), whyWentBack} // claim and seq are right, next_offset is not
}

// EvictsError is a Redis that throws keys away when it is full, ours among them. A view in it is never whole.
type EvictsError struct{ Policy string }

func (e *EvictsError) Error() string {
	return fmt.Sprintf("Redis evicts keys (maxmemory-policy %s): a view cannot be kept there; set maxmemory-policy noeviction", e.Policy)
}

// serverLook is the last look at the server itself, shared by the partitions of a view.
type serverLook struct {
	mu      sync.Mutex
	at      time.Time
	evicted int64 // keys so far
	losses  int64 // how often some of ours may have been among them, since this process began
	err     error
}

// evicts returns an EvictsError when the server may throw our keys away, else how often it may have done so before the
// policy was set right. The policies named volatile take keys that
// expire, and ours do not. INFO tells what CONFIG would, and no managed Redis denies it; one that tells nothing of
// eviction has none.
func (t *redisTarget) evicts(ctx context.Context) (losses int64, err error) {
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	if time.Since(t.server.at) < lookEvery {
		return t.server.losses, t.server.err
	}
	text, err := t.client.Info(ctx).Result()
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return 0, fmt.Errorf("look at Redis: %w", err)
	}
	first := t.server.at.IsZero()
	t.server.at, t.server.err = time.Now(), nil
	policy := infoField(text, "maxmemory_policy")
	if strings.HasPrefix(policy, "allkeys") {
		t.server.err = &EvictsError{policy}
	}
	evicted, _ := strconv.ParseInt(infoField(text, "evicted_keys"), 10, 64)
	if !first && evicted > t.server.evicted && !strings.HasPrefix(policy, "volatile") {
		t.server.losses++
	}
	t.server.evicted = evicted
	return t.server.losses, t.server.err
}

func infoField(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// whole fills a view that has lost something, before the worker goes on with it. A revoked partition is not kept for that.
func (w *worker) whole() error {
	v, ok := w.owner.(forgetful)
	if !ok || v.missing() == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(w.gone)
	var ending sync.WaitGroup
	defer ending.Wait()
	defer cancel()
	ending.Go(func() {
		select {
		case <-w.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	why, began := v.missing(), time.Now()
	rows, err := v.refill(ctx)
	if err != nil {
		return err
	}
	at := v.progress()
	w.mu.Lock()
	w.status.Progress, w.status.Moved = at, time.Now()
	if why != whyNew {
		w.status.Refills++
	}
	w.mu.Unlock()
	w.position(at.NextOffset)
	if why != whyNew {
		w.s.r.Log.Warn("view filled again", "projection", w.status.Projection, "topic", w.s.topic, "partition", w.part,
			"why", why, "rows", rows, "took", time.Since(began).String())
	}
	if w.s.r.Applied != nil && at.LastPos > 0 {
		w.s.r.Applied(Applied{
			Projection: w.s.r.Projection.ID(), Topic: w.s.topic, Part: w.part, Position: at.LastPos,
			Took: time.Since(began), Recorded: at.LastRecordedAt,
		})
	}
	return nil
}

// look looks at a view when that is due.
func (w *worker) look() error {
	v, ok := w.owner.(forgetful)
	if !ok || time.Since(w.lookedAt) < lookEvery {
		return nil
	}
	w.lookedAt = time.Now()
	return v.look(w.gone)
}

// lookDue fires when the next look is due; never for a target that does not forget.
func (w *worker) lookDue() <-chan time.Time {
	if _, ok := w.owner.(forgetful); !ok {
		return nil
	}
	return time.After(time.Until(w.lookedAt.Add(lookEvery)))
}
