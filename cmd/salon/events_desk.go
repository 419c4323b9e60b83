package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/audit/doctor"
	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/admin"
)

// sealing is what a process that seals has; its store comes when it is open.
type sealing struct {
	seal.Sealer

	of    store
	since time.Time // when it began to seal
}

// sealingWith takes the key as load does. Without brokers, no heads go to Kafka: to the broker of a data folder they do not,
// since whoever can change the folder's store can change that log as well.
func sealingWith(load func(path string) (seal.Key, error), c config.Seals, kafka headsIn) (*sealing, error) {
	key, err := load(c.SealKeyFile)
	if err != nil {
		return nil, err
	}
	s := &sealing{Sealer: seal.Sealer{Key: key}}
	if c.SealFile != "" {
		s.Heads = append(s.Heads, &seal.HeadFile{Path: c.SealFile})
	}
	if kafka.Kafka != "" {
		s.Heads = append(s.Heads, kafka.heads())
	}
	return s, nil
}

// headsIn is the Kafka that keeps the heads of seals.
type headsIn struct {
	Kafka       string `help:"Kafka brokers, host:port, comma-separated, whose topic salon.seals.v1 keeps the heads of seals." env:"-" placeholder:"HOST:PORT,…"`
	TopicPrefix string `help:"Put before that topic's name." placeholder:"PREFIX"`
}

func (h headsIn) heads() *relay.Heads {
	return &relay.Heads{Brokers: strings.Split(h.Kafka, ","), Prefix: h.TopicPrefix}
}

// check refuses what is no address.
func (h headsIn) check() error {
	if h.Kafka == "" {
		return nil
	}
	s := config.Servers{Kafka: h.Kafka, Topics: config.Topics{Partitions: 1}}
	return usage(s.Need(false, true, false, false))
}

func (s *sealing) over(st store, url string, log *slog.Logger) {
	s.Store, s.of, s.Dense, s.Log, s.since = st, st, !withoutSchema(url), log, time.Now()
}

func (s *sealing) sealer() *seal.Sealer {
	if s == nil {
		return nil
	}
	return &s.Sealer
}

// eventsDesk is what the verbs on events work on: a store, opened for it, or of a running process.
type eventsDesk struct {
	store
	url     string
	record  admin.Record // nil: a file at hand, in which nobody is noted
	sealing *sealing     // nil: nothing can be signed
	texts   func() (audit.Texts, error)
}

func (h eventsDesk) dense() bool { return !withoutSchema(h.url) }

// note records a call before it is answered.
func (h eventsDesk) note(ctx context.Context, operation, about string) error {
	if h.record == nil {
		return nil
	}
	if err := h.record(ctx, operation, about); err != nil {
		return fmt.Errorf("%w: %w", admin.ErrNotRecorded, err)
	}
	return nil
}

// whichEvents names the event store of a call.
type whichEvents struct {
	Events     string `help:"Event store: postgres://USER@HOST/DB, esdb://HOST:PORT or sqlite:FILE, a copy or one that no process has." placeholder:"URL"`
	EventsFile string `help:"File that holds --events, for a URL with a password." type:"path" placeholder:"FILE"`
	Data       string `help:"Data folder of a running salon up: without --events, its process is asked." type:"path" default:"${data}"`
}

// servers checks the flags; the process of the data folder is asked when none is given.
func (c *whichEvents) servers() (s config.Servers, ask bool, err error) {
	s = config.Servers{Events: c.Events, EventsFile: c.EventsFile, Topics: config.Topics{Partitions: 1}}
	if err := s.ReadFiles(); err != nil {
		return s, false, usage(err)
	}
	if s.Events == "" {
		return s, true, nil
	}
	return s, false, usage(s.Need(true, false, false, false))
}

// with lets work use the store that is named. look: nothing is written, so that also a damaged file can be looked at.
func (c *whichEvents) with(ctx context.Context, s config.Servers, look bool, work func(h eventsDesk) error) error {
	return c.opened(ctx, s, look, false, work)
}

// loading lets work fill the store that is named, also one in which that was begun.
func (c *whichEvents) loading(ctx context.Context, s config.Servers, work func(h eventsDesk) error) error {
	return c.opened(ctx, s, false, true, work)
}

