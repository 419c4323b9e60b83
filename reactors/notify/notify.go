package notify

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// Event is what something is told of.
type Event struct {
	ID       uuid.UUID `json:"id"`
	Type     string    `json:"type"`
	Topic    string    `json:"topic"` // without prefix
	Key      string    `json:"key"`   // ordering key
	Revision uint64    `json:"revision"`
	Position uint64    `json:"position"`
	At       time.Time `json:"at"`
}

// Notice is what one receiver is told of an event.
type Notice struct {
	Receiver              domain.Actor
	Kind                  string
	ReservationID, RoomID string // one of them
	Start                 time.Time
	Korean, English       string // the text
}

// The errors of a Directory that mean something; every other one is tried again a few times.
var (
	// ErrBehind: what is asked does not know of the event yet. It is asked again until it does.
	ErrBehind = errors.New("not known yet")
	// ErrUnknown: it will not know before a person acts. The event is parked.
	ErrUnknown = errors.New("not known until somebody acts")
)

// Directory tells who is to be told of an event, and what.
type Directory interface {
	Notices(ctx context.Context, e Event) ([]Notice, error)
}

// Config is what a Sender is made of.
type Config struct {
	Brokers []string
	// TopicPrefix is put before topics and groups, to share a cluster.
	TopicPrefix string
	// Group is the consumer group's name before the topic's. Defaults to "notify"; another one reads all of the log again.
	Group string
	// Types are the events that somebody may be told of. All others pass.
	Types     []domain.Event
	Directory Directory
	// DB is the reads database, migrated.
	DB       *sql.DB
	Endpoint Endpoint
	// Attempts of one delivery before it is parked, while the others of its partition wait. Defaults to 4, over some two
	// seconds; while the endpoint takes nothing at all, each gets one.
	Attempts int
	// Pause before the second attempt; it triples with each. Defaults to 150 ms.
	Pause time.Duration
	// Later are the pauses of a parked one, after which only a person's asking sends it again. Defaults to a minute, five,
	// thirty, two hours, eight hours.
	Later []time.Duration
	// Sweep is how often parked ones are looked for whose time has come. Defaults to a second.
	Sweep time.Duration
	// MaxAge of an event that is still told. Defaults to a day; deliveries are remembered twice as long.
	MaxAge time.Duration
	// SessionTimeout of the consumer groups. Defaults to 10 s.
	SessionTimeout time.Duration
	// Log defaults to nowhere.
	Log *slog.Logger
	// Count, when set, is told of each outcome: sent, parked, old. It must return quickly.
	Count func(outcome string)
	// Now is the process's clock. Defaults to time.Now.
	Now func() time.Time
}

// channel is the one that there is: an endpoint of the operator's.
const channel = "webhook"

// Sender sends notifications. Make it with New, run it once.
type Sender struct {
	Config
	types  map[string]bool
	ledger ledger
	hook   *webhook
	claims claims
	ailing atomic.Bool // the last delivery was in vain: the next ones are not tried more than once
}

// New checks the settings.
func New(c Config) (*Sender, error) {
	if err := c.Endpoint.Validate(); err != nil {
		return nil, err
	}
	if c.DB == nil || c.Directory == nil || len(c.Brokers) == 0 || len(c.Types) == 0 {
		return nil, errors.New("notifications: brokers, types, directory or reads database missing")
	}
	c.Group = cmp.Or(c.Group, "notify")
	c.Attempts = cmp.Or(c.Attempts, 4)
	c.Pause = cmp.Or(c.Pause, 150*time.Millisecond)
	c.Sweep = cmp.Or(c.Sweep, time.Second)
	c.MaxAge = cmp.Or(c.MaxAge, 24*time.Hour)
	c.SessionTimeout = cmp.Or(c.SessionTimeout, 10*time.Second)
	if c.Later == nil {
		c.Later = []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 8 * time.Hour}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Count == nil {
		c.Count = func(string) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Sender{Config: c, types: map[string]bool{}, ledger: ledger{c.DB}, hook: newWebhook(c.Endpoint, c.Now)}
	for _, e := range c.Types {
		s.types[e.EventType()] = true
	}
	return s, nil
}

// Run sends until ctx ends. Kafka, the database and the endpoint may come and go meanwhile.
func (s *Sender) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer s.hook.close()
	defer parts.Wait()
	parts.Go(func() { s.sweep(ctx) })
	said := ""
	for wait := range backoff(100*time.Millisecond, 5*time.Second) {
		err := s.consume(ctx)
		if ctx.Err() != nil {
			return nil // told to stop; what the end broke does not matter
		}
		if why := fmt.Sprint(err); why != said {
			s.Log.ErrorContext(ctx, "notifications stopped; starting them again", "error", err)
			said = why
		}
		if pause(ctx, wait) != nil {
			return nil // told to stop
		}
	}
	return nil
}

