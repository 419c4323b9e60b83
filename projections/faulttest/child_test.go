package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

func TestMain(m *testing.M) {
	storetest.Children{"writer": role(write), "relay": role(carry), "projector": role(project)}.Main(m)
}

// session is how long a killed or frozen member keeps its partitions.
const session = 3 * time.Second

// settings are what a child is told, as its only argument.
type settings struct {
	Events  string            // URL of the store
	Brokers []string          //
	Ways    map[string]string // from a broker's address to the proxy before it
	Prefix  string            // of topics and groups
	Reads   map[string]string // URLs of the reads databases, by name
	Redis   string            //
	Alone   bool              // of a relay: lead without an election, as a zombie does
	Number  uint64            // of a writer: no two write the same
	Mended  string            // a folder with a file for each spoiled event that can be folded now
}

// role is a child that does its work until it is told to end.
func role(does func(ctx context.Context, s settings, log *slog.Logger) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		var s settings
		if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
		defer stop()
		return does(ctx, s, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
}

// kafka leads the client through the proxies.
func (s settings) kafka() []kgo.Opt {
	var d net.Dialer
	return []kgo.Opt{kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if way, ok := s.Ways[address]; ok {
			address = way
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return d.DialContext(ctx, network, address)
	})}
}

// open opens the store, however long that takes; nil when the context ended first.
func open(ctx context.Context, url string) *postgres.Store {
	for ctx.Err() == nil {
		s, err := postgres.Open(ctx, postgres.Config{URL: url})
		if err == nil {
			return s
		}
		pause(ctx, 100*time.Millisecond)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// write appends, in bursts, and tells each command that was acknowledged with its position. A command whose outcome is
// unknown is sent again until it is known, as a client with an Idempotency-Key does.
func write(ctx context.Context, s settings, _ *slog.Logger) error {
	store := open(ctx, s.Events)
	if store == nil {
		return nil
	}
	defer store.Close()
	var out sync.Mutex
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			dice := rand.New(rand.NewPCG(s.Number, uint64(n))) //nolint:gosec // a test's dice
			for ctx.Err() == nil {
				a := appendOf(dice)
				position, ok := settle(ctx, store, a)
				if !ok {
					return
				}
				out.Lock()
				fmt.Fprintf(os.Stdout, "done %s %d\n", a.Command.ID, position) // the parent reads it
				out.Unlock()
				if dice.IntN(30) == 0 { // between two bursts
					pause(ctx, time.Duration(dice.IntN(3000))*time.Millisecond)
				}
			}
		})
	}
	writers.Wait()
	return nil
}

// appendOf is a command with one to four events.
func appendOf(dice *rand.Rand) eventstore.Append {
	key := fmt.Sprintf("salon-%d", dice.IntN(keys))
	stream := eventstore.GroomerStream(key)
	id := uuid.New()
	meta, _ := json.Marshal(eventstore.Metadata{CommandID: id, Command: "add", Actor: domain.Actor{ID: "kim", Role: domain.Customer}})
	a := eventstore.Append{
		Stream: stream, Key: key, Expected: eventstore.AnyRevision, Metadata: meta,
		Command: eventstore.Command{ID: id, RequestHash: make([]byte, 32), Actor: "customer:kim"},
	}
	for i := range 1 + dice.IntN(4) {
		e := eventstore.NewEvent{ID: eventstore.EventID(id, stream, i), Type: added{}.EventType()}
		e.Data, _ = json.Marshal(added{N: dice.Int64N(1 << 30)})
		if dice.IntN(10) == 0 {
			e.Type, e.Data = ignored{}.EventType(), []byte("{}")
		}
		a.Events = append(a.Events, e)
	}
	return a
}

// settle appends until the outcome is known.
func settle(ctx context.Context, store *postgres.Store, a eventstore.Append) (position uint64, ok bool) {
	for ctx.Err() == nil {
		a.DecidedAt = time.Now()
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		done, err := store.Append(one, a)
		cancel()
		var before *eventstore.DuplicateError
		switch {
		case err == nil:
			return done.Position, true
		case errors.As(err, &before):
			return before.Command.Position, true
		}
		pause(ctx, 20*time.Millisecond)
	}
	return 0, false
}

