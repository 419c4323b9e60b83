package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

// History counts what Linearize looked at.
type History struct {
	Streams, Appends, Duplicates, Conflicts, Reads, LookUps int
	Unavailable, Unknown                                    int // answers
	Settled                                                 int // of the unknown: commands that were found to have been done
}

// Linearize lets writers append to a few streams at a time, read them and look commands up, until enough is closed and
// while the caller hurts the stores (instances on the same data). Then it looks for an order of each stream's calls that
// explains every answer, each call having its effect at one instant between its beginning and its end.
//
// A call that was answered with ErrOutcomeUnknown may have its effect at any time after it began, or never: in the end
// its command is looked up. One that was answered with ErrUnavailable has none, ever.
func Linearize(ctx context.Context, stores []eventstore.Store, writers int, seed uint64, enough <-chan struct{}) (History, error) {
	h := &history{began: time.Now(), owners: map[uuid.UUID]int{}, open: map[int]*call{}}
	g, gctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(seed, uint64(w))) //nolint:gosec // a test's dice
			for i := 0; ; i++ {
				select {
				case <-enough:
					return nil
				case <-gctx.Done():
					return gctx.Err()
				default:
				}
				// A stream is short: a read of it is one page, hence one instant, and the search for an order is quick.
				stream := fmt.Sprintf("line-%d-%d", i/15, random.IntN(3))
				if err := h.step(gctx, stores[random.IntN(len(stores))], stream, random); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return h.counted, err
	}
	if err := h.settle(ctx, stores[0]); err != nil {
		return h.counted, err
	}
	return h.counted, h.explain()
}

// What was asked and what was answered.
type (
	question struct {
		asks     kind
		command  int // number of the command; appends and look-ups
		events   int
		expected eventstore.Revision
	}
	reply struct {
		outcome outcome
		last    eventstore.Revision // of the command; of the stream at a conflict
		seen    string              // of a read: for each event its command's number
	}
	call struct {
		question
		reply
		stream     string
		begun, end int64
	}
	kind    int
	outcome int
)

const (
	appends kind = iota
	reads
	looksUp
)

const (
	done outcome = iota // of a look-up: found
	duplicate
	conflict
	missing // of a look-up
)

type history struct {
	began   time.Time
	mu      sync.Mutex
	asked   []eventstore.Append // by the command's number
	owners  map[uuid.UUID]int   // of events: the command's number
	calls   []call
	open    map[int]*call // first calls of unknown outcome, by command
	counted History
}

func (h *history) now() int64 { return time.Since(h.began).Nanoseconds() }

