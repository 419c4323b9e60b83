package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/audit/doctor"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/engine"
)

// unhurried is for a machine that is busy: how a part is, not how quick it is.
var unhurried = []string{"--limit", "15s", "-o", "json"}

// patientFindings answers what doctor finds, by part, and fails the test when exit code and findings do not agree.
func patientFindings(t *testing.T, args ...string) map[string]doctor.Finding {
	t.Helper()
	got := call(t, append(append([]string{"doctor"}, args...), unhurried...)...)
	var findings []doctor.Finding
	if err := json.Unmarshal([]byte(got.out), &findings); err != nil {
		t.Fatalf("doctor: exit %d, %v\n%s%s", got.code, err, got.out, got.err)
	}
	out, want := map[string]doctor.Finding{}, 0
	for _, f := range findings {
		out[f.Part] = f
		if !f.Well {
			want = 1
			if !strings.Contains(got.err, f.Part) {
				t.Errorf("the reason does not name %s: %s", f.Part, got.err)
			}
		}
	}
	if got.code != want {
		t.Errorf("exit code %d, want %d\n%s%s", got.code, want, got.out, got.err)
	}
	return out
}

// hurt checks that these parts are not well and all others are, that each says what is wanted, and which command mends it.
func hurt(t *testing.T, got map[string]doctor.Finding, want map[string]string) {
	t.Helper()
	for part, f := range got {
		said, hurt := want[part]
		if hurt == f.Well {
			t.Errorf("%s: well is %t: %s", part, f.Well, f.Detail)
		}
		if !strings.Contains(f.Detail, said) {
			t.Errorf("%s does not say %q: %s", part, said, f.Detail)
		}
		if hurt && len(f.Mend) == 0 {
			t.Errorf("%s names no command: %s", part, f.Detail)
		}
	}
	for part := range want {
		if _, told := got[part]; !told {
			t.Errorf("nothing is told of %s", part)
		}
	}
}

