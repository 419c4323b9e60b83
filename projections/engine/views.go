package engine

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/projections/reads"
)

// Views knows of the versions of views what no reader of one key does.
type Views struct {
	DB    *reads.DB
	Redis redis.UniversalClient // nil: every question is an error
}

// redisError names Redis in whatever it failed by. It does not unwrap, so that it is shown whole.
type redisError struct {
	of  Projection
	err error
}

func (e *redisError) Error() string {
	return "Redis, which has the view " + e.of.ID() + ": " + e.err.Error()
}

// each calls fn for each partition of a version of a view, as far as the reads database knows their number.
func (v Views) each(ctx context.Context, p Projection, fn func(redisKeys) error) error {
	if v.Redis == nil {
		return errNoViews
	}
	counts := make([]int, len(p.Topics))
	err := v.DB.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) (err error) {
		for i, topic := range p.Topics {
			if counts[i], err = Partitions(ctx, q, topic); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, topic := range p.Topics {
		for part := range counts[i] {
			if err := fn(redisKeys{p, topic, int32(part)}); err != nil { //nolint:gosec // a partition count
				return err
			}
		}
	}
	return nil
}

// Filled counts the partitions of a version of a view from which reads are answered.
func (v Views) Filled(ctx context.Context, p Projection) (filled, partitions int, err error) {
	var answers []*redis.SliceCmd
	var offsets redis.Pipeliner
	err = v.each(ctx, p, func(k redisKeys) error {
		if offsets == nil {
			offsets = v.Redis.Pipeline()
		}
		answers = append(answers, offsets.HMGet(ctx, k.offset(), "last_pos", "next_offset", "whole_from", "incarnation", "hashes", "filling", "lost", "generation"))
		return nil
	})
	if err != nil || offsets == nil {
		return 0, 0, err
	}
	_, generation, err := life(ctx, v.DB.Reader(), p)
	if err != nil {
		return 0, 0, err
	}
	if _, err := offsets.Exec(ctx); err != nil {
		return 0, 0, &redisError{p, err}
	}
	for _, a := range answers {
		f := a.Val()
		if is, _ := f[7].(string); f[4] == nil || f[5] != nil || f[6] != nil || is != generation {
			continue
		}
		_, _, whole, err := wholeness(f[:4])
		if err != nil {
			return 0, 0, err
		}
		if whole {
			filled++
		}
	}
	return filled, len(answers), nil
}

// Remove removes the keys of a version of a view, also those that its index does not know, and no other key. Where it was
// ended it may be called again. holds, unless it is nil, is asked before each portion whether to go on.
//
// The version must not be live any more: its owners are refused from the first portion on, and claim nothing again.
func (v Views) Remove(ctx context.Context, p Projection, holds func(ctx context.Context) error) error {
	var progress []string
	if err := v.each(ctx, p, func(k redisKeys) error { progress = append(progress, k.offset()); return nil }); err != nil {
		return err
	}
	if err := v.unlink(ctx, p, progress, holds); err != nil {
		return err
	}
	for cursor := uint64(0); ; {
		found, next, err := v.Redis.Scan(ctx, cursor, "{*}:"+p.ID()+":*", listKeys).Result()
		if err != nil {
			return &redisError{p, err}
		}
		ours := slices.DeleteFunc(found, func(key string) bool { // an ordering key may look like anything
			_, name, _ := strings.Cut(key, "}:")
			return !strings.HasPrefix(name, p.ID()+":")
		})
		if err := v.unlink(ctx, p, ours, holds); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func (v Views) unlink(ctx context.Context, p Projection, keys []string, holds func(ctx context.Context) error) error {
	for some := range slices.Chunk(keys, pageRows) {
		if holds != nil {
			if err := holds(ctx); err != nil {
				return err
			}
		}
		// One by one: they are of several partitions.
		if _, err := v.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, key := range some {
				pipe.Unlink(ctx, key)
			}
			return nil
		}); err != nil {
			return &redisError{p, err}
		}
	}
	return nil
}

// Fill claims every partition of a version of a view and fills it, as its projectors do, and says how many rows that were.
func (v Views) Fill(ctx context.Context, p Projection) (rows int, err error) {
	t := newRedisTarget(v.Redis, p, 0)
	t.db = v.DB
	defer t.rounds.Wait()
	var all atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	err = v.each(ctx, p, func(k redisKeys) error {
		group.Go(func() error {
			o, err := t.claim(ctx, k.topic, k.part, 0)
			if err != nil {
				return err
			}
			n, err := o.(*redisOwner).refill(ctx)
			all.Add(int64(n))
			return err
		})
		return nil
	})
	if failed := group.Wait(); failed != nil {
		err = failed
	}
	return int(all.Load()), err
}
