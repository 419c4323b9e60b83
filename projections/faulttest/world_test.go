package faulttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// servers are all that a world runs on.
type servers struct {
	kafka   *harness.OwnKafka
	events  *harness.OwnPostgres
	mysql   *harness.OwnMySQL
	mariadb *harness.OwnMySQL
	replica *harness.OwnMySQL // of mariadb
	redis   *harness.OwnRedis
	t       *testing.T // whose end is theirs: a replica that was promoted serves the worlds to come
}

func newServers(t *testing.T) *servers {
	t.Helper()
	began := time.Now()
	s := &servers{t: t}
	var all sync.WaitGroup
	all.Go(func() { s.kafka = harness.NewKafka(t, 3) })
	all.Go(func() {
		s.events, s.mysql, s.mariadb = harness.NewPostgres(t), harness.NewMySQL(t), harness.NewMariaDB(t)
		s.redis = harness.NewRedis(t)
	})
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	s.replica = harness.NewReplica(t, s.mariadb)
	t.Logf("the servers are there after %.1f s", time.Since(began).Seconds())
	return s
}

// world is one system under test: its databases and topics, its processes, and the oracle.
type world struct {
	t       *testing.T
	servers *servers
	base    settings
	oracle  *oracle
	mariadb *harness.Proxy // of the oracle: the server is failed over
	redis   *harness.Proxy // the same
	binary  string         // of the children; this test binary unless something is to be broken
	ctx     context.Context
	end     func() // ends all processes at once, as a power cut does

	writers, relays, projectors []*member
	all                         []*member

	taking sync.Mutex
	taken  map[*member]bool // projectors that a fault of this round has
}

// newWorld starts a system on the servers and waits until it works. It ends with the test, or when end is called.
func newWorld(t *testing.T, s *servers, binary string) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, servers: s, binary: binary, ctx: ctx, taken: map[*member]bool{}}
	w.base = settings{
		Events: s.events.Database(t), Brokers: s.kafka.Addrs(), Prefix: "w" + uuid.NewString()[:8] + ".",
		Reads: map[string]string{intoMySQL: s.mysql.Database(t), intoMariaDB: s.mariadb.Database(t)}, Redis: s.redis.URL(),
		Mended: t.TempDir(),
	}
	if err := postgres.Migrate(t.Context(), w.base.Events); err != nil {
		t.Fatal(err)
	}
	topics := relay.Topics{Brokers: w.base.Brokers, Prefix: w.base.Prefix, Partitions: partitions, Replication: 3}
	if err := topics.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := postgres.Open(t.Context(), postgres.Config{URL: w.base.Events})
	if err != nil {
		t.Fatal(err)
	}
	dbs := map[string]*reads.DB{}
	for into, url := range w.base.Reads {
		if into == intoMariaDB {
			url, w.mariadb = harness.Through(t, url)
		}
		if dbs[into], err = reads.Open(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		if err := dbs[into].Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	dbs[intoBeside] = dbs[intoMySQL]
	for into, db := range dbs {
		p, _ := counters(into)
		if err := engine.EnsureTables(t.Context(), db, p); err != nil {
			t.Fatal(err)
		}
	}
	through, proxy := harness.Through(t, w.base.Redis)
	w.redis = proxy
	options, err := redis.ParseURL(through)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.oracle = newOracle(store, dbs, client)
	var watching sync.WaitGroup
	watching.Go(func() { w.oracle.watch(ctx) })
	w.end = sync.OnceFunc(func() {
		for _, m := range w.all {
			m.kill()
		}
		cancel()
		watching.Wait()
		store.Close()
		for into := range w.base.Reads {
			dbs[into].Close()
		}
		client.Close()
	})
	t.Cleanup(w.end)
	for n := range 2 {
		w.writers = append(w.writers, w.member("writer", n))
		w.relays = append(w.relays, w.member("relay", n))
	}
	for n := range 3 {
		w.projectors = append(w.projectors, w.member("projector", n))
	}
	began := time.Now()
	for _, m := range w.all {
		m.start(t)
	}
	w.recovered("the start")
	t.Logf("the system works after %.1f s", time.Since(began).Seconds())
	return w
}

// recovered waits until everything that is written from now on has gone all the way, and says how long that took.
func (w *world) recovered(after string) time.Duration {
	w.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if err := w.oracle.recovered(ctx); err != nil {
		w.t.Errorf("not recovered from %s in %.0f s: %v", after, time.Since(began).Seconds(), err)
	}
	return time.Since(began)
}

// member is one process, and the proxies between it and each server: the network can be cut for it alone.
type member struct {
	w      *world
	role   string
	name   string
	told   settings
	kafka  []*harness.Proxy
	events *harness.Proxy
	reads  map[string]*harness.Proxy
	redis  *harness.Proxy

	mu      sync.Mutex
	process *harness.Process
	starts  uint64
	leads   bool
	has     int      // partitions
	says    []string // on its standard output, without the acknowledgements
	part    []byte   // of a line
}

func (w *world) member(role string, n int) *member {
	t := w.t
	m := &member{w: w, role: role, name: fmt.Sprintf("%s %d", role, n+1), told: w.base, reads: map[string]*harness.Proxy{}}
	m.told.Events, m.events = harness.Through(t, w.base.Events)
	if role != "writer" {
		m.told.Ways = map[string]string{}
		for _, address := range w.base.Brokers {
			p := harness.NewProxy(t, address)
			m.told.Ways[address] = p.Addr
			m.kafka = append(m.kafka, p)
		}
	}
	if role == "projector" {
		m.told.Reads = map[string]string{}
		for into, url := range w.base.Reads {
			m.told.Reads[into], m.reads[into] = harness.Through(t, url)
		}
		m.told.Redis, m.redis = harness.Through(t, w.base.Redis)
	}
	w.all = append(w.all, m)
	return m
}

// start starts the process.
func (m *member) start(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starts++
	m.leads, m.has = false, 0
	told := m.told
	told.Number = m.starts<<8 + uint64(m.name[len(m.name)-1])
	argument, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	c := storetest.Child(t, m.role, string(argument))
	if m.w.binary != "" {
		c.Path, c.Args[0] = m.w.binary, m.w.binary
	}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.Stdout = (*hears)(m)
	c.Stderr = nil
	m.process = harness.StartCommand(t, c)
}

// kill is kill -9. Whoever has not lived well until then is told of.
func (m *member) kill() {
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	if p == nil {
		return
	}
	p.Kill()
	for _, word := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if said := p.Output(); strings.Contains(said, word) {
			m.w.t.Errorf("%s: %s\n%.4000s", m.name, word, said[strings.Index(said, word):])
		}
	}
}