// TestDoctorNamesWhatIsHurt hurts one part after the other of a system on real servers, and mends what a command mends by that
// command.
func TestDoctorNamesWhatIsHurt(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	c.prepare(t)
	servers := append(append(c.databases(), c.topics()...), "--redis", c.redis)
	rest := c.member(t, "all roles", "commands", "readapi", "admin", "relay", "projector", "reactor", "live")
	stop := within(t, &output{}, rest.args...)
	if err := awaitReady(t.Context(), rest.url); err != nil {
		t.Fatal(err)
	}
	store, m := c.openStore(t), c.openModels(t)
	w := newTown([]string{rest.url}, []string{rest.url}, c.mint(t))
	w.open(t.Context(), 1, salons(2))
	w.report(t)
	m.caughtUp(t, mustRead(t, store))

	look := func(t *testing.T, more ...string) map[string]doctor.Finding {
		t.Helper()
		return patientFindings(t, append(slices.Clone(servers), more...)...)
	}
	run := func(t *testing.T, command string, more ...string) { // as doctor gave it
		t.Helper()
		well(t, append(strings.Fields(strings.TrimPrefix(command, "salon ")), more...)...)
	}
	events, err := sql.Open("pgx", c.events)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { events.Close() })
	do := func(t *testing.T, db *sql.DB, statement string, args ...any) {
		t.Helper()
		done, err := db.ExecContext(t.Context(), statement, args...)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			t.Fatalf("%s: %d rows, %v", statement, n, err)
		}
	}
	inReads := m.db.Writer()

	hurt(t, look(t), nil)
	hurt(t, look(t, "--full"), nil)

	// Rows that somebody changed by hand, in each read model: sampled, and looked at one by one.
	do(t, inReads, "UPDATE groomers_v1 SET name = 'Somebody else' WHERE groomer_id = 'salon-0'")
	for _, more := range [][]string{nil, {"--full"}} {
		got := look(t, more...)
		hurt(t, got, map[string]string{"rows of tables": "groomers@1: row salon-0 of groomers (key salon-0), name: in version 1 it is not the fold of the store"})
		if len(more) > 0 {
			run(t, got["rows of tables"].Mend[0], append(c.databases(), c.topics()...)...)
		}
	}
	rows := viewKey(t, m, "salon-1")
	field, text := anyField(t, m.redis, rows)
	if err := m.redis.HSet(t.Context(), rows, field, strings.Replace(text, "Asia/Seoul", "Asia/Tokyo", 1)).Err(); err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{nil, {"--full"}} {
		got := look(t, more...)
		hurt(t, got, map[string]string{"rows of views": "in the view it is not the fold of the store"})
		if mend := got["rows of views"].Mend; len(more) > 0 {
			if want := "salon projections rebuild calendar@1 --key salon-1"; !slices.Contains(mend, want) {
				t.Errorf("%q does not have %q", mend, want)
			}
			run(t, mend[0], append(append(c.databases(), c.topics()...), "--redis", c.redis)...)
		}
	}
	hurt(t, look(t, "--full"), nil)

	t.Run("parked", func(t *testing.T) {
		do(t, inReads, "INSERT INTO projection_parked (projection, topic, part, ordering_key, from_pos, after_pos, event_type, cause, detail, attempts, parked_at, retry_at) "+
			"VALUES ('stats_v1', 'salon.booking.v1', 0, 'it''s', 3, 2, 'a.v1', 'does not fold', '', 1, 1, 0)")
		got := look(t)
		hurt(t, got, map[string]string{"parked": "stats@1: key it's waits since position 3 (a.v1): does not fold"})
		if want := []string{`salon projections retry stats@1 'it'\''s'`}; !slices.Equal(got["parked"].Mend, want) {
			t.Errorf("%q, want %q", got["parked"].Mend, want)
		}
		do(t, inReads, "DELETE FROM projection_parked")
	})
	t.Run("topics", func(t *testing.T) {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		set := func(policy string) {
			if _, err := kadm.NewClient(client).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}}, c.prefix+"salon.chat.v1"); err != nil {
				t.Fatal(err)
			}
		}
		set("compact")
		hurt(t, look(t), map[string]string{"kafka topics": "cleanup.policy is compact"})
		set("delete")
	})
	t.Run("seals", func(t *testing.T) {
		dir := t.TempDir()
		var public []string
		for _, name := range []string{"ours", "theirs"} {
			key, err := seal.LoadOrCreateKey(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			public = append(public, key.Public)
		}
		well(t, "events", "seal", "--events", c.events, "--seal-key-file", filepath.Join(dir, "ours"))
		if got := look(t, "--seal-key", filepath.Join(dir, "ours.pub")); !strings.Contains(got["seals"].Detail, "seal 1 of") {
			t.Error(got["seals"])
		}
		hurt(t, look(t, "--seal-key", public[1]), map[string]string{"seals": "the last seal"})
	})
	t.Run("erasures", func(t *testing.T) {
		who := domain.Actor{ID: "ana", Role: domain.Customer}
		if _, _, err := store.AddPersonKey(t.Context(), who.Subject(), "k1", []byte("wrapped")); err != nil {
			t.Fatal(err)
		}
		ledger := audit.Erasures{Path: filepath.Join(t.TempDir(), "erasures")}
		if err := ledger.Add(audit.Erasure{Subject: who.Subject(), KeyID: "k1", AskedAt: time.Now().UTC(), AskedBy: "cli.ops"}); err != nil {
			t.Fatal(err)
		}
		got := look(t, "--erasures", ledger.Path)
		hurt(t, got, map[string]string{"erasures": "customer:ana was erased"})
		run(t, got["erasures"].Mend[0], "--events", c.events, "--erasures", ledger.Path)
		if got := look(t, "--erasures", ledger.Path); !strings.Contains(got["erasures"].Detail, "2 erasures in the ledger, all applied") {
			t.Error(got["erasures"])
		}
	})
	t.Run("schemas", func(t *testing.T) {
		do(t, inReads, "INSERT INTO reads_migrations (version_id, is_applied) VALUES (900, 1)")
		do(t, events, "INSERT INTO events_migrations (version_id, is_applied) VALUES (901, true)")
		hurt(t, look(t), map[string]string{"versions": "the schema of the reads database is at step 900"})
		hurt(t, look(t), map[string]string{"versions": "the schema of the event store is at step 901"})
		do(t, inReads, "DELETE FROM reads_migrations WHERE version_id = 900")
		do(t, events, "DELETE FROM events_migrations WHERE version_id = 901")
		do(t, inReads, "INSERT INTO projection_versions (projection, version, state, verified_run, generation) VALUES ('stats', 9, 'live', '', '')")
		hurt(t, look(t), map[string]string{"versions": "this release has no fold for stats_v9"})
		do(t, inReads, "DELETE FROM projection_versions WHERE projection = 'stats' AND version = 9")
	})
	t.Run("Redis is away", func(t *testing.T) {
		got := patientFindings(t, append(append(c.databases(), c.topics()...), "--redis", "redis://"+harness.Address(t)+"/0")...)
		for part, said := range map[string]string{"redis": "does not answer", "rows of views": "", "offsets": "Redis does not answer", "clocks": "Redis is not known"} {
			if f := got[part]; f.Well || !strings.Contains(f.Detail, said) {
				t.Errorf("%s: %+v", part, f)
			}
		}
		for _, part := range []string{"event store", "reads database", "relay", "claims", "rows of tables"} {
			if !got[part].Well {
				t.Errorf("%s: %+v", part, got[part])
			}
		}
	})

	// Nobody is at work.
	stop()
	stopped := map[string]string{"relay": "no relay leads", "claims": "nobody projects salon.booking.v1/0"}
	with := func(more map[string]string) map[string]string {
		out := map[string]string{}
		for _, some := range []map[string]string{stopped, more} {
			for part, said := range some {
				out[part] = said
			}
		}
		return out
	}
	hurt(t, look(t), stopped)
	t.Run("an offset", func(t *testing.T) {
		do(t, inReads, "DELETE FROM projection_offsets WHERE projection = 'stats_v1' AND topic = 'salon.booking.v1' AND part = 1")
		hurt(t, look(t), with(map[string]string{"offsets": "stats@1 has no offset for a partition (salon.booking.v1/1)"}))
		do(t, inReads, "INSERT INTO projection_offsets SELECT 'stats_v1', topic, part, epoch, claim, commit_seq, next_offset + 1000, last_pos, last_recorded_at, incarnation, updated_at "+
			"FROM projection_offsets WHERE projection = 'groomers_v1' AND topic = 'salon.booking.v1' AND part = 1")
		hurt(t, look(t), with(map[string]string{"offsets": "stats@1 is beyond the log"}))
		do(t, inReads, "UPDATE projection_offsets SET next_offset = next_offset - 1000 WHERE projection = 'stats_v1' AND topic = 'salon.booking.v1' AND part = 1")
		hurt(t, look(t), stopped)
	})
	t.Run("Redis forgot", func(t *testing.T) {
		if err := m.redis.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		hurt(t, look(t), with(map[string]string{"offsets": "have not begun", "rows of views": "the view is not whole"}))
	})
	t.Run("a type that is not known", func(t *testing.T) {
		id := uuid.New()
		stream := "groomer-salon-9"
		_, err := store.Append(t.Context(), eventstore.Append{
			Stream: stream, Key: "salon-9", Expected: eventstore.NoStream, Metadata: []byte("{}"), DecidedAt: eventstore.Micros(time.Now()),
			Command: eventstore.Command{ID: id, RequestHash: make([]byte, 32), Actor: "groomer:salon-9"},
			Events:  []eventstore.NewEvent{{ID: eventstore.EventID(id, stream, 0), Type: "groomer.flew.v9", Data: []byte("{}")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for part, f := range look(t) {
			if want := "groomer.flew.v9 (position "; part == "event types" && (f.Well || !strings.Contains(f.Detail, want) || len(f.Mend) == 0) {
				t.Errorf("%+v", f)
			}
		}
	})
	t.Run("a hole", func(t *testing.T) {
		do(t, events, "DELETE FROM events WHERE position = 2")
		got := look(t, "--full")
		for _, part := range []string{"event store", "every event"} {
			if f := got[part]; f.Well || !strings.Contains(f.Detail, "position 1 is followed by 3") || !slices.Contains(f.Mend, "salon events verify") {
				t.Errorf("%s: %+v", part, f)
			}
		}
	})
	t.Run("an old schema", func(t *testing.T) {
		do(t, events, "DELETE FROM events_migrations WHERE version_id = (SELECT max(version_id) FROM events_migrations)")
		do(t, inReads, "DELETE FROM reads_migrations ORDER BY version_id DESC LIMIT 1")
		got := look(t)
		for _, part := range []string{"event store", "reads database"} {
			if f := got[part]; f.Well || !slices.Contains(f.Mend, "salon migrate up") {
				t.Errorf("%s: %+v", part, f)
			}
		}
	})
}

// viewKey is the hash that has the salon's row in the view of calendars.
func viewKey(t *testing.T, m models, key string) string {
	t.Helper()
	p := calendar.View()
	part := engine.PartitionOf(key, m.partitions)
	keys, err := m.redis.Keys(t.Context(), fmt.Sprintf("{salon.booking.v1/%d}:%s:*:%s", part, p.ID(), key)).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if _, text := anyField(t, m.redis, k); strings.Contains(text, "Asia/Seoul") {
			return k
		}
	}
	t.Fatalf("no row of %s among %q", key, keys)
	return ""
}

func anyField(t *testing.T, c *redis.Client, key string) (field, text string) {
	t.Helper()
	all, err := c.HGetAll(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	for field, text = range all {
		break
	}
	return field, text
}

// TestDoctorDoesNotWaitForServersThatAreSilent names servers that take a connection and never answer.
func TestDoctorDoesNotWaitForServersThatAreSilent(t *testing.T) {
	t.Parallel()
	silent := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var held sync.WaitGroup
		held.Go(func() {
			var all []net.Conn
			for {
				c, err := l.Accept()
				if err != nil {
					for _, c := range all {
						c.Close()
					}
					return
				}
				all = append(all, c)
			}
		})
		t.Cleanup(func() { l.Close(); held.Wait() })
		return l.Addr().String()
	}
	began := time.Now()
	got := call(t, "doctor", "-o", "json", "--events", "postgres://u:secret@"+silent()+"/db", "--kafka", silent(), "--reads", "mysql://u:secret@"+silent()+"/db", "--redis", "redis://"+silent()+"/0")
	took := time.Since(began)
	t.Logf("%v", took)
	if took > 8*time.Second { // three, on a machine that has nothing else to do
		t.Errorf("it took %v", took)
	}
	var findings []doctor.Finding
	if err := json.Unmarshal([]byte(got.out), &findings); err != nil || got.code != 1 || strings.Contains(got.out+got.err, "secret") {
		t.Fatalf("exit %d, %v\n%s%s", got.code, err, got.out, got.err)
	}
	for _, f := range findings {
		if f.Well != (f.Part == "versions" || f.Part == "disk") {
			t.Errorf("%+v", f)
		}
	}
}

// TestDoctorWatchesARunningSystem looks at a salon up, from outside, while somebody changes a row, and while it ends.
func TestDoctorWatchesARunningSystem(t *testing.T) {
	t.Parallel()
	data, address := filepath.Join(t.TempDir(), "data"), harness.Address(t)
	said := &output{}
	end := within(t, said, "up", "--demo", "--data", data, "--listen", address)
	said.await(t, "Tokens to try")
	hurt(t, patientFindings(t, "--data", data), nil)
	hurt(t, patientFindings(t, "--data", data, "--full"), nil)
	t.Logf("\n%s", well(t, "doctor", "--data", data, "--limit", "15s"))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	lines := &output{}
	var ended sync.WaitGroup
	code := 0
	ended.Go(func() {
		code = run(ctx, append([]string{"doctor", "--data", data, "--watch", "--interval", "100ms"}, unhurried...), lines, lines)
	})
	lines.await(t, `"part":"disk","well":true`)
	db, err := sql.Open("sqlite", filepath.Join(data, readsName)+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "UPDATE groomers_v1 SET name = 'Somebody else' WHERE groomer_id = (SELECT MAX(groomer_id) FROM groomers_v1)"); err != nil {
		t.Fatal(err)
	}
	lines.await(t, `"part":"rows of tables","well":false`)
	end()
	lines.await(t, `"part":"salon up","well":false`)
	stop()
	ended.Wait()
	if code != 1 || strings.Count(lines.String(), `"part":"disk"`) != 1 {
		t.Errorf("exit code %d, after\n%s", code, lines.String())
	}
}

// within runs a verb in this process until stop is called.
func within(t *testing.T, out *output, args ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		if code := run(ctx, args, out, out); code != 0 {
			t.Errorf("salon %v: exit code %d\n%s", args, code, out.String())
		}
	})
	stop = sync.OnceFunc(func() { cancel(); ended.Wait() })
	t.Cleanup(stop)
	return stop
}

// output is what a verb prints while it runs.
type output struct {
	mu sync.Mutex
	bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.String()
}

func (o *output) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(o.String(), text) {
		select {
		case <-limit:
			t.Fatalf("it does not say %q within a minute:\n%s", text, o.String())
		case <-tick.C:
		}
	}
}

