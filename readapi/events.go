package readapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/history"
)

const (
	// eventsAtOnce is how many entries one read brings.
	eventsAtOnce = 100
	// maxStreams is how many streams somebody may have open on this node: tabs and devices.
	maxStreams = 16
	// reconnect is the time after which a reader shall come again.
	reconnect = time.Second
)

// streams counts the open streams of each subject.
type streams struct {
	mu   sync.Mutex
	open map[string]int
	// heartbeat is how long a stream is silent at most: a proxy that hears nothing for a minute hangs up.
	heartbeat time.Duration
	// stalled is how long a reader may take none of what it is sent. Then the stream ends; it comes again and goes on.
	stalled time.Duration
}

func newStreams() *streams {
	return &streams{open: map[string]int{}, heartbeat: 15 * time.Second, stalled: 10 * time.Second}
}

func (s *streams) take(subject string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[subject] >= maxStreams {
		return false
	}
	s.open[subject]++
	return true
}

func (s *streams) give(subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[subject]--; s.open[subject] == 0 {
		delete(s.open, subject)
	}
}

type eventsInput struct {
	ReadHeaders
	ReservationID string `path:"reservation_id"`
	LastEventID   string `header:"Last-Event-ID" pattern:"^(0|[1-9][0-9]{0,17})$" doc:"The id of the last event that was received: the stream goes on behind it. Without it, it begins with the first."`
}

func (s screens) registerEvents(api huma.API) {
	op := httpserver.Operation("reservation-events", http.MethodGet, "/v1/reservations/{reservation_id}/events",
		"Its history as it happens", "customer", "groomer", "admin")
	op.Description = "Server-Sent Events: first what happened already, then what happens. `id` is the revision, `event` what happened, " +
		"`data` the entry as the history has it. The stream ends with its token, and when the node stops or its reader does not read; " +
		"a reader that comes again with Last-Event-ID misses nothing and gets nothing twice."
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A stream without end",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{
			Type: "string", Description: "Each data line is a Happening", Examples: []any{"id: 7\nevent: confirmed\ndata: {\"revision\":7,\"what\":\"confirmed\"}\n\n"},
		}}},
	}}
	huma.Register(api, op, s.events)
}

func (s screens) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	salon, err := salonOf(in.ReservationID)
	if err != nil {
		return nil, err
	}
	id := caller(ctx)
	subject := id.Role + ":" + id.Sub
	if !s.streams.take(subject) {
		return nil, problem.RateLimited(fmt.Sprintf("you have %d streams open on this node; close one", maxStreams), reconnect)
	}
	st := &stream{screens: s, id: in.ReservationID, salon: salon, reader: id, watch: s.watching.add(in.ReservationID)}
	end := func() { s.watching.remove(st.watch); s.streams.give(subject) }
	begun := false
	defer func() {
		if !begun {
			end()
		}
	}()
	if in.LastEventID != "" {
		last, _ := strconv.ParseUint(in.LastEventID, 10, 63) // its pattern fits
		st.watch.known.Store(last + 1)
	}
	if err := st.read(ctx, in.ReadHeaders); err != nil {
		return nil, err
	}
	begun = true
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer end()
		st.run(ctx, h)
	}}, nil
}

// stream is one reader's. Only its request's goroutine touches it.
type stream struct {
	screens
	id, salon string
	reader    auth.Identity
	watch     *watch
	rows      []history.Row // read, not yet written
	to        *http.ResponseController
	w         io.Writer
	sent      time.Time // when the reader was last sent something
}

// errReaderGone ends a stream: its reader left, or does not read.
var errReaderGone = errors.New("nobody reads")

// read brings the next rows. In each snapshot a reservation's rows are a beginning of its history, whichever version
// serves: what is above the last that was written is all that is new, in order.
func (st *stream) read(ctx context.Context, h ReadHeaders) error {
	return st.Read(ctx, h, Scope{Newest: true, Of: []engine.Projection{history.Projection()}, Keys: []string{st.salon}},
		func(ctx context.Context, snap Snapshot) error {
			version := snap.Version("history")
			first, err := engine.Query(ctx, snap, history.Table, version, "WHERE reservation_id = ? ORDER BY revision LIMIT 1", st.id)
			if err != nil {
				return err
			}
			if len(first) == 0 || !isParty(st.reader, first[0].CustomerID, first[0].GroomerID) {
				return unknownReservation()
			}
			st.rows, err = engine.Query(ctx, snap, history.Table, version,
				"WHERE reservation_id = ? AND revision >= ? ORDER BY revision LIMIT ?", st.id, int64(st.watch.known.Load()), eventsAtOnce) //nolint:gosec // below 2^63
			return err
		})
}

