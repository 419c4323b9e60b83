package faulttest

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/internal/harness"
)

// kind is one kind of fault. hurt does the harm and undoes it; when it returns, the fault is over and the system has to
// recover by itself. Faults that need the same thing never run at once.
type kind struct {
	name  string
	needs []string
	hurt  func(f *fault)
	alone bool // nothing else meanwhile, on a young system
	ends  bool // the system is to stand still for good: a person must act
}

// fault is one fault of a kind, under way.
type fault struct {
	w    *world
	t    *testing.T
	dice *rand.Rand
}

// hold lets the harm last.
func (f *fault) hold(least, most time.Duration) {
	pause(f.w.ctx, least+time.Duration(f.dice.Int64N(int64(most-least)+1)))
}

// projector is one that no other fault of the round has.
func (f *fault) projector() *member {
	f.w.taking.Lock()
	defer f.w.taking.Unlock()
	for _, n := range f.dice.Perm(len(f.w.projectors)) {
		if m := f.w.projectors[n]; !f.w.taken[m] {
			f.w.taken[m] = true
			return m
		}
	}
	panic("more faults of one projector at once than there are projectors")
}

// holdUntil lets the harm last until something is seen, for so long at most, and tells whether it was.
func (f *fault) holdUntil(most time.Duration, seen func() bool) bool {
	for end := time.Now().Add(most); !seen(); pause(f.w.ctx, 20*ms) {
		if time.Now().After(end) || f.w.ctx.Err() != nil {
			return false
		}
	}
	return true
}

// pastSession is how long somebody has to be silent to be replaced.
const pastSession = session + session/2

const (
	ms = time.Millisecond
	s  = time.Second
)

// kinds are all of them.
func kinds() []kind {
	one := []string{oneProjector}
	return append(refused(), []kind{
		{name: "projector killed", needs: one, hurt: func(f *fault) { f.killed(f.projector()) }},
		{name: "relay killed", needs: []string{"relays"}, hurt: func(f *fault) { f.killed(f.w.leader()) }},
		{name: "writer killed", needs: []string{"writers"}, hurt: func(f *fault) { f.killed(f.w.writers[f.dice.IntN(2)]) }},
		{name: "PostgreSQL killed", needs: []string{"events"}, hurt: func(f *fault) {
			f.w.servers.events.Kill(f.t)
			f.hold(0, s)
			f.w.servers.events.Start(f.t)
		}},
		{name: "MySQL killed", needs: []string{"mysql"}, hurt: func(f *fault) { f.restart(f.w.servers.mysql) }},
		{name: "MariaDB killed", needs: []string{"mariadb"}, hurt: func(f *fault) { f.restart(f.w.servers.mariadb) }},
		{name: "broker killed", needs: []string{"kafka"}, hurt: (*fault).brokerKilled},
		{name: "broker frozen", needs: []string{"kafka"}, hurt: (*fault).brokerFrozen},
		{name: "Redis killed", needs: []string{"redis"}, hurt: func(f *fault) {
			f.w.servers.redis.Kill()
			f.hold(0, s)
			f.w.servers.redis.Forget(f.t) // what it was sent while it was a replica
			f.w.servers.redis.Start(f.t)
		}},
		{name: "Redis flushed", needs: []string{"redis"}, hurt: func(f *fault) {
			client := redis.NewClient(&redis.Options{Addr: f.w.servers.redis.Addr})
			defer client.Close()
			if err := client.FlushAll(f.w.ctx).Err(); err != nil {
				f.t.Error(err)
			}
		}},
		{name: "Redis failed over to a replica behind", needs: []string{"redis"}, hurt: (*fault).redisFailedOver},
		{name: "projector frozen", needs: one, hurt: (*fault).projectorFrozen},
		{name: "relay frozen", needs: []string{"relays"}, hurt: (*fault).relayFrozen},
		{name: "projector cut from Kafka", needs: one, hurt: func(f *fault) { f.cut(f.projector().kafka...) }},
		{name: "projector cut from databases", needs: one, hurt: func(f *fault) {
			m := f.projector()
			f.cut(m.reads[intoMySQL], m.reads[intoMariaDB], m.redis)
		}},
		{name: "relay cut from Kafka", needs: []string{"relays"}, hurt: func(f *fault) { f.cut(f.w.leader().kafka...) }},
		{name: "relay cut from store", needs: []string{"relays"}, hurt: func(f *fault) { f.cut(f.w.leader().events) }},
		{name: "rebalance storm", needs: []string{"projectors"}, hurt: (*fault).storm},
		{name: "slow database", needs: one, hurt: func(f *fault) {
			m := f.projector()
			f.slow(m.reads[intoMySQL], m.reads[intoMariaDB], m.redis)
		}},
		{name: "slow Kafka", needs: []string{oneProjector, "relays"}, hurt: func(f *fault) { f.slow(append(f.projector().kafka, f.w.leader().kafka...)...) }},
		{name: "slow store", needs: []string{"relays"}, hurt: func(f *fault) { f.slow(f.w.leader().events) }},
		{name: "cut in mid-commit, MySQL", needs: []string{"projectors", "mysql"}, hurt: func(f *fault) { f.snared("COMMIT", func(m *member) *harness.Proxy { return m.reads[intoMySQL] }) }},
		{name: "cut in mid-commit, MariaDB", needs: []string{"projectors", "mariadb"}, hurt: func(f *fault) { f.snared("COMMIT", func(m *member) *harness.Proxy { return m.reads[intoMariaDB] }) }},
		{name: "cut in mid-script, Redis", needs: []string{"projectors", "redis"}, hurt: func(f *fault) { f.snared("evalsha", func(m *member) *harness.Proxy { return m.redis }) }},
		{name: "cut in mid-append, PostgreSQL", needs: []string{"writers", "events"}, hurt: (*fault).appendCut},
		{name: "duplicate relay", needs: []string{"relays"}, hurt: (*fault).secondRelay},
		{name: "old records repeated", needs: []string{"kafka"}, hurt: (*fault).repeated},
		{name: "epoch that comes back", needs: []string{"projectors", "mysql", "mariadb"}, hurt: (*fault).epochBack},
		{name: "MariaDB failed over to a replica behind", needs: []string{"mariadb", "projectors"}, hurt: (*fault).failedOver},
		{name: "event that cannot be folded", needs: []string{"parking"}, hurt: (*fault).spoiled},
		{name: "log truncated past the offset", needs: []string{"projectors", "kafka", "relays"}, hurt: (*fault).truncated},
	}...)
}