// TestFindingsArePrinted is the table, what a terminal is sent, and lines.
func TestFindingsArePrinted(t *testing.T) {
	t.Parallel()
	findings := []doctor.Finding{{Part: "redis", Well: true, Detail: "version 7"}, doctor.Found("parked", "", fmt.Errorf("one\ntwo: run `salon b`"))}
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	var table, screen, lines bytes.Buffer
	if err := printFindings(&table, findings); err != nil {
		t.Fatal(err)
	}
	if err := redrawn(&screen, at, findings); err != nil {
		t.Fatal(err)
	}
	if err := printChanges(&lines, at, findings); err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		table.String():  "PART    WELL  DETAIL\nredis   yes   version 7\nparked  NO    one\n              two: run `salon b`\n",
		screen.String(): "\x1b[H2026-11-24 12:00:00\x1b[K\nPART    WELL  DETAIL\x1b[K\nredis   yes   version 7\x1b[K\nparked  NO    one\x1b[K\n              two: run `salon b`\x1b[K\n\x1b[J",
		lines.String():  "2026-11-24T12:00:00Z redis well: version 7\n2026-11-24T12:00:00Z parked NOT WELL: one; two: run `salon b`\n",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestDisksAndMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		free, whole int64
		well        bool
	}{{2 << 30, 100 << 30, true}, {1<<30 - 1, 100 << 30, false}, {100 << 20, 1 << 30, true}, {40 << 20, 1 << 30, false}, {0, 1 << 30, false}} {
		if said, err := judgeDisk("it", c.free, c.whole); (err == nil) != c.well {
			t.Errorf("%d of %d free: %q, %v", c.free, c.whole, said, err)
		}
	}
	for _, c := range []struct {
		info map[string]string
		want string
	}{
		{map[string]string{"redis_version": "7.0.15", "used_memory": "1048576", "maxmemory": "0", "maxmemory_policy": "noeviction"}, "version 7.0.15, 1.0 MiB used"},
		{map[string]string{"used_memory": "950", "maxmemory": "1000"}, "950 B of 1000 B are used"},
		{map[string]string{"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy allkeys-lru"},
	} {
		said, err := judgeRedis(c.info)
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, c.want) {
			t.Errorf("%q, want %q", said, c.want)
		}
	}
}