// run writes until the reader leaves or stops reading, the token ends, or the node stops. It tells nobody why: the reader
// comes again.
func (st *stream) run(ctx context.Context, h huma.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if e := st.reader.Expires; !e.IsZero() {
		var expired context.CancelFunc
		ctx, expired = context.WithDeadline(ctx, e)
		defer expired()
	}
	defer context.AfterFunc(httpserver.Stopping(ctx), stop)()

	h.SetHeader("Content-Type", "text/event-stream")
	h.SetHeader("Cache-Control", "no-store, no-transform")
	h.SetHeader("X-Accel-Buffering", "no") // nginx would hold events back
	h.SetStatus(http.StatusOK)
	w := humaecho.Unwrap(h).Response()
	st.w, st.to = w, http.NewResponseController(w.Writer)
	_ = st.to.SetReadDeadline(time.Time{}) // the request has arrived; its reader may listen for hours
	if st.send(fmt.Appendf(nil, "retry: %d\n\n", reconnect.Milliseconds())) != nil {
		return
	}
	changed := func(beat <-chan time.Time) (bool, error) { return st.watching.until(ctx, st.watch, beat) }
	next := func(ctx context.Context) error { return st.read(ctx, ReadHeaders{}) }
	for {
		more := len(st.rows) == eventsAtOnce
		if !st.insist(ctx, st.deliver) || !more && !st.wait(ctx, changed) || !st.insist(ctx, next) {
			return
		}
	}
}

// deliver writes the rows.
func (st *stream) deliver(ctx context.Context) error {
	if len(st.rows) == 0 {
		return nil
	}
	var out bytes.Buffer
	for _, r := range st.rows {
		item, err := st.happening(ctx, r)
		if err != nil {
			return err
		}
		data, err := json.Marshal(item)
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "id: %d\nevent: %s\ndata: %s\n\n", r.Revision, r.What, data)
	}
	if err := st.send(out.Bytes()); err != nil {
		return err
	}
	st.watch.known.Store(st.rows[len(st.rows)-1].Revision + 1)
	st.rows = nil
	return nil
}

func (st *stream) send(b []byte) error {
	st.sent = time.Now()
	_ = st.to.SetWriteDeadline(st.sent.Add(st.streams.stalled)) // in place of the server's, which is for whole answers
	if _, err := st.w.Write(b); err != nil {
		return errReaderGone
	}
	if st.to.Flush() != nil {
		return errReaderGone
	}
	return nil
}

// insist does something until it succeeds: what is away comes back, and the stream goes on. It is false when the stream is
// over.
func (st *stream) insist(ctx context.Context, do func(context.Context) error) bool {
	for {
		err := do(ctx)
		if err == nil || errors.Is(err, errReaderGone) {
			return err == nil && ctx.Err() == nil
		}
		again := time.After(watchAway)
		if !st.wait(ctx, func(beat <-chan time.Time) (bool, error) {
			select {
			case <-again:
				return true, nil
			case <-beat:
				return false, nil
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}) {
			return false
		}
	}
}

// wait waits for something that also returns at each beat; its reader hears then that the stream lives. It is false when
// the stream is over.
func (st *stream) wait(ctx context.Context, something func(beat <-chan time.Time) (bool, error)) bool {
	beat := time.NewTimer(time.Until(st.sent.Add(st.streams.heartbeat)))
	defer beat.Stop()
	for {
		came, err := something(beat.C)
		if err != nil || ctx.Err() != nil {
			return false
		}
		if came {
			return true
		}
		if st.send([]byte(":\n\n")) != nil {
			return false
		}
		beat.Reset(st.streams.heartbeat)
	}
}
