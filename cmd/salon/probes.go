package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/audit/doctor"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/reads"
)

// patient is what doctor looks at: a process from within, or the servers that are named, opened for the look.
type patient struct {
	*node
	sealKeys []string // by which seals are believed; a process that seals has its own

	noStore, noReads, noRedis error // why there is none to look at

	tail   once[doctor.Tail]
	keys   once[[]doctor.Key]
	survey once[admin.Overview]
	claims once[claimed]
}

// opening is how long opening the event store may take, which is all that is waited for before the parts are looked at.
const opening = 700 * time.Millisecond

// examine opens what is named, as far as it can be had.
func examine(ctx context.Context, c *doctorCmd) *patient {
	s := &patient{node: &node{servers: c.Servers}, sealKeys: c.SealKey}
	s.erasures.Path = c.Erasures
	if s.reads, s.noReads = reads.Open(ctx, c.Reads); s.noReads != nil {
		s.reads = nil
	}
	if s.redis, s.noRedis = newRedis(c.Redis); s.noRedis != nil {
		s.redis = nil
	}
	ctx, cancel := context.WithTimeout(ctx, max(opening, c.Limit-doctor.Limit+opening))
	defer cancel()
	store, err := openEvents(ctx, c.Events, nil)
	if err == nil {
		s.store = store
	} else {
		s.noStore = err
		if errors.Is(err, eventstore.ErrUnavailable) {
			s.noStore = fmt.Errorf("the event store does not answer: start it, or correct --events: %w", err)
		}
	}
	return s
}

func (s *patient) close() {
	if s.store != nil {
		_ = s.store.Close() // it was only read
	}
	if s.reads != nil {
		_ = s.reads.Close()
	}
	if s.redis != nil {
		_ = s.redis.Close()
	}
}

// probes are all that there are, in the order in which they are told. full adds every event and every row; log is told how
// far that is.
func (s *patient) probes(full bool, log io.Writer) []doctor.Probe {
	probes := []doctor.Probe{
		{Part: "versions", Look: s.probeVersions},
		{Part: "event store", Look: s.overStore(s.probeStore)},
		{Part: "event types", Look: s.overStore(func(ctx context.Context) (string, error) {
			return doctor.Types(ctx, s.store, codec().Names(), s.dense())
		})},
		{Part: "reads database", Look: s.overReads(s.probeReads)},
		{Part: "redis", Look: s.overRedis(s.probeRedis)},
		{Part: "kafka topics", Look: s.probeTopics},
		{Part: "relay", Look: s.overStore(s.probeRelay)},
		{Part: "offsets", Look: s.overModels(s.probeOffsets)},
		{Part: "claims", Look: s.overReads(s.probeClaims)},
		{Part: "parked", Look: s.overModels(s.probeParked)},
		{Part: "rows of tables", Look: s.overModels(s.probeRows(full)), Long: full},
		{Part: "rows of views", Look: s.overModels(s.overRedis(s.probeViews(full))), Long: full},
		{Part: "seals", Look: s.overStore(s.probeSeals)},
		{Part: "look-ups", Look: s.overStore(s.probeLookups)},
		{Part: "erasures", Look: s.overStore(s.probeErasures)},
		{Part: "reactor", Look: s.overReads(s.probeReactor)},
	}
	if s.live != nil {
		probes = append(probes, doctor.Probe{Part: "live", Look: func(context.Context) (string, error) { return probeLive(s.live.Status()) }})
	}
	probes = append(probes,
		doctor.Probe{Part: "clocks", Look: s.probeClocks},
		doctor.Probe{Part: "disk", Look: s.probeDisk},
	)
	for _, r := range s.runners {
		probes = append(probes, doctor.Probe{Part: "projection " + r.Projection.Name, Look: func(ctx context.Context) (string, error) { return s.probeRunner(ctx, r) }})
	}
	if full {
		probes = append(probes, doctor.Probe{Part: "every event", Long: true, Look: s.overStore(func(ctx context.Context) (string, error) {
			return doctor.EveryEvent(ctx, s.store, codec().Names(), s.dense(), func(position, head uint64) {
				fmt.Fprintf(log, "every event: at position %d of %d\n", position, head)
			})
		})})
	}
	return probes
}

type look = func(ctx context.Context) (string, error)

// overStore is a look for which the event store has to be there.
func (s *patient) overStore(l look) look {
	return func(ctx context.Context) (string, error) {
		switch {
		case s.noStore != nil:
			return "", s.noStore
		case s.store == nil:
			return "", errors.New("this process has not opened its event store yet")
		}
		return l(ctx)
	}
}

func (s *patient) overReads(l look) look {
	return func(ctx context.Context) (string, error) {
		switch {
		case s.noReads != nil:
			return "", s.noReads
		case s.reads == nil:
			return "", errors.New("this process has not opened its reads database yet")
		}
		return l(ctx)
	}
}

