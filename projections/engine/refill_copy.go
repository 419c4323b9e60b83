package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/projections/reads"
)

// round is one copy of partitions' rows from the SQL projection behind a view, all of one snapshot: rows and offsets belong
// together. Whatever of a view is to be filled at the same time is copied together, since one walk through the tables costs
// little more for all partitions than for one. It holds a page of each, however large they are.
type round struct {
	t       *redisTarget
	parts   []*filling
	writing errgroup.Group // of pages, beside the reading
}

// filling is what one partition gets of a round.
type filling struct {
	o     *redisOwner
	ctx   context.Context // of whoever waits for it
	done  chan struct{}   // closed when the round has ended
	page  writes
	at    Progress // of the snapshot
	found bool     // there is something to copy
	rows  int
	// waiting are the keys that are parked there: their rows end where they parked, so they wait here as well.
	waiting map[string]Parked

	mu  sync.Mutex
	err error // the first; nothing more is written then
}

func (f *filling) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// over tells whether nobody wants more of it.
func (f *filling) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil || f.ctx.Err() != nil
}

// copyRows copies the rows of the owner's partition, in a round with whoever else waits for one.
func (o *redisOwner) copyRows(ctx context.Context) (*filling, error) {
	f := &filling{o: o, ctx: ctx, done: make(chan struct{}), page: writes{keys: o.keys}, waiting: map[string]Parked{}}
	o.t.mu.Lock()
	o.t.joined = append(o.t.joined, f)
	o.t.mu.Unlock()
	select {
	case <-f.done:
	case o.t.round <- struct{}{}:
		select {
		case <-time.After(gathering):
		case <-ctx.Done():
		}
		o.t.mu.Lock()
		r := &round{t: o.t, parts: o.t.joined}
		o.t.joined = nil
		o.t.mu.Unlock()
		// By itself: whoever began it may have to leave before the others have theirs. It ends when all have left.
		o.t.rounds.Go(func() {
			defer func() { <-o.t.round }()
			r.run(context.WithoutCancel(ctx))
		})
	case <-ctx.Done():
	}
	select {
	case <-f.done:
		return f, f.err
	case <-ctx.Done():
		return f, ctx.Err()
	}
}

func (r *round) run(ctx context.Context) {
	r.parts = slices.DeleteFunc(r.parts, (*filling).over)
	if len(r.parts) == 0 {
		return
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	for _, f := range r.parts {
		defer context.AfterFunc(f.ctx, func() {
			if !slices.ContainsFunc(r.parts, func(f *filling) bool { return !f.over() }) {
				end() // nobody waits any more
			}
		})()
	}
	r.writing.SetLimit(pagesAtOnce)
	err := r.t.db.Snapshot(ctx, r.copy)
	_ = r.writing.Wait() // each page told its own partition
	for _, f := range r.parts {
		if err != nil {
			f.fail(err)
		}
		close(f.done)
	}
}

func (r *round) copy(ctx context.Context, q reads.Queryer) error {
	p, wanted, partitions := r.t.p, map[redisPart]*filling{}, map[string]int{}
	// Of the view's own version: another one has other columns, or another fold. One that is not live is being built, or
	// dropped.
	state, generation, err := life(ctx, q, p)
	if err != nil {
		return err
	}
	for _, f := range r.parts {
		if state != Live || generation != f.o.generation {
			f.fail(ErrNotLive)
			continue
		}
		k := f.o.keys
		if f.at, f.found, err = Offset(ctx, q, p.Origin().ID(), k.topic, k.part); err != nil {
			return err
		}
		if f.found = f.found && f.at.LastPos > 0; !f.found {
			continue
		}
		if partitions[k.topic], err = Partitions(ctx, q, k.topic); err != nil {
			return err
		}
		if err := r.park(ctx, q, f); err != nil {
			return err
		}
		wanted[redisPart{k.topic, "", k.part}] = f
	}
	if len(wanted) == 0 {
		return nil
	}
	all := 0
	for _, n := range partitions {
		all += n
	}
	c := &copying{r: r, wanted: wanted, partitions: partitions}
	for _, t := range p.Tables {
		walk := c.byKeys
		if p.Latest[t.Def()] == 0 && len(wanted)*walkShare >= all {
			walk = c.through
		}
		if err := walk(ctx, q, t.Def()); err != nil {
			return fmt.Errorf("copy %s: %w", t.Def().Name(p.Version), err)
		}
	}
	for _, f := range wanted {
		r.flush(f)
	}
	return nil
}

func (r *round) park(ctx context.Context, q reads.Queryer, f *filling) error {
	list, err := partitionParked(ctx, q, r.t.p.Origin().ID(), f.o.keys.topic, f.o.keys.part)
	if err != nil {
		return err
	}
	for key, p := range list {
		p.Projection, p.RetryAt = r.t.p.ID(), time.Time{}
		f.waiting[key] = p
		text, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("park %q: %w", key, err)
		}
		f.page.named(f.o.keys.parkedName()).put(key, text)
		r.flushFull(f)
	}
	return nil
}

