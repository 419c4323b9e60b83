package esdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/dangdangsalon/salon/eventstore"
)

// Config says where the store is.
type Config struct {
	// URL is EventStoreDB's connection string, esdb:// or esdb+discover://.
	URL string
	// Namespace is put before every stream, to share a server. Defaults to none. Changing it is opening another store.
	Namespace string
	// Timeout bounds each call of the server. Defaults to 5 s. A shorter one makes more outcomes unknown; a claim that
	// nobody follows up is given up after three of it, so all processes must agree.
	Timeout time.Duration
	// OnCommit, when set, is told of every append. It must return quickly.
	OnCommit func(group int, took time.Duration)
	// Loading opens a store, too, that has a part of a history: to load the rest of it. Others are told ErrLoading.
	Loading bool
}

// Store is an open store. Close it.
type Store struct {
	sessions  *sessions
	namespace string
	timeout   time.Duration
	onCommit  func(group int, took time.Duration)

	life    context.Context // ends when the store closes
	stop    context.CancelFunc
	closing sync.RWMutex // held for reading by each append, so that Close lets it finish
	closed  bool

	clock       clock
	incarnation string
	signal      eventstore.Signal
	following   chan struct{} // one token: who has it follows for all who wait

	mu      sync.Mutex
	head    eventstore.Head                 // the last event of ours that is known
	scanned uint64                          // the log is known up to here: no event of ours lies between head and this
	latest  time.Time                       // the latest recorded_at that is known
	quiet   struct{ after, through uint64 } // between these positions no command without events was accepted
}

// Open connects. A server that is away is ErrUnavailable: try again.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	client, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	s := &Store{
		sessions: &sessions{config: *client}, namespace: cfg.Namespace, timeout: cfg.Timeout, onCommit: cfg.OnCommit,
		following: make(chan struct{}, 1),
	}
	s.life, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if s.incarnation, err = s.begin(ctx); err == nil {
		err = s.clock.measure(ctx, s)
	}
	if err == nil && !cfg.Loading {
		var begun int
		if begun, err = s.importing(ctx); err == nil && begun == importBegun {
			err = eventstore.ErrLoading
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// settings are what a connection string may say; the client only prints a complaint about others.
var settings = []string{
	"discoveryinterval", "gossiptimeout", "maxdiscoverattempts", "nodepreference", "keepaliveinterval", "keepalivetimeout", "tls", "tlscafile",
	"usercertfile", "userkeyfile", "tlsverifycert", "defaultdeadline",
}

// parse never repeats the URL: it may hold a password.
func parse(raw string) (*esdb.Configuration, error) {
	invalid := errors.New("--events is not a valid esdb:// URL")
	_, query, _ := strings.Cut(raw, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, invalid
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(settings, strings.ToLower(name)) {
			return nil, fmt.Errorf("--events: EventStoreDB has no setting %q", name)
		}
	}
	c, err := esdb.ParseConnectionString(raw)
	if err != nil {
		return nil, invalid
	}
	c.Logger = esdb.NoopLogging()
	// A decision must not rest on what a follower has not got yet.
	c.NodePreference = esdb.NodePreferenceLeader
	// One look at each address: whoever waits for a node tries again, and with more the client hangs for longer.
	c.MaxDiscoverAttempts, c.DiscoveryInterval, c.GossipTimeout = 1, 1, 2
	return c, nil
}

// Close lets the appends under way finish and ends everything else.
func (s *Store) Close() error {
	s.closing.Lock() // waits for appends
	s.closed = true
	s.closing.Unlock()
	s.stop()
	s.sessions.close()
	return nil
}

// note keeps what an event of ours tells of the store's end and time.
func (s *Store) note(position uint64, at time.Time) {
	s.mu.Lock()
	if at.After(s.latest) {
		s.latest = at
	}
	if position > s.head.Position {
		s.head.Position, s.head.RecordedAt = position, at
	}
	s.mu.Unlock()
	s.signal.Raise(position)
}

// now is the time to record with: the clock, never before what is known.
func (s *Store) now() time.Time {
	at := eventstore.Micros(time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.Before(s.latest) {
		return s.latest
	}
	return at
}
