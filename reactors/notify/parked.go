package notify

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"
)

// lease is how long one sender has a parked notification to itself: longer than a delivery can take.
const lease = time.Minute

// Parked is a notification that waits, as operators see it.
type Parked struct {
	EventID   uuid.UUID  `json:"event_id"`
	EventType string     `json:"event_type"`
	Receiver  string     `json:"receiver"` // "" while the receivers are not known
	Cause     string     `json:"cause"`    // groups them
	Detail    string     `json:"detail"`
	Attempts  int        `json:"attempts"`
	ParkedAt  time.Time  `json:"parked_at"`
	RetryAt   *time.Time `json:"retry_at"` // nil: when somebody asks
}

// Parking is what waits, for whoever has the reads database: no sender is needed beside it.
type Parking struct{ DB *sql.DB }

// List reads up to most of what waits, the oldest first.
func (p Parking) List(ctx context.Context, most int) ([]Parked, error) {
	waiting, err := ledger(p).list(ctx, "WHERE channel = ? ORDER BY parked_at, event_id LIMIT ?", channel, most)
	out := make([]Parked, len(waiting))
	for i, w := range waiting {
		out[i] = Parked{w.event, w.of.Type, w.receiver, w.cause, w.detail, w.attempts, w.parkedAt, nil}
		if !w.retryAt.IsZero() {
			out[i].RetryAt = &w.retryAt
		}
	}
	return out, err
}

// Retry asks for all that is parked for a cause, "" for everything; whichever sender runs does it within seconds. It
// answers how many there are.
func (p Parking) Retry(ctx context.Context, cause string) (asked int, err error) {
	return ledger(p).ask(ctx, channel, cause, time.Now())
}

// sweep tries parked notifications again when their time has come, and forgets what is too old to come again.
func (s *Sender) sweep(ctx context.Context) {
	var forgot time.Time
	said := false
	for pause(ctx, s.Sweep) == nil {
		now := s.Now()
		due, err := s.ledger.due(ctx, channel, now, 100)
		for _, p := range due {
			if err != nil || ctx.Err() != nil {
				break
			}
			err = s.again(ctx, p)
		}
		if err == nil && now.Sub(forgot) > time.Hour {
			forgot = now
			err = s.ledger.forget(ctx, now.Add(-2*s.MaxAge))
		}
		if err != nil && ctx.Err() == nil && !said {
			s.Log.ErrorContext(ctx, "parked notifications are not looked at", "error", err)
		}
		said = err != nil
	}
}

// again is one more try of a parked notification.
func (s *Sender) again(ctx context.Context, p parked) error {
	if mine, err := s.ledger.take(ctx, p, s.Now().Add(lease)); err != nil || !mine {
		return err
	}
	var f *failure
	if p.body != nil {
		if f = s.hook.post(ctx, p.id().String(), p.body); f == nil {
			s.ailing.Store(false)
		}
	} else {
		f = s.askAgain(ctx, p)
	}
	if ctx.Err() != nil && f != nil {
		return ctx.Err() // the lease runs out
	}
	if f == nil {
		return s.delivered(ctx, p.key)
	}
	p.cause, p.detail, p.retryAt = f.cause, f.detail, time.Time{}
	p.attempts++
	if n := s.pauses(p); !f.final && n < len(s.Later) {
		p.retryAt = s.Now().Add(s.Later[n])
	}
	return s.ledger.park(ctx, p)
}

// pauses is how many of its pauses a parked notification has had: by its age, so that one that somebody asked for in
// between goes on where it was.
func (s *Sender) pauses(p parked) int {
	had, age := 0, s.Now().Sub(p.parkedAt)
	for _, d := range s.Later {
		if age -= d; age < 0 {
			break
		}
		had++
	}
	return had
}

// askAgain finds out whom to tell, and tells them or parks what cannot be told.
func (s *Sender) askAgain(ctx context.Context, p parked) *failure {
	if p.of.Type == "" {
		return &failure{cause: p.cause, detail: p.detail, final: true} // a record that could not be read has not changed
	}
	notices, err := s.Directory.Notices(ctx, p.of)
	if err != nil {
		return &failure{cause: "receivers unknown", detail: err.Error()}
	}
	for _, n := range notices {
		if err := s.tell(ctx, p.of, n); err != nil {
			return &failure{cause: "stopped", detail: err.Error()}
		}
	}
	return nil
}
