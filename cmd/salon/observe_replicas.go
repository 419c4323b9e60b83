package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/internal/telemetry"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/readapi"
)

// watchedEvery is how often the role admin asks how far the replicas of the reads database are.
const watchedEvery = time.Second

// watched is a host of --reads-replica, as the role admin looks at it: by itself, since of several the first that answers
// would stand for one that does not.
type watched struct {
	name string
	of   *readapi.Replica
	said string // what keeps it from following; the same is told once
}

// openWatched opens the hosts of --reads-replica. They may be away.
func (n *node) openWatched() error {
	urls, err := reads.ReplicaURLs(n.replicas.ReadsReplica)
	for name, url := range urls {
		db, e := reads.OpenReplica(url)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		n.watched = append(n.watched, &watched{name: name, of: &readapi.Replica{DB: db, Primary: n.reads, Every: watchedEvery}})
	}
	return err
}

func (n *node) closeWatched() (err error) {
	for _, w := range n.watched {
		err = errors.Join(err, w.of.DB.Close())
	}
	return err
}

// seeWatched tells of each host, but for those that take writes: the primary, or who was promoted.
func (n *node) seeWatched(ctx context.Context, s *telemetry.System) {
	if len(n.watched) == 0 {
		return
	}
	s.Replicas["reads"] = []telemetry.Replica{}
	for _, w := range n.watched {
		if r, is := n.see(ctx, w); is {
			s.Replicas["reads"] = append(s.Replicas["reads"], r)
		}
	}
}

func (n *node) see(ctx context.Context, w *watched) (r telemetry.Replica, is bool) {
	looking, cancel := context.WithTimeout(ctx, lookTakes)
	defer cancel()
	r.Name = w.name
	stopped := ""
	writes, err := w.of.DB.TakesWrites(looking)
	if writes {
		return r, false
	}
	if err == nil {
		stopped, err = w.of.DB.Follows(looking)
	}
	untold := errors.Is(err, reads.ErrNotTold)
	switch {
	case untold:
		stopped = err.Error()
	case err != nil:
		stopped = fmt.Sprint("it does not answer: ", err)
	}
	if behind, known := w.of.Behind(); known && (untold || err == nil) { // which needs no right
		r.Behind = &behind
	}
	if runs := stopped == ""; !untold {
		r.Runs = &runs
	}
	if stopped != w.said && ctx.Err() == nil {
		w.said = stopped
		if stopped != "" {
			n.tel.Log.WarnContext(ctx, "a replica of the reads database does not follow, as far as is known", "replica", w.name, "why", stopped)
		} else {
			n.tel.Log.InfoContext(ctx, "a replica of the reads database follows", "replica", w.name)
		}
	}
	return r, true
}
