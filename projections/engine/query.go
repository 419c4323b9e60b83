package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/projections/reads"
)

// Query selects rows of a table's version: tail is what follows the FROM clause ("WHERE customer_id = ? LIMIT 20").
func Query[R any](ctx context.Context, q reads.Queryer, t *Table[R], version int, tail string, args ...any) ([]R, error) {
	var out []R
	err := t.d.query(ctx, q, version, tail, args, func(row any) { out = append(out, *row.(*R)) })
	return out, err
}

// QueryAll selects all rows of a table's version, as pointers to its row type: for those who compare whole tables,
// whatever is in them.
func QueryAll(ctx context.Context, q reads.Queryer, d *Def, version int) (rows []any, err error) {
	err = d.query(ctx, q, version, "", nil, func(row any) { rows = append(rows, row) })
	return rows, err
}

func (d *Def) query(ctx context.Context, q reads.Queryer, version int, tail string, args []any, each func(row any)) error {
	d = d.at(version)
	rows, err := q.QueryContext(ctx, "SELECT "+d.ColumnList("")+" FROM "+d.Name(version)+" "+tail, args...)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.Name(version), err)
	}
	defer rows.Close()
	for rows.Next() {
		row, err := d.scan(rows.Scan)
		if err != nil {
			return fmt.Errorf("read %s: %w", d.Name(version), err)
		}
		each(row)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read %s: %w", d.Name(version), err)
	}
	return nil
}

// Progress is how far one partition of a projection is, and whose it is. Rows and progress are written together: the
// rows are the fold of exactly the records before NextOffset.
type Progress struct {
	Epoch          int64  // grows with every claim
	Claim          string // random: an epoch may come back after a fail-over that lost it
	Seq            int64  // commits so far
	NextOffset     int64  // of the Kafka partition
	LastPos        uint64 // every event of the partition up to this position is applied; 0 before the first
	LastRecordedAt time.Time
	Incarnation    string // of the store that LastPos belongs to
}

const offsetColumns = "epoch, claim, commit_seq, next_offset, last_pos, last_recorded_at, incarnation"

func scanProgress(scan func(dest ...any) error) (Progress, error) {
	var p Progress
	var at int64
	err := scan(&p.Epoch, &p.Claim, &p.Seq, &p.NextOffset, &p.LastPos, &at, &p.Incarnation)
	if at != 0 {
		p.LastRecordedAt = time.UnixMicro(at).UTC()
	}
	return p, err
}

// Offset reads the progress of one partition of a projection (Projection.ID).
func Offset(ctx context.Context, q reads.Queryer, projectionID, topic string, part int32) (o Progress, found bool, err error) {
	o, err = scanProgress(q.QueryRowContext(ctx,
		"SELECT "+offsetColumns+" FROM projection_offsets WHERE projection = ? AND topic = ? AND part = ?",
		projectionID, topic, part).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Progress{}, false, nil
	}
	if err != nil {
		return Progress{}, false, fmt.Errorf("read the offset of %s, %s/%d: %w", projectionID, topic, part, err)
	}
	return o, true, nil
}

// ActiveVersion reads which version of a projection answers reads; found is false before its tables were made.
func ActiveVersion(ctx context.Context, q reads.Queryer, projection string) (version int, found bool, err error) {
	err = q.QueryRowContext(ctx, "SELECT version FROM projection_pointers WHERE projection = ?", projection).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read the pointer of %s: %w", projection, err)
	}
	return version, true, nil
}