// carry runs a relay again and again, as the binary does, and tells when it begins and ceases to lead.
func carry(ctx context.Context, s settings, log *slog.Logger) error {
	store := open(ctx, s.Events)
	if store == nil {
		return nil
	}
	defer store.Close()
	r := &relay.Relay{
		Store: store, Brokers: s.Brokers, Partitions: partitions, TopicPrefix: s.Prefix, Alone: s.Alone, SessionTimeout: session,
		BatchEvents: 50, KafkaOptions: s.kafka(), Log: log,
	}
	var telling sync.WaitGroup
	telling.Go(func() {
		leads := false
		for ctx.Err() == nil {
			if now := r.Leading(); now != leads {
				leads = now
				fmt.Fprintf(os.Stdout, "leads %t\n", leads)
			}
			pause(ctx, 20*time.Millisecond)
		}
	})
	for ctx.Err() == nil {
		err := r.Run(ctx)
		var restored *relay.RestoredError
		if errors.As(err, &restored) {
			fmt.Fprintln(os.Stdout, "restored")
		}
		if err != nil {
			log.Info("relay ended", "error", err)
		}
		pause(ctx, 200*time.Millisecond)
	}
	telling.Wait()
	return nil
}

// project runs the projection into each of the databases and into Redis.
func project(ctx context.Context, s settings, log *slog.Logger) error {
	var runners []*engine.Runner
	mended = s.Mended
	store := &lateStore{url: s.Events}
	defer store.close()
	shared := &engine.Shared{}
	runner := func(p engine.Projection, db *reads.DB) *engine.Runner {
		r := &engine.Runner{
			Projection: p, Shared: shared, Brokers: s.Brokers, DB: db, Codec: eventstore.NewCodec(catalog()), Store: store,
			TopicPrefix: s.Prefix, MaxRecords: 100, SessionTimeout: session, KafkaOptions: s.kafka(), Log: log.With("projection", p.ID()),
		}
		runners = append(runners, r)
		return r
	}
	for into, url := range s.Reads {
		db, err := reads.Open(ctx, url)
		if err != nil {
			return err
		}
		defer db.Close()
		p, _ := counters(into)
		runner(p, db)
		if into == intoMySQL {
			p, _ := counters(intoBeside)
			runner(p, db)
			options, err := redis.ParseURL(s.Redis)
			if err != nil {
				return err
			}
			client := redis.NewClient(options)
			defer client.Close()
			p, _ = counters(intoRedis)
			runner(p, db).Redis = client
		}
	}
	all, ctx := errgroup.WithContext(ctx)
	for _, r := range runners {
		all.Go(func() error { return r.Run(ctx) })
	}
	all.Go(func() error {
		tell(ctx, runners)
		return nil
	})
	return all.Wait()
}

// tell tells how many partitions there are, when one was taken by somebody else, and, in the log, why one stands still.
func tell(ctx context.Context, runners []*engine.Runner) {
	held, fenced := 0, map[string]bool{}
	for n := 0; ctx.Err() == nil; n++ {
		holds := 0
		for _, r := range runners {
			for _, st := range r.Status() {
				if st.Claimed {
					holds++
				}
				at := fmt.Sprintf("%s/%d", st.Projection, st.Part)
				now := strings.Contains(st.Error, engine.ErrFenced.Error())
				if now && !fenced[at] {
					fmt.Fprintln(os.Stdout, "fenced")
				}
				fenced[at] = now
				if st.Error != "" && n%40 == 0 {
					r.Log.Info("stands still", "partition", st.Part, "since", time.Since(st.Since).String(), "error", st.Error)
				}
			}
		}
		if holds != held {
			held = holds
			fmt.Fprintf(os.Stdout, "holds %d\n", held)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// lateStore is the store, opened when it is needed first: a projector starts without it.
type lateStore struct {
	url   string
	mu    sync.Mutex
	store *postgres.Store
}

func (l *lateStore) close() {
	if l.store != nil {
		l.store.Close()
	}
}

func (l *lateStore) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		l.mu.Lock()
		if l.store == nil {
			s, err := postgres.Open(ctx, postgres.Config{URL: l.url})
			if err != nil {
				l.mu.Unlock()
				yield(eventstore.Recorded{}, err)
				return
			}
			l.store = s
		}
		s := l.store
		l.mu.Unlock()
		s.ReadAll(ctx, after, f)(yield)
	}
}