// consume reads both topics until ctx ends or Kafka cannot be reached.
func (s *Sender) consume(ctx context.Context) error {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 30 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	for _, topic := range wire.Topics() {
		// One subscriber a topic: a group in which each member reads the same topics shares them out evenly.
		sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			Brokers: s.Brokers, ConsumerGroup: s.TopicPrefix + s.Group + "." + topic, Unmarshaler: unmarshaler{},
			OverwriteSaramaConfig: s.sarama(), Tracer: &s.claims,
		}, watermill.NewSlogLogger(s.Log.With("part", "notify")))
		if err != nil {
			return err
		}
		router.AddConsumerHandler("notify/"+topic, s.TopicPrefix+topic, sub, func(m *message.Message) error { return s.handle(m, topic) })
	}
	return router.Run(ctx)
}

func (s *Sender) sarama() *sarama.Config {
	c := kafka.DefaultSaramaSubscriberConfig()
	c.ClientID = "salon-notify"
	// The default begins a new group at the log's end, and jumps there when the log no longer has our offset. From the
	// beginning nothing is passed over that is still there, and what was sent is known. Without the reset (it was tried:
	// ResetInvalidOffsets=false) one partition that retention cut makes the member join and leave for ever, with all of
	// its partitions: what the log lost is too old to be told anyway.
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.ResetInvalidOffsets = true
	c.Consumer.Group.Session.Timeout = s.SessionTimeout
	c.Consumer.Group.Heartbeat.Interval = s.SessionTimeout / 4
	// A handler gives its partition up within the time-outs of one delivery and one note of it. A rebalance waits this
	// long for a member that died in the midst of another; the default is a minute.
	c.Consumer.Group.Rebalance.Timeout = 2*postTimeout + 5*time.Second
	c.Consumer.MaxWaitTime = 250 * time.Millisecond
	return c
}

// unmarshaler never fails: watermill-kafka ends the partition on an error. What a record means is the handler's.
type unmarshaler struct{}

func (unmarshaler) Unmarshal(r *sarama.ConsumerMessage) (*message.Message, error) {
	m := message.NewMessage("", r.Value)
	for _, h := range r.Headers {
		m.Metadata.Set(string(h.Key), string(h.Value))
	}
	return m, nil
}

// handle is done with a record when it returns nil: told, parked, or of no interest. It returns an error only when it
// was told to stop, or else watermill-kafka would give it the same record for ever.
func (s *Sender) handle(m *message.Message, topic string) error {
	part, _ := kafka.MessagePartitionFromCtx(m.Context())
	ctx, lost, cancel := s.claims.with(m.Context(), s.TopicPrefix+topic, part)
	defer cancel()
	err := s.record(ctx, m, topic, part)
	if err != nil && lost() {
		return nil // acknowledged, but not marked, since the session is over: the partition's next owner gets it
	}
	return err
}