// oneProjector is needed by faults of a projector that the other two can do without; one of them may be another's.
const oneProjector = "a projector"

// refused are those that nothing can heal by itself: they are to be noticed, and to change no row.
func refused() []kind {
	return []kind{
		{name: "topic deleted and made again", hurt: (*fault).topicMadeAgain, alone: true},
		{name: "store restored to an earlier point", hurt: (*fault).storeRestored, alone: true, ends: true},
	}
}

func (f *fault) killed(m *member) {
	m.kill()
	f.hold(0, s)
	m.start(f.t)
}

func (f *fault) restart(server *harness.OwnMySQL) {
	server.Kill()
	f.hold(0, s)
	server.Start(f.t)
}

// projectorFrozen stops a projector until others have what it had, and lets it go on with the records that it was sent
// meanwhile, before it hears that it was replaced.
func (f *fault) projectorFrozen() {
	m := f.projector()
	for range 5 {
		if err := f.w.until(func() bool { return m.holds() > 0 }); err != nil {
			f.t.Errorf("%s has no partition: %v", m.name, err)
			return
		}
		before := m.count("fenced")
		m.signal(syscall.SIGSTOP)
		f.hold(s/2, s) // what it has asked for arrives
		for _, p := range m.kafka {
			p.Freeze()
		}
		f.hold(pastSession, pastSession+s)
		m.signal(syscall.SIGCONT)
		shown := f.holdUntil(2*s, func() bool { return m.count("fenced") > before })
		for _, p := range m.kafka {
			p.Thaw()
		}
		if shown || f.w.binary != "" { // without a fence, nobody says so
			return
		}
		// It had nothing in its hands: another fault holds up the log, or the store.
	}
	if f.w.ctx.Err() == nil {
		f.t.Errorf("%s was never fenced: the fault has shown nothing", m.name)
	}
}