// copying is the walk through the tables.
type copying struct {
	r          *round
	wanted     map[redisPart]*filling
	partitions map[string]int // of each topic
}

// of is whose an ordering key is; nil: nobody's in this round. A key belongs to one topic's rows; which one a table does not
// say, and a view of several would have to.
func (c *copying) of(key string) *filling {
	for topic, n := range c.partitions {
		if f := c.wanted[redisPart{topic, "", PartitionOf(key, n)}]; f != nil {
			return f
		}
	}
	return nil
}

// through reads a whole table: for many partitions at once. What no key is asked for comes as it lies.
func (c *copying) through(ctx context.Context, q reads.Queryer, d *Def) error {
	version := c.r.t.p.Version
	return c.read(ctx, q, d, "SELECT "+d.at(version).ColumnList("")+", ordering_key FROM "+d.Name(version))
}

// byKeys reads the rows of some ordering keys: for few partitions, or few rows of each key. Which partition a key belongs to
// is not for SQL to say: the keys are listed, from the index alone, and the rows of ours are read.
func (c *copying) byKeys(ctx context.Context, q reads.Queryer, d *Def) error {
	for after := ""; ; {
		listed, err := c.list(ctx, q, d, after)
		if err != nil || len(listed) == 0 {
			return err
		}
		after = listed[len(listed)-1]
		ours := slices.DeleteFunc(listed, func(key string) bool { return c.of(key) == nil })
		for keys := range slices.Chunk(ours, readKeys) {
			query, args := c.query(d, keys)
			if err := c.read(ctx, q, d, query, args...); err != nil {
				return err
			}
		}
	}
}

func (c *copying) list(ctx context.Context, q reads.Queryer, d *Def, after string) (keys []string, err error) {
	name := d.Name(c.r.t.p.Version)
	rows, err := q.QueryContext(ctx, "SELECT DISTINCT ordering_key FROM "+name+" WHERE ordering_key > ? ORDER BY ordering_key LIMIT ?", after, listKeys)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		keys = append(keys, key)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return keys, nil
}

// read copies the rows of a query as they come: one key may have more than a page.
func (c *copying) read(ctx context.Context, q reads.Queryer, d *Def, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	at := d.at(c.r.t.p.Version)
	for rows.Next() {
		var ordering string
		row, err := at.scan(rows.Scan, &ordering)
		if err != nil {
			return err
		}
		f := c.of(ordering)
		if f == nil {
			continue
		}
		if err := f.page.hash(d, ordering).set(d, d.keyOf(row), row); err != nil {
			return err
		}
		f.rows++
		c.r.flushFull(f)
	}
	return rows.Err()
}

// query selects all rows of these keys, or of each the latest that the view keeps.
func (c *copying) query(d *Def, keys []string) (query string, args []any) {
	p := c.r.t.p
	columns := d.at(p.Version).ColumnList("") + ", ordering_key"
	from := " FROM " + d.Name(p.Version) + " WHERE ordering_key "
	latest := p.Latest[d]
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
local counts, strays = counted(3), {}
for k = 3, #KEYS do
  if counts[k] == 0 then strays[#strays + 1] = KEYS[k] end -- if it is there, it was left over from before the index was lost
end
for i = 1, #strays, 100 do redis.call('UNLINK', unpack(strays, i, math.min(i + 99, #strays))) end
write(3, counts)
return 1`)

func (r *round) flushFull(f *filling) {
	if f.page.rows >= pageRows || f.page.bytes >= pageBytes {
		r.flush(f)
	}
}

// flush has a page written while the next is read. The order of a partition's pages does not matter: each adds rows.
func (r *round) flush(f *filling) {
	page := f.page
	f.page = writes{keys: f.o.keys}
	if page.rows == 0 || f.over() {
		return
	}
	r.writing.Go(func() error {
		keys, args := page.script(f.o.at.Claim, f.o.at.Epoch)
		if err := f.o.step(f.ctx, fillScript, keys, args...); err != nil {
			f.fail(err)
		}
		return nil
	})
}