func (s *patient) overRedis(l look) look {
	return func(ctx context.Context) (string, error) {
		switch {
		case s.noRedis != nil:
			return "", s.noRedis
		case s.redis == nil:
			return "", errors.New("this process has not opened Redis yet")
		}
		return l(ctx)
	}
}

// overModels is a look at read models beside the store.
func (s *patient) overModels(l look) look { return s.overStore(s.overReads(l)) }

// dense tells whether the store promises positions without holes.
func (s *patient) dense() bool { return !withoutSchema(s.servers.Events) }

// once is what several parts need and one look reads.
type once[T any] struct {
	sync.Mutex
	done  bool
	value T
	err   error
}

func (o *once[T]) get(read func() (T, error)) (T, error) {
	o.Lock()
	defer o.Unlock()
	if !o.done {
		o.value, o.err = read()
		o.done = true
	}
	return o.value, o.err
}

func (s *patient) readTail(ctx context.Context) (doctor.Tail, error) {
	return s.tail.get(func() (doctor.Tail, error) { return doctor.ReadTail(ctx, s.store, s.dense()) })
}

// sampled is how many ordering keys a look draws.
const sampled = 12

func (s *patient) draw(ctx context.Context) ([]doctor.Key, error) {
	t, err := s.readTail(ctx)
	if err != nil {
		return nil, fmt.Errorf("the event store is not fit to be compared with: %w", err)
	}
	return s.keys.get(func() ([]doctor.Key, error) { return doctor.Draw(ctx, s.store, t, s.dense(), sampled, rand.Uint64N) })
}

func (s *patient) probeStore(ctx context.Context) (string, error) {
	t, err := s.readTail(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("head at position %d, incarnation %s; the last %d events are in their places and as they were stored", t.Head.Position, t.Head.Incarnation, len(t.Events)), nil
}

func (s *patient) probeReads(ctx context.Context) (string, error) {
	if err := s.reads.Ping(ctx); err != nil {
		return "", fmt.Errorf("does not answer: start it, or correct --reads: %w", err)
	}
	if err := s.reads.Check(ctx); err != nil {
		return "", err
	}
	server, err := s.reads.Server(ctx)
	return server.Version + " answers", err
}

func (s *patient) probeRedis(ctx context.Context) (string, error) {
	if err := s.redis.Ping(ctx).Err(); err != nil {
		return "", fmt.Errorf("does not answer: start it, or correct --redis; until then reads are answered from tables: %w", err)
	}
	info, err := s.redis.Info(ctx).Result()
	if err != nil {
		return "answers", nil //nolint:nilerr // the embedded one tells nothing of itself
	}
	return judgeRedis(fieldsOf(info))
}

// fieldsOf are the fields of an answer to INFO.
func fieldsOf(info string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[name] = value
		}
	}
	return out
}

// probeSeals looks at the last seal: its signature, where the key is known, and how old it is. Who does not know a key need
// not be one who has seals.
func (s *patient) probeSeals(ctx context.Context) (string, error) {
	if s.sealing != nil {
		return s.sealing.probe(ctx, time.Now())
	}
	read := seal.ReadNote
	if len(s.sealKeys) > 0 {
		known, err := seal.Known(s.sealKeys...)
		if err != nil {
			return "", err
		}
		read = func(note []byte) (seal.Body, error) { return seal.CheckNote(note, known) }
	}
	detail, waits, err := lastSeal(ctx, s.store, time.Now(), read)
	if err != nil {
		return "", fmt.Errorf("%w: `salon events verify` tells more", err)
	}
	if len(s.sealKeys) == 0 {
		detail += "; its signature was not checked, without --seal-key"
	}
	if waits > 5*seal.Every {
		late := fmt.Sprintf("%s; what follows has waited for %s: run `salon serve admin --seal-key-file FILE`, or seal now by `salon events seal --seal-key-file FILE`", detail, waits)
		if len(s.sealKeys) > 0 {
			return "", errors.New(late)
		}
		return late, nil
	}
	return detail, nil
}

// unindexed is how long an event may be missing from the look-up index.
const unindexed = time.Minute

func (s *patient) probeLookups(ctx context.Context) (string, error) {
	index, can := s.store.(eventstore.Lookups)
	if !can {
		return "this event store has no index: events are looked for in the events themselves", nil
	}
	through, err := index.LookupsThrough(ctx)
	if err != nil {
		return "", err
	}
	behind, waits, err := doctor.Behind(ctx, s.store, through, time.Now())
	if err != nil {
		return "", err
	}
	detail := fmt.Sprintf("through position %d, %d behind the head", through, behind)
	if waits > unindexed {
		return "", fmt.Errorf("%s, for %s: run `salon serve admin`, which indexes", detail, waits.Round(time.Second))
	}
	return detail, nil
}
