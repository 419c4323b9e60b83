package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/reactors"
	"github.com/dangdangsalon/salon/readapi/live"
)

// What a process knows of itself, and nobody sees from outside.

func probeLive(s live.Status) (string, error) {
	switch {
	case !s.Placed:
		return "", errors.New(notPlaced(s))
	case s.Trouble != "":
		return "", fmt.Errorf("does not follow the log at the moment: %s", s.Trouble)
	}
	return fmt.Sprintf("%d sockets; remembers %d rooms, %d KiB of messages", s.Sockets, s.Rooms, s.WindowBytes>>10), nil
}

func (n *node) probeRunner(ctx context.Context, r *engine.Runner) (string, error) {
	if stuck := n.movement.stuck(r.Projection.ID(), time.Now()); len(stuck) > 0 {
		return "", errors.New(strings.Join(stuck, "; "))
	}
	var lag int64
	partitions := r.Status()
	for _, s := range partitions {
		if s.Error != "" {
			return "", fmt.Errorf("%s/%d stands still since %s: %s", s.Topic, s.Part, s.Since.UTC().Format("15:04:05"), s.Error)
		}
		lag += s.Lag()
	}
	if len(partitions) == 0 {
		state, err := engine.StateOf(ctx, n.reads.Reader(), r.Projection)
		switch {
		case err != nil:
			return "", err
		case state == engine.Paused:
			paused := fmt.Sprintf("%s: paused; `salon projections resume %s@%d` lets it go on", r.Projection.ID(), r.Projection.Name, r.Projection.Version)
			if serves, _, err := engine.ActiveVersion(ctx, n.reads.Reader(), r.Projection.Name); err != nil || serves == r.Projection.Version {
				return "", errors.Join(errors.New(paused+"; it serves"), err)
			}
			return paused, nil
		case state == engine.Building:
			return r.Projection.ID() + ": is being built", nil
		case state != engine.Live:
			return r.Projection.ID() + ": waits for its rebuild", nil
		}
		return r.Projection.ID() + ": live; this process has none of its partitions, or is about to take them", nil
	}
	return fmt.Sprintf("%s: %d partitions here, %d records behind", r.Projection.ID(), len(partitions), lag), nil
}

// tooLate is how long something may be due before somebody should look: a minute is many passes of a reactor.
const tooLate = time.Minute

func probeFirer(s reactors.Status, now time.Time) (string, error) {
	switch late := s.Late(now).Round(time.Second); {
	case s.Error != "":
		return "", fmt.Errorf("does not fire: %s", s.Error)
	case late > tooLate:
		return "", fmt.Errorf("%d due, the oldest for %v: its log says why", s.Due, late)
	case s.Due > 0:
		return fmt.Sprintf("%d due, the oldest for %v", s.Due, late), nil
	}
	return "nothing due", nil
}

// probeReactor looks at what is due: from within, or from outside, since somebody has to fire it.
func (s *patient) probeReactor(ctx context.Context) (string, error) {
	if s.firer != nil {
		return probeFirer(s.firer.Status(), time.Now())
	}
	return probeOverdue(ctx, s.reads)
}

func probeOverdue(ctx context.Context, db *reads.DB) (string, error) {
	now := time.Now()
	s := reactors.Status{At: now}
	err := db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) (err error) {
		s.Due, s.Oldest, err = reactors.Overdue(ctx, q, now)
		return err
	})
	if err != nil {
		return "", err
	}
	if late := s.Late(now).Round(time.Second); late > tooLate {
		return "", fmt.Errorf("%d due, the oldest for %v: run `salon serve reactor`", s.Due, late)
	}
	return probeFirer(s, now)
}
