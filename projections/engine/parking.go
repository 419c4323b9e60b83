package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/projections/reads"
)

// Parking lists parked keys and asks for retries, whatever the target of the projection.
type Parking struct {
	DB    *reads.DB
	Redis redis.UniversalClient // may be nil where only SQL projections are asked about
}

// List reads the parked keys of a projection, the oldest first.
func (k Parking) List(ctx context.Context, p Projection) (out []Parked, err error) {
	if p.Target == SQL {
		err = k.DB.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
			out, err = ListParked(ctx, q, p.ID())
			return err
		})
		return out, err
	}
	err = Views(k).each(ctx, p, func(at redisKeys) error {
		some, err := at.readParked(ctx, k.Redis)
		out = append(out, some...)
		return err
	})
	slices.SortFunc(out, func(a, b Parked) int {
		return cmp.Or(a.ParkedAt.Compare(b.ParkedAt), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Key, b.Key))
	})
	return out, err
}

// Retry is RequestRetry for a projection of any target.
func (k Parking) Retry(ctx context.Context, p Projection, key string) (found bool, err error) {
	if p.Target == SQL {
		return RequestRetry(ctx, k.DB, p.ID(), key)
	}
	n, err := k.retryViews(ctx, p, func(w Parked) bool { return w.Key == key })
	return n > 0, err
}

// RetryByCause is RequestRetryByCause for a projection of any target.
func (k Parking) RetryByCause(ctx context.Context, p Projection, cause string) (n int, err error) {
	if p.Target == SQL {
		return RequestRetryByCause(ctx, k.DB, p.ID(), cause)
	}
	return k.retryViews(ctx, p, func(w Parked) bool { return w.Cause == cause })
}

func (k Parking) retryViews(ctx context.Context, p Projection, wanted func(Parked) bool) (n int, err error) {
	err = Views(k).each(ctx, p, func(at redisKeys) error {
		all, err := at.readParked(ctx, k.Redis)
		if err != nil {
			return err
		}
		for _, w := range all {
			if !wanted(w) {
				continue
			}
			asked, err := askScript.Run(ctx, k.Redis, []string{at.parked(), at.retries()}, w.Key, time.Now().UnixMicro()).Int()
			if err != nil {
				return fmt.Errorf("ask for a retry in %s: %w", at.offset(), err)
			}
			n += asked
		}
		return nil
	})
	return n, err
}

// A view keeps its parked keys in one hash and the requests in another: the first is the owner's alone, so that a request
// can never put an older FromPos back.
func (k redisKeys) parked() string      { return k.tag() + k.parkedName() }
func (k redisKeys) parkedName() string  { return "parked" }
func (k redisKeys) retries() string     { return k.tag() + k.retriesName() }
func (k redisKeys) retriesName() string { return "retry" }

var askScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1`)

// waiting reads what an owner has to know. Its claim stands already, so nobody else parks or unparks.
func (k redisKeys) waiting(ctx context.Context, client redis.UniversalClient) (map[string]Parked, error) {
	list, err := k.readParked(ctx, client)
	return byKey(list), err
}

// readParked reads a partition's parked keys with the requests about them.
func (k redisKeys) readParked(ctx context.Context, client redis.UniversalClient) ([]Parked, error) {
	all, err := client.HGetAll(ctx, k.parked()).Result()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", k.parked(), err)
	}
	if len(all) == 0 {
		return nil, nil
	}
	asked, err := client.HGetAll(ctx, k.retries()).Result()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", k.retries(), err)
	}
	out := make([]Parked, 0, len(all))
	for key, text := range all {
		var w Parked
		if err := json.Unmarshal([]byte(text), &w); err != nil {
			return nil, fmt.Errorf("decode %s %q: %w", k.parked(), key, err)
		}
		if at, err := strconv.ParseInt(asked[key], 10, 64); err == nil {
			w.RetryAt = time.UnixMicro(at).UTC()
		}
		out = append(out, w)
	}
	return out, nil
}