// relayFrozen stops the leader until another leads, and lets it go on with what it was doing.
func (f *fault) relayFrozen() {
	m := f.w.leader()
	m.signal(syscall.SIGSTOP)
	f.hold(pastSession, pastSession+s)
	if err := f.w.until(func() bool {
		return slices.ContainsFunc(f.w.relays, func(other *member) bool { return other != m && other.leading() })
	}); err != nil {
		f.t.Errorf("no other relay leads, the fault has shown nothing: %v", err)
	}
	m.signal(syscall.SIGCONT)
}

// cut takes the network away: with connections refused, or with nothing coming back.
func (f *fault) cut(proxies ...*harness.Proxy) {
	silent := f.dice.IntN(2) == 0
	for _, p := range proxies {
		if silent {
			p.Freeze()
		} else {
			p.Cut()
		}
	}
	f.hold(session/2, pastSession)
	for _, p := range proxies {
		if silent {
			p.Thaw()
		} else {
			p.Restore(f.t)
		}
	}
}

func (f *fault) slow(proxies ...*harness.Proxy) {
	for _, p := range proxies {
		p.Slow(time.Duration(20+f.dice.IntN(150)) * ms)
	}
	f.hold(s, 3*s)
	for _, p := range proxies {
		p.Slow(0)
	}
}

func (f *fault) brokerKilled() {
	k := f.w.servers.kafka
	b := k.Leader(f.t, f.w.booking(), int32(f.dice.IntN(partitions))) //nolint:gosec // a partition
	b.Kill()
	f.hold(0, 3*s)
	b.Start(f.t)
	k.InSync(f.t)
}

func (f *fault) brokerFrozen() {
	k := f.w.servers.kafka
	b := k.Leader(f.t, f.w.booking(), int32(f.dice.IntN(partitions))) //nolint:gosec // a partition
	b.Freeze()
	f.hold(s, 6*s)
	b.Thaw()
	k.InSync(f.t)
}

// storm lets members come and go, faster than the group settles, by leaving and by dying.
func (f *fault) storm() {
	before := f.epochs(intoMySQL)
	moved := func() bool { return !maps.Equal(before, f.epochs(intoMySQL)) }
	least, end := 3+f.dice.IntN(3), time.Now().Add(time.Minute)
	for n := 0; n < least || !moved() && time.Now().Before(end); n++ { // nobody moves while the group's coordinator is away
		m := f.w.projectors[0].again()
		m.start(f.t)
		f.hold(200*ms, 1500*ms)
		if f.dice.IntN(3) > 0 {
			m.signal(syscall.SIGTERM)
			m.process.Wait(f.t, 30*s)
		}
		m.kill()
	}
	if !moved() && f.w.ctx.Err() == nil {
		f.t.Errorf("nobody has changed places, still %v: the fault has shown nothing", before)
	}
}

// again is another process with the network of this one.
func (m *member) again() *member {
	return &member{w: m.w, role: m.role, name: m.name + "+", told: m.told}
}

// snared cuts a connection when the client says the word: before the server hears it, or so that the answer is lost.
func (f *fault) snared(word string, of func(m *member) *harness.Proxy) {
	limit, cancel := context.WithTimeout(f.w.ctx, 30*s)
	defer cancel()
	var all sync.WaitGroup
	var sprung atomic.Int32
	for _, m := range f.w.projectors {
		wait := of(m).Snare(word, f.dice.IntN(2) == 0)
		all.Go(func() {
			select {
			case <-wait:
				if sprung.Add(1) == 1 {
					time.AfterFunc(2*s, cancel) // another may have no partition of this projection
				}
			case <-limit.Done():
				of(m).Unsnare()
			}
		})
	}
	all.Wait()
	if sprung.Load() == 0 && f.w.ctx.Err() == nil {
		f.t.Errorf("nobody said %q: the fault has shown nothing", word)
	}
}

func (f *fault) appendCut() {
	m := f.w.writers[f.dice.IntN(2)]
	for range 3 {
		select {
		case <-m.events.Snare((added{}).EventType(), f.dice.IntN(2) == 0):
		case <-time.After(30 * s):
			m.events.Unsnare()
			f.t.Error("the writer appends nothing: the fault has shown nothing")
		}
	}
}

// secondRelay leads beside the leader, without an election: as one that was replaced and has not heard of it.
func (f *fault) secondRelay() {
	m := f.w.relays[0].again()
	m.told.Alone = true
	m.start(f.t)
	f.hold(2*s, 4*s)
	m.kill()
}