// record fails only when ctx ends.
func (s *Sender) record(ctx context.Context, m *message.Message, topic string, part int32) error {
	if wire.IsMarker(m.Metadata.Get) {
		return nil
	}
	r, err := wire.Parse(m.Metadata.Get, m.Payload)
	if err != nil {
		offset, _ := kafka.MessagePartitionOffsetFromCtx(m.Context())
		place := fmt.Sprintf("%s/%d@%d", topic, part, offset)
		e := Event{ID: uuid.NewSHA1(notificationIDs, []byte(place)), Topic: topic, At: s.Now().UTC()}
		return s.park(ctx, parked{key: key{e.ID, "", channel}, of: e, cause: "record", detail: place + ": " + err.Error()}, true)
	}
	if !s.types[r.Event.Type] {
		return nil
	}
	e := Event{
		ID: r.Event.ID, Type: r.Event.Type, Topic: topic, Key: r.Event.Key, Revision: uint64(r.Event.Revision), //nolint:gosec // not negative once stored
		Position: r.Pos, At: r.Event.RecordedAt,
	}
	if s.Now().Sub(e.At) > s.MaxAge {
		s.Count("old")
		return nil
	}
	notices, f, err := s.whom(ctx, e)
	if err != nil {
		return err
	}
	if f != nil {
		return s.park(ctx, parked{key: key{e.ID, "", channel}, of: e, cause: f.cause, detail: f.detail, attempts: s.Attempts}, false)
	}
	for _, n := range notices {
		if err := s.tell(ctx, e, n); err != nil {
			return err
		}
	}
	return nil
}

// whom asks the directory. err is only ctx's.
func (s *Sender) whom(ctx context.Context, e Event) (notices []Notice, f *failure, err error) {
	failed := 0
	for wait := range backoff(10*time.Millisecond, 250*time.Millisecond) {
		notices, err := s.Directory.Notices(ctx, e)
		switch {
		case err == nil:
			return notices, nil, nil
		case errors.Is(err, ErrUnknown):
			return nil, &failure{cause: "receivers unknown", detail: err.Error()}, nil
		case !errors.Is(err, ErrBehind) && ctx.Err() == nil:
			if failed++; failed >= s.Attempts {
				return nil, &failure{cause: "receivers unknown", detail: err.Error()}, nil
			}
		}
		if err := pause(ctx, wait); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, ctx.Err()
}

// tell delivers one notification, or parks it. It fails only when ctx ends.
func (s *Sender) tell(ctx context.Context, e Event, n Notice) error {
	k := key{e.ID, n.Receiver.Subject(), channel}
	var settled bool
	err := s.insist(ctx, func(ctx context.Context) (err error) { settled, err = s.ledger.settled(ctx, k); return err })
	if err != nil || settled {
		return err
	}
	body := bodyOf(k, e, n)
	attempts := 0
	for wait := range backoff(s.Pause, 5*time.Second) {
		attempts++
		f := s.hook.post(ctx, k.id().String(), body)
		if f == nil {
			s.ailing.Store(false)
			return s.delivered(ctx, k)
		}
		if f.final || attempts >= s.Attempts || s.ailing.Load() {
			s.ailing.Store(!f.final)
			return s.park(ctx, parked{key: k, of: e, body: body, cause: f.cause, detail: f.detail, attempts: attempts}, f.final)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// delivered notes a delivery. Also when the process is to end: unnoted, it would be repeated.
func (s *Sender) delivered(ctx context.Context, k key) error {
	now, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.ledger.sent(now, k, s.Now())
	if err != nil {
		err = s.insist(ctx, func(ctx context.Context) error { return s.ledger.sent(ctx, k, s.Now()) })
	}
	if err == nil && k.receiver != "" {
		s.Count("sent")
	}
	return err
}

// park sets a notification aside. final is one that is not tried again unless somebody asks.
func (s *Sender) park(ctx context.Context, p parked, final bool) error {
	p.parkedAt = s.Now()
	if !final && len(s.Later) > 0 {
		p.retryAt = p.parkedAt.Add(s.Later[0])
	}
	err := s.insist(ctx, func(ctx context.Context) error { return s.ledger.park(ctx, p) })
	if err == nil {
		s.Count("parked")
		s.Log.ErrorContext(ctx, "notification parked", "event_id", p.event, "event_type", p.of.Type, "cause", p.cause, "detail", p.detail)
	}
	return err
}

// insist does something with the database until it is done or ctx ends.
func (s *Sender) insist(ctx context.Context, do func(context.Context) error) error {
	said := false
	for wait := range backoff(50*time.Millisecond, 5*time.Second) {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if !said && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "notifications wait for the reads database", "error", err)
			said = true
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// backoff gives growing pauses for ever.
func backoff(first, most time.Duration) iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		for d := min(first, most); yield(d); d = min(3*d, most) {
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return ctx.Err()
	}
}
