package reactors

import (
	"context"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// since is how long ago a row may have been due for its command to make sense: a visit that has begun is not reminded of.
// Its row leaves when somebody notes what became of the visit; until then it is passed over.
func since(kind string, now time.Time) time.Time {
	if kind == Remind {
		return now.Add(-groomer.ReminderLead)
	}
	return time.UnixMicro(0)
}

// dueAfter reads what is due of one kind in the order of its time, after one row of it or from the first (a zero after).
func dueAfter(ctx context.Context, db *reads.DB, kind string, now time.Time, after Due, most int) (rows []Due, err error) {
	from := max(since(kind, now).UnixMicro(), micros(after.DueAt))
	err = db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		version, found, err := engine.ActiveVersion(ctx, q, "timers")
		if err != nil || !found {
			return err // before its first start nothing is due
		}
		rows, err = engine.Query(ctx, q, Table, version,
			"WHERE kind = ? AND due_at >= ? AND due_at <= ? AND (due_at > ? OR reservation_id > ?) ORDER BY due_at, reservation_id LIMIT ?",
			kind, from, now.UnixMicro(), from, after.ReservationID, most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what is due: %w", err)
	}
	return rows, nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Overdue counts what is due at a moment, and tells since when the oldest has been: for those who watch from outside.
func Overdue(ctx context.Context, q reads.Queryer, now time.Time) (count int, oldest time.Time, err error) {
	version, found, err := engine.ActiveVersion(ctx, q, "timers")
	if err != nil || !found {
		return 0, time.Time{}, err
	}
	for _, kind := range []string{Expire, Remind} {
		var n int
		var at int64
		err := q.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(MIN(due_at), 0) FROM "+Table.Def().Name(version)+
			" WHERE kind = ? AND due_at > ? AND due_at <= ?", kind, since(kind, now).UnixMicro(), now.UnixMicro()).Scan(&n, &at)
		if err != nil {
			return 0, time.Time{}, fmt.Errorf("count what is due: %w", err)
		}
		if count += n; n > 0 && (oldest.IsZero() || at < oldest.UnixMicro()) {
			oldest = time.UnixMicro(at).UTC()
		}
	}
	return count, oldest, nil
}