func (m *member) signal(s syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.process.Signal(s)
}

// hears takes what a member says.
type hears member

func (h *hears) Write(b []byte) (int, error) {
	m := (*member)(h)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.part = append(m.part, b...)
	for {
		line, rest, whole := bytes.Cut(m.part, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		m.part = append([]byte(nil), rest...)
		var id string
		var position uint64
		text := string(line)
		if n, _ := fmt.Sscanf(text, "done %s %d", &id, &position); n == 2 {
			if command, err := uuid.Parse(id); err == nil {
				m.w.oracle.acknowledged(command, position)
				continue
			}
		}
		m.says = append(m.says, text)
		if strings.HasPrefix(text, "leads ") {
			m.leads = text == "leads true"
		}
		_, _ = fmt.Sscanf(text, "holds %d", &m.has)
	}
}

func (m *member) leading() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leads
}

// holds is how many partitions a projector has, of all projections.
func (m *member) holds() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.has
}

// count is how often the member has said something: on its standard output, or in the log of the process that it is now.
func (m *member) count(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.says {
		if line == text {
			n++
		}
	}
	return n + strings.Count(m.process.Output(), text)
}

// await waits until the member has said something.
func (m *member) await(text string) error {
	if err := m.w.until(func() bool { return m.count(text) > 0 }); err != nil {
		return fmt.Errorf("%s has not said %q: %w", m.name, text, err)
	}
	return nil
}

// patience is how long something may take on a machine that has much else to do. How long it took is in the table.
const patience = 3 * time.Minute

// until waits until something is so.
func (w *world) until(so func() bool) error {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	for !so() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// leader is the relay that leads, or, while none does, the first.
func (w *world) leader() *member {
	for _, m := range w.relays {
		if m.leading() {
			return m
		}
	}
	return w.relays[0]
}

// refusal waits until a relay has said that the store was restored behind the log.
func (w *world) refusal() error {
	said := make(chan error, len(w.relays))
	for _, m := range w.relays {
		go func() { said <- m.await("restored") }()
	}
	err := <-said
	for range w.relays[1:] {
		if err == nil {
			return nil // the other one waits to be elected
		}
		err = <-said
	}
	return err
}