func (c *whichEvents) opened(ctx context.Context, s config.Servers, look, load bool, work func(h eventsDesk) error) (err error) {
	h := eventsDesk{url: s.Events}
	file, isFile := strings.CutPrefix(s.Events, "sqlite:")
	switch {
	case isFile:
		h.store, err = sqlite.Open(ctx, sqlite.Config{Path: file, ReadOnly: look})
	case withoutSchema(s.Events):
		h.store, err = esdb.Open(ctx, esdb.Config{URL: s.Events, Loading: load})
	default:
		h.store, err = openEvents(ctx, s.Events, nil)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if !isFile || !look {
		h.record = (&node{store: h.store}).recordFor(commandLine(machineUser()))
	}
	return work(h)
}

// historyRoutes answer the verbs on events for other processes.
func (n *node) historyRoutes(mux *http.ServeMux, answer func(w http.ResponseWriter, body any, err error)) {
	route := func(pattern string, work func(ctx context.Context, h eventsDesk, request []byte) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			h := eventsDesk{store: n.store, url: n.servers.Events, record: n.recordFor(commandLine(askedBy(q))), sealing: n.sealing, texts: n.texts}
			body, err := work(r.Context(), h, []byte(q.Get("request")))
			answer(w, body, err)
		})
	}
	route("POST /events/seal", func(ctx context.Context, h eventsDesk, _ []byte) (any, error) { return h.seal(ctx) })
	route("GET /events/verify", func(ctx context.Context, h eventsDesk, request []byte) (any, error) {
		var q verifyQuery
		if err := json.Unmarshal(request, &q); err != nil {
			return nil, err
		}
		return h.verify(ctx, q, nil)
	})
	route("GET /events/prove", func(ctx context.Context, h eventsDesk, request []byte) (any, error) {
		var position uint64
		if err := json.Unmarshal(request, &position); err != nil {
			return nil, err
		}
		return h.prove(ctx, position)
	})
	route("POST /events/export", func(ctx context.Context, h eventsDesk, request []byte) (any, error) {
		var o export.Order
		if err := json.Unmarshal(request, &o); err != nil {
			return nil, err
		}
		return h.export(ctx, o)
	})
}

// askHistory has the process of a data folder do it.
func (c *whichEvents) askHistory(ctx context.Context, method, path string, request, into any) error {
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	socket := socketPath(c.Data)
	return socketDesk{socketClient(socket), socket}.call(ctx, method, path, url.Values{"request": {string(b)}}, into)
}

// absolute is a path as another process has to be told it.
func absolute(path string) (string, error) {
	if path == "" || path == "-" {
		return path, nil
	}
	return filepath.Abs(path)
}

// probe looks at the seals of a process that makes them.
func (s *sealing) probe(ctx context.Context, now time.Time) (string, error) {
	detail, waits, err := s.last(ctx, now)
	if err == nil && waits > 5*seal.Every {
		err = fmt.Errorf("%s; what follows has waited for %s: the log says why, and `salon events seal` tries at once", detail, waits)
	}
	return detail, err
}

// last tells of the last seal, and for how long what follows has waited for this process.
func (s *sealing) last(ctx context.Context, now time.Time) (detail string, waits time.Duration, err error) {
	known, err := seal.Known(s.Key.Public)
	if err != nil {
		return "", 0, err
	}
	detail, waits, err = lastSeal(ctx, s.of, now, func(b []byte) (seal.Body, error) { return seal.CheckNote(b, known) })
	return detail, min(waits, now.Sub(s.since)), err
}

// lastSeal tells of the last seal, and for how long the first event behind it has waited.
func lastSeal(ctx context.Context, s store, now time.Time, read func(note []byte) (seal.Body, error)) (detail string, waits time.Duration, err error) {
	last, err := s.LastSeal(ctx)
	if err != nil {
		return "", 0, err
	}
	head, err := s.Head(ctx)
	if err != nil {
		return "", 0, err
	}
	detail = "nothing is sealed yet"
	if last.Block > 0 {
		b, err := read(last.Note)
		if err != nil {
			return "", 0, fmt.Errorf("the last seal: %w", err)
		}
		detail = fmt.Sprintf("seal %d of %s ago covers position %d of %d", last.Block, now.Sub(b.At).Round(time.Second), last.Through, head.Position)
	}
	_, waits, err = doctor.Behind(ctx, s, last.Through, now)
	return detail, waits.Round(time.Second), err
}