// step is one call of a writer.
func (h *history) step(ctx context.Context, s eventstore.Store, stream string, random *rand.Rand) error {
	var err error
	switch dice := random.IntN(20); {
	case dice < 5:
		err = h.read(ctx, s, stream, dice == 0)
	case dice < 8:
		if n, a, ok := h.recent(random); ok {
			err = h.lookUp(ctx, s, n, a)
		}
	case dice < 11: // again, as one would whose answer was lost, also while the first is under way
		if n, a, ok := h.recent(random); ok {
			err = h.append(ctx, s, n, a)
		}
	default:
		a := request(stream, h.expectation(stream, random), make([]string, random.IntN(3))...)
		err = h.append(ctx, s, h.number(a), a)
	}
	if errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
		select {
		case <-time.After(5 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// expectation is right, wrong or none.
func (h *history) expectation(stream string, random *rand.Rand) eventstore.Revision {
	if random.IntN(3) == 0 {
		return eventstore.AnyRevision
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range slices.Backward(h.calls[max(0, len(h.calls)-200):]) {
		if c.stream == stream && c.asks == appends {
			return c.last
		}
	}
	return eventstore.NoStream
}

func (h *history) number(a eventstore.Append) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, a)
	for _, e := range a.Events {
		h.owners[e.ID] = len(h.asked) - 1
	}
	return len(h.asked) - 1
}

func (h *history) recent(random *rand.Rand) (int, eventstore.Append, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.asked) == 0 {
		return 0, eventstore.Append{}, false
	}
	n := max(0, len(h.asked)-1-random.IntN(20))
	return n, h.asked[n], true
}

func (h *history) append(ctx context.Context, s eventstore.Store, n int, a eventstore.Append) error {
	c := call{question: question{appends, n, len(a.Events), a.Expected}, stream: a.Stream, begun: h.now()}
	a.DecidedAt = time.Now()
	told, err := s.Append(ctx, a)
	c.end = h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	var before *eventstore.DuplicateError
	var another *eventstore.ConflictError
	switch {
	case err == nil:
		c.reply = reply{outcome: done, last: told.LastRevision}
		h.counted.Appends++
	case errors.As(err, &before):
		c.reply = reply{outcome: duplicate, last: before.Command.LastRevision}
		h.counted.Duplicates++
	case errors.As(err, &another):
		c.reply = reply{outcome: conflict, last: another.Actual}
		h.counted.Conflicts++
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		h.counted.Unknown++
		if first := h.open[n]; first == nil || c.begun < first.begun {
			h.open[n] = &c
		}
		return err
	case errors.Is(err, eventstore.ErrDecisionTooOld): // held up for longer than a decision lives
		return nil
	case errors.Is(err, eventstore.ErrUnavailable):
		h.counted.Unavailable++
		return err
	default:
		return fmt.Errorf("append to %s: %w", a.Stream, err)
	}
	h.calls = append(h.calls, c)
	return nil
}

func (h *history) read(ctx context.Context, s eventstore.Store, stream string, back bool) error {
	c := call{question: question{asks: reads}, stream: stream, begun: h.now()}
	read := readStream
	if back {
		read = func(ctx context.Context, s eventstore.Store, stream string, _ eventstore.Revision) ([]eventstore.Recorded, error) {
			return readBack(ctx, s, stream, eventstore.LastRevision)
		}
	}
	events, err := read(ctx, s, stream, 0)
	c.end = h.now()
	if err != nil {
		return err
	}
	if back {
		slices.Reverse(events)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, e := range events {
		owner, ok := h.owners[e.ID]
		if !ok {
			return fmt.Errorf("revision %d of %s is nobody's", e.Revision, stream)
		}
		fmt.Fprintf(&b, "%d ", owner)
	}
	c.seen = b.String()
	h.counted.Reads++
	h.calls = append(h.calls, c)
	return nil
}

func (h *history) lookUp(ctx context.Context, s eventstore.Store, n int, a eventstore.Append) error {
	c := call{question: question{asks: looksUp, command: n}, stream: a.Stream, begun: h.now()}
	found, ok, err := s.Command(ctx, a.Command.ID)
	c.end = h.now()
	if err != nil {
		return err
	}
	c.reply = reply{outcome: missing}
	if ok {
		c.reply = reply{outcome: done, last: found.LastRevision}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counted.LookUps++
	h.calls = append(h.calls, c)
	return nil
}

// settle finds out what became of the calls of unknown outcome, and reads each stream once more.
func (h *history) settle(ctx context.Context, s eventstore.Store) error {
	acked := map[int]bool{}
	streams := map[string]bool{}
	for _, c := range h.calls {
		streams[c.stream] = true
		if c.asks == appends && c.outcome == done {
			acked[c.command] = true
		}
	}
	for n, c := range h.open {
		streams[c.stream] = true
		if acked[n] {
			continue // a later call had the effect: one that had it before would be a second one
		}
		found, err := patiently(ctx, func() (*eventstore.Command, error) {
			found, ok, err := s.Command(ctx, h.asked[n].Command.ID)
			if !ok {
				return nil, err
			}
			return &found, err
		})
		if err != nil {
			return err
		}
		if found == nil {
			continue
		}
		c.reply, c.end = reply{outcome: done, last: found.LastRevision}, math.MaxInt64
		h.calls = append(h.calls, *c)
		h.counted.Settled++
	}
	h.counted.Streams = len(streams)
	for stream := range streams {
		if _, err := patiently(ctx, func() (struct{}, error) { return struct{}{}, h.read(ctx, s, stream, false) }); err != nil {
			return err
		}
	}
	return nil
}

// explain looks for the order, stream by stream.
func (h *history) explain() error {
	of := map[string][]porcupine.Operation{}
	for _, c := range h.calls {
		of[c.stream] = append(of[c.stream], porcupine.Operation{Input: c.question, Call: c.begun, Output: c.reply, Return: c.end})
	}
	model := porcupine.Model{Init: func() any { return line("") }, Step: step}
	var errs []error
	for stream, calls := range of {
		switch porcupine.CheckOperationsTimeout(model, calls, 20*time.Second) {
		case porcupine.Ok:
		case porcupine.Unknown:
			errs = append(errs, fmt.Errorf("no order of the %d calls of %s was found in time", len(calls), stream))
		case porcupine.Illegal:
			errs = append(errs, fmt.Errorf("no order explains what was answered of %s:\n%s", stream, told(calls)))
		}
		if len(errs) > 2 {
			break
		}
	}
	return errors.Join(errs...)
}

func told(calls []porcupine.Operation) string {
	slices.SortFunc(calls, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, c := range calls[:min(len(calls), 60)] {
		q, r := c.Input.(question), c.Output.(reply)
		fmt.Fprintf(&b, "%9d to %9d µs: ", c.Call/1000, c.Return/1000)
		switch q.asks {
		case appends:
			fmt.Fprintf(&b, "command %d appends %d expecting %d: %s, %d\n", q.command, q.events, q.expected, [...]string{"done", "duplicate", "conflict"}[r.outcome], r.last)
		case reads:
			fmt.Fprintf(&b, "read: %s\n", r.seen)
		case looksUp:
			fmt.Fprintf(&b, "command %d is looked up: found %t, %d\n", q.command, r.outcome == done, r.last)
		}
	}
	return b.String()
}
