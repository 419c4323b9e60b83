package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/projections/reads"
)

// copying is one copy of a partition's rows from the SQL projection behind a view, all of one snapshot: rows and offset
// belong together. It holds a page at a time, however large the partition is.
type copying struct {
	o     *redisOwner
	page  writes
	at    Progress // of the snapshot
	found bool     // there is something to copy
	rows  int
	// waiting are the keys that are parked there: their rows end where they parked, so they wait here as well.
	waiting map[string]Parked
}

func (c *copying) run(ctx context.Context) error {
	p, k := c.o.t.p, c.o.keys
	return c.o.t.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		// Of the view's own version: another one has other columns, or another fold. One that is not live is being built, or
		// dropped.
		state, generation, err := life(ctx, q, p)
		if err != nil {
			return err
		}
		if state != Live || generation != c.o.generation {
			return ErrNotLive
		}
		behind := p.Origin().ID()
		if c.at, c.found, err = Offset(ctx, q, behind, k.topic, k.part); err != nil {
			return err
		}
		if c.found = c.found && c.at.LastPos > 0; !c.found {
			return nil
		}
		partitions, err := Partitions(ctx, q, k.topic)
		if err != nil {
			return err
		}
		if err := c.park(ctx, q, behind); err != nil {
			return err
		}
		for _, t := range p.Tables {
			if err := c.table(ctx, q, t.Def(), partitions); err != nil {
				return err
			}
		}
		return c.flush(ctx)
	})
}

func (c *copying) park(ctx context.Context, q reads.Queryer, behind string) error {
	list, err := partitionParked(ctx, q, behind, c.o.keys.topic, c.o.keys.part)
	if err != nil {
		return err
	}
	for key, p := range list {
		p.Projection, p.RetryAt = c.o.t.p.ID(), time.Time{}
		c.waiting[key] = p
		text, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("park %q: %w", key, err)
		}
		c.page.named(c.o.keys.parkedName()).put(key, text)
		if err := c.flushFull(ctx); err != nil {
			return err
		}
	}
	return nil
}

// table copies the partition's rows of one table. Which partition an ordering key belongs to is not for SQL to say: the
// keys are listed, from the index alone, and the rows of ours are read.
func (c *copying) table(ctx context.Context, q reads.Queryer, d *Def, partitions int) error {
	for after := ""; ; {
		listed, err := c.list(ctx, q, d, after)
		if err != nil || len(listed) == 0 {
			return err
		}
		after = listed[len(listed)-1]
		ours := slices.DeleteFunc(listed, func(key string) bool { return PartitionOf(key, partitions) != c.o.keys.part })
		for keys := range slices.Chunk(ours, readKeys) {
			if err := c.read(ctx, q, d, keys); err != nil {
				return fmt.Errorf("copy %s: %w", d.Name(c.o.t.p.Version), err)
			}
		}
	}
}

func (c *copying) list(ctx context.Context, q reads.Queryer, d *Def, after string) (keys []string, err error) {
	name := d.Name(c.o.t.p.Version)
	rows, err := q.QueryContext(ctx, "SELECT DISTINCT ordering_key FROM "+name+" WHERE ordering_key > ? ORDER BY ordering_key LIMIT ?", after, listKeys)
	if err != nil {
		return nil, fmt.Errorf("list the keys of %s: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, fmt.Errorf("list the keys of %s: %w", name, err)
		}
		keys = append(keys, key)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the keys of %s: %w", name, err)
	}
	return keys, nil
}

// read copies the rows of some ordering keys as they come: one key may have more than a page.
func (c *copying) read(ctx context.Context, q reads.Queryer, d *Def, keys []string) error {
	query, args := c.query(d, keys)
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	at := d.at(c.o.t.p.Version)
	for rows.Next() {
		var ordering string
		row, err := at.scan(rows.Scan, &ordering)
		if err != nil {
			return err
		}
		if err := c.page.hash(d, ordering).set(d, d.keyOf(row), row); err != nil {
			return err
		}
		c.rows++
		if err := c.flushFull(ctx); err != nil {
			return err
		}
	}
	return rows.Err()
}

// query selects all rows of these keys, or of each the latest that the view keeps.
func (c *copying) query(d *Def, keys []string) (query string, args []any) {
	columns := d.at(c.o.t.p.Version).ColumnList("") + ", ordering_key"
	from := " FROM " + d.Name(c.o.t.p.Version) + " WHERE ordering_key "
	latest := c.o.t.p.Latest[d]
	if latest == 0 {
		for _, key := range keys {
			args = append(args, key)
		}
		return "SELECT " + columns + from + "IN (" + list("?", len(keys)) + ")", args
	}
	order := make([]string, len(d.PK))
	for i, column := range d.PK {
		order[i] = quote(d.Columns[column].Name) + " DESC"
	}
	parts := make([]string, len(keys))
	for i, key := range keys {
		// Each in a query of its own: that is what both dialects take, and each reads the end of an index.
		parts[i] = "SELECT " + columns + " FROM (SELECT " + columns + from + "= ? ORDER BY " + strings.Join(order, ", ") + " LIMIT ?) k"
		args = append(args, key, latest)
	}
	return strings.Join(parts, " UNION ALL "), args
}

// fillScript adds rows where none were. ARGV: claim, epoch, the rows.
var fillScript = redis.NewScript(writing + fencing + `
if not now[3] then return 0 end
local counts = counted(3)
for k = 3, #KEYS do
  if counts[k] == 0 then redis.call('UNLINK', KEYS[k]) end -- left over from before the index was lost
end
write(3, counts)
return 1`)

func (c *copying) flushFull(ctx context.Context) error {
	if c.page.rows < pageRows && c.page.bytes < pageBytes {
		return nil
	}
	return c.flush(ctx)
}

func (c *copying) flush(ctx context.Context) error {
	if c.page.rows == 0 {
		return nil
	}
	keys, args := c.page.script(c.o.at.Claim, c.o.at.Epoch)
	c.page = writes{keys: c.o.keys}
	return c.o.step(ctx, fillScript, keys, args...)
}
