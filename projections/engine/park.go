package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/projections/reads"
)

// Parked is a key that waits because one of its events cannot be folded, or its rows cannot be stored (G6). Its rows are
// the fold of exactly its events before FromPos; the ones from there on wait in the store, and everyone else goes on.
//
// The partition's owner alone parks, moves on and unparks a key, each in a fenced transaction with the rows that belong
// to it. Anybody may ask it to try again: RequestRetry.
type Parked struct {
	Projection string    `json:"projection"` // Projection.ID
	Topic      string    `json:"topic"`      // without the prefix
	Part       int32     `json:"part"`
	Key        string    `json:"key"`        // ordering key
	FromPos    uint64    `json:"from_pos"`   // of the first event that is not applied: the one that fails
	AfterPos   uint64    `json:"after_pos"`  // a position of the store before FromPos, 0 for its beginning: where to read on
	EventType  string    `json:"event_type"` // of the event at FromPos
	Cause      string    `json:"cause"`      // one short line; the same for the same fault in several keys
	Detail     string    `json:"detail"`     // error text and stack; no event bodies
	Attempts   int       `json:"attempts"`   // how often FromPos was given up, 1 at first
	ParkedAt   time.Time `json:"parked_at"`
	RetryAt    time.Time `json:"-"` // when somebody asked for a retry that has not ended yet; zero: nobody did
}

const parkedColumns = "projection, topic, part, ordering_key, from_pos, after_pos, event_type, cause, detail, attempts, parked_at, retry_at"

func scanParked(rows *sql.Rows) (p Parked, err error) {
	var parked, retry int64
	err = rows.Scan(&p.Projection, &p.Topic, &p.Part, &p.Key, &p.FromPos, &p.AfterPos, &p.EventType, &p.Cause, &p.Detail, &p.Attempts, &parked, &retry)
	p.ParkedAt = time.UnixMicro(parked).UTC()
	if retry != 0 {
		p.RetryAt = time.UnixMicro(retry).UTC()
	}
	return p, err
}

func queryParked(ctx context.Context, q reads.Queryer, tail string, args ...any) ([]Parked, error) {
	rows, err := q.QueryContext(ctx, "SELECT "+parkedColumns+" FROM projection_parked "+tail, args...)
	if err != nil {
		return nil, fmt.Errorf("read parked keys: %w", err)
	}
	defer rows.Close()
	var out []Parked
	for rows.Next() {
		p, err := scanParked(rows)
		if err != nil {
			return nil, fmt.Errorf("read parked keys: %w", err)
		}
		out = append(out, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read parked keys: %w", err)
	}
	return out, nil
}

// partitionParked reads what an owner has to know.
func partitionParked(ctx context.Context, q reads.Queryer, projectionID, topic string, part int32) (map[string]Parked, error) {
	list, err := queryParked(ctx, q, "WHERE projection = ? AND topic = ? AND part = ?", projectionID, topic, part)
	return byKey(list), err
}

func byKey(list []Parked) map[string]Parked {
	out := map[string]Parked{}
	for _, p := range list {
		out[p.Key] = p
	}
	return out
}

// ListParked reads the parked keys of an SQL projection (Projection.ID), the oldest first.
func ListParked(ctx context.Context, q reads.Queryer, projectionID string) ([]Parked, error) {
	return queryParked(ctx, q, "WHERE projection = ? ORDER BY parked_at, topic, ordering_key", projectionID)
}

// ParkedKey reads whether one ordering key is parked: nothing, or an entry for each topic in which it is. Within a
// snapshot it agrees with the rows and offsets read there.
func ParkedKey(ctx context.Context, q reads.Queryer, projectionID, key string) ([]Parked, error) {
	return queryParked(ctx, q, "WHERE projection = ? AND ordering_key = ? ORDER BY topic", projectionID, key)
}

// ParkedKeys reads what is parked of several SQL projections, for a list whose rows belong to many keys.
func ParkedKeys(ctx context.Context, q reads.Queryer, projectionIDs ...string) ([]Parked, error) {
	if len(projectionIDs) == 0 {
		return nil, nil
	}
	args := make([]any, len(projectionIDs))
	for i, id := range projectionIDs {
		args[i] = id
	}
	return queryParked(ctx, q, "WHERE projection IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(args)), ", ")+") ORDER BY projection, topic, ordering_key", args...)
}

// RequestRetry asks the owner of a parked key's partition to fold what waits. It answers at once; the key is unparked
// when all of it is folded, and stays parked at the event that fails, with one more attempt, when one does.
func RequestRetry(ctx context.Context, db *reads.DB, projectionID, key string) (found bool, err error) {
	n, err := requestRetry(ctx, db, projectionID, "ordering_key", key)
	return n > 0, err
}

// RequestRetryByCause is RequestRetry for every key of the projection that was parked for this cause, and says how many.
func RequestRetryByCause(ctx context.Context, db *reads.DB, projectionID, cause string) (n int, err error) {
	return requestRetry(ctx, db, projectionID, "cause", cause)
}

func requestRetry(ctx context.Context, db *reads.DB, projectionID, column, value string) (int, error) {
	r, err := db.Writer().ExecContext(ctx, "UPDATE projection_parked SET retry_at = ? WHERE projection = ? AND "+column+" = ?",
		time.Now().UnixMicro(), projectionID, value)
	if err != nil {
		return 0, fmt.Errorf("ask for a retry: %w", err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("ask for a retry: %w", err)
	}
	return int(n), nil
}

// errNoViews is a question about a Redis projection to a process that knows no Redis.
var errNoViews = errors.New("no Redis was named, and views are there")
