package main

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/projections/reads"
)

// held is all that the servers hold of a system: every row of every table, every value in Redis, every record in Kafka.
func (c *cluster) held(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for name, collect := range map[string]func(context.Context) ([]byte, error){
		"PostgreSQL": c.heldByPostgres, "MySQL": c.heldByMySQL, "Redis": c.heldByRedis, "Kafka": c.heldByKafka,
	} {
		var err error
		if out[name], err = collect(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return out
}

func (c *cluster) heldByPostgres(ctx context.Context) ([]byte, error) {
	db, err := sql.Open("pgx", c.events)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return heldByTables(ctx, db, "SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'")
}

func (c *cluster) heldByMySQL(ctx context.Context) ([]byte, error) {
	db, err := reads.Open(ctx, c.reads)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return heldByTables(ctx, db.Writer(), "SELECT CONCAT('`', table_name, '`') FROM information_schema.tables WHERE table_schema = DATABASE()")
}

func heldByTables(ctx context.Context, db *sql.DB, tables string) (held []byte, err error) {
	names, err := rowsOf(ctx, db, tables)
	if err != nil {
		return nil, err
	}
	for name := range strings.FieldsSeq(string(names)) {
		rows, err := rowsOf(ctx, db, "SELECT * FROM "+name)
		if err != nil {
			return nil, err
		}
		held = append(held, rows...)
	}
	return held, nil
}

// rowsOf is a query's answer, a line for each row.
func rowsOf(ctx context.Context, db *sql.DB, query string) (out []byte, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, dest := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		for _, v := range values {
			out = append(append(out, v...), ' ')
		}
		out = append(out, '\n')
	}
	return out, rows.Err()
}

func (c *cluster) heldByRedis(ctx context.Context) (held []byte, err error) {
	options, err := redis.ParseURL(c.redis)
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(options)
	defer client.Close()
	for keys := client.Scan(ctx, 0, "", 1000).Iterator(); keys.Next(ctx); {
		key := keys.Val()
		held = append(held, key...)
		switch kind, err := client.Type(ctx, key).Result(); {
		case err != nil:
			return nil, err
		case kind == "hash":
			all, err := client.HGetAll(ctx, key).Result()
			if err != nil {
				return nil, err
			}
			for k, v := range all {
				held = append(append(held, k...), v...)
			}
		case kind == "string":
			v, err := client.Get(ctx, key).Result()
			if err != nil && !errors.Is(err, redis.Nil) { // it has expired
				return nil, err
			}
			held = append(held, v...)
		case kind == "zset":
			all, err := client.ZRange(ctx, key, 0, -1).Result()
			if err != nil {
				return nil, err
			}
			held = append(held, strings.Join(all, " ")...)
		case kind == "set":
			all, err := client.SMembers(ctx, key).Result()
			if err != nil {
				return nil, err
			}
			held = append(held, strings.Join(all, " ")...)
		case kind == "none":
		default:
			return nil, errors.New("nobody has looked into a " + kind + " yet: " + key)
		}
	}
	return held, nil
}

func (c *cluster) heldByKafka(ctx context.Context) (held []byte, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(c.kafka, ",")...), kgo.ConsumeRegex(), kgo.ConsumeTopics("^"+strings.ReplaceAll(c.prefix, ".", "[.]")+".*"))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	var own []string
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, c.prefix) {
			own = append(own, name)
		}
	}
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, own...)
	if err != nil {
		return nil, err
	}
	left := map[string]map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			if left[o.Topic] == nil {
				left[o.Topic] = map[int32]int64{}
			}
			left[o.Topic][o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for r := range fetches.RecordsAll() {
			held = append(append(held, r.Key...), r.Value...)
			for _, h := range r.Headers {
				held = append(append(held, h.Key...), h.Value...)
			}
			if r.Offset+1 >= left[r.Topic][r.Partition] {
				if delete(left[r.Topic], r.Partition); len(left[r.Topic]) == 0 {
					delete(left, r.Topic)
				}
			}
		}
	}
	return held, nil
}
