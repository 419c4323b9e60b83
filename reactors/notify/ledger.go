package notify

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// ledger is what was sent and what is parked, in the reads database. REPLACE is the one upsert that MySQL, MariaDB and
// SQLite all spell alike.
type ledger struct{ DB *sql.DB }

// key is a notification's identity.
type key struct {
	event             uuid.UUID
	receiver, channel string // receiver is "" for an event whose receivers could not be found out
}

// id is the key as the endpoint sees it. Neither part of it has a zero byte.
func (k key) id() uuid.UUID {
	return uuid.NewSHA1(notificationIDs, []byte(k.event.String()+"\x00"+k.receiver+"\x00"+k.channel))
}

// Fixed for ever: an endpoint would take all it has seen for new.
var notificationIDs = uuid.MustParse("0b0b7d2c-9a55-5e1e-8f7e-6a2f6c1f4d58")

// parked is a notification that waits.
type parked struct {
	key
	of            Event
	body          []byte // as it will be sent; nil when the receivers are not known yet
	cause, detail string
	attempts      int
	parkedAt      time.Time
	retryAt       time.Time // zero: until somebody asks
}

const byKey = " WHERE event_id = ? AND receiver = ? AND channel = ?"

func (k key) args(more ...any) []any { return append(more, k.event.String(), k.receiver, k.channel) }

// settled reports whether a notification was sent, or is parked and so somebody else's to send.
func (l ledger) settled(ctx context.Context, k key) (bool, error) {
	var n int
	err := l.DB.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM notification_sent"+byKey+") + (SELECT COUNT(*) FROM notification_parked"+byKey+")",
		k.args(k.args()...)...).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("look up notification: %w", err)
	}
	return n > 0, nil
}

// sent notes a delivery, and that nothing of it waits any more.
func (l ledger) sent(ctx context.Context, k key, at time.Time) error {
	tx, err := l.DB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("note notification: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if k.receiver != "" {
		if _, err := tx.ExecContext(ctx, "REPLACE INTO notification_sent (sent_at, event_id, receiver, channel) VALUES (?, ?, ?, ?)", k.args(at.UnixMicro())...); err != nil {
			return fmt.Errorf("note notification: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM notification_parked"+byKey, k.args()...); err != nil {
		return fmt.Errorf("unpark notification: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("note notification: %w", err)
	}
	return nil
}

func (l ledger) park(ctx context.Context, p parked) error {
	of, err := json.Marshal(p.of)
	if err != nil {
		return fmt.Errorf("park notification: %w", err)
	}
	_, err = l.DB.ExecContext(ctx, `REPLACE INTO notification_parked
		(event, body, cause, detail, attempts, parked_at, retry_at, event_id, receiver, channel) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		p.args(string(of), string(p.body), p.cause, p.detail, p.attempts, p.parkedAt.UnixMicro(), micros(p.retryAt))...)
	if err != nil {
		return fmt.Errorf("park notification: %w", err)
	}
	return nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// due lists parked notifications whose time has come, the longest waiting first.
func (l ledger) due(ctx context.Context, channel string, now time.Time, most int) ([]parked, error) {
	return l.list(ctx, "WHERE channel = ? AND retry_at > 0 AND retry_at <= ? ORDER BY retry_at LIMIT ?", channel, now.UnixMicro(), most)
}

func (l ledger) list(ctx context.Context, tail string, args ...any) ([]parked, error) {
	rows, err := l.DB.QueryContext(ctx, "SELECT event_id, receiver, channel, event, body, cause, detail, attempts, parked_at, retry_at FROM notification_parked "+tail, args...)
	if err != nil {
		return nil, fmt.Errorf("read parked notifications: %w", err)
	}
	defer rows.Close()
	var out []parked
	for rows.Next() {
		var p parked
		var event, of, body string
		var at, retry int64
		if err := rows.Scan(&event, &p.receiver, &p.channel, &of, &body, &p.cause, &p.detail, &p.attempts, &at, &retry); err != nil {
			return nil, fmt.Errorf("read parked notifications: %w", err)
		}
		if p.event, err = uuid.Parse(event); err != nil {
			return nil, fmt.Errorf("read parked notifications: %w", err)
		}
		if err := json.Unmarshal([]byte(of), &p.of); err != nil {
			return nil, fmt.Errorf("read parked notifications: %w", err)
		}
		p.parkedAt = time.UnixMicro(at).UTC()
		if retry > 0 {
			p.retryAt = time.UnixMicro(retry).UTC()
		}
		if body != "" {
			p.body = []byte(body)
		}
		out = append(out, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read parked notifications: %w", err)
	}
	return out, nil
}

// take moves a parked notification's next try away, for the one caller that sees it due. One that dies on it is
// followed by another after the lease.
func (l ledger) take(ctx context.Context, p parked, until time.Time) (bool, error) {
	done, err := l.DB.ExecContext(ctx, "UPDATE notification_parked SET retry_at = ? WHERE retry_at = ? AND event_id = ? AND receiver = ? AND channel = ?",
		p.args(until.UnixMicro(), p.retryAt.UnixMicro())...)
	if err != nil {
		return false, fmt.Errorf("take parked notification: %w", err)
	}
	n, err := done.RowsAffected()
	return n == 1, err
}

// ask makes every parked notification of a cause due, "" for all.
func (l ledger) ask(ctx context.Context, channel, cause string, at time.Time) (int, error) {
	done, err := l.DB.ExecContext(ctx, "UPDATE notification_parked SET retry_at = ? WHERE channel = ? AND (cause = ? OR ? = '')", at.UnixMicro(), channel, cause, cause)
	if err != nil {
		return 0, fmt.Errorf("ask for parked notifications: %w", err)
	}
	n, err := done.RowsAffected()
	return int(n), err
}

// forget removes what was sent before a time.
func (l ledger) forget(ctx context.Context, before time.Time) error {
	if _, err := l.DB.ExecContext(ctx, "DELETE FROM notification_sent WHERE sent_at < ?", before.UnixMicro()); err != nil {
		return fmt.Errorf("forget old notifications: %w", err)
	}
	return nil
}
