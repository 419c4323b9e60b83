package audit

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// Moment is what a caller means by "then". The zero Moment is now.
type Moment struct {
	text     string
	kind     kind
	number   uint64
	instant  time.Time
	location string // the parameter it came by, for complaints
}

type kind int

const (
	now kind = iota
	byTime
	byNumber // revision of a stream, position of the store
	byPosition
)

// maxMoment is longer than any that is meant.
const maxMoment = 64

var digits = regexp.MustCompile(`^[0-9]{1,19}$`)

// ParseMoment reads an RFC 3339 time, a number (a revision of a stream; of rows a position of the store), or
// "position:N"; "" and "now" are now. location names the parameter: "at".
func ParseMoment(location, text string) (Moment, error) {
	m := Moment{text: text, location: location}
	rest, position := strings.CutPrefix(text, "position:")
	switch {
	case text == "" || text == "now":
		return m, nil
	case digits.MatchString(rest):
		m.kind = byNumber
		if position {
			m.kind = byPosition
		}
		var err error
		if m.number, err = strconv.ParseUint(rest, 10, 63); err == nil {
			return m, nil
		}
	case len(text) <= maxMoment:
		t, err := time.Parse(time.RFC3339, text)
		if m.kind, m.instant = byTime, t.UTC(); err == nil && t.Year() >= 1 && t.Year() <= 9999 {
			return m, nil
		}
	}
	return m, domain.Refuse("request.invalid", "%s: want an RFC 3339 time (2026-11-24T14:03:00+09:00), a number, position:N, or now", location)
}

// ErrFuture and its like are the refusals of moments.
var (
	errFuture = domain.Refuse("moment.future", "")
	errBefore = domain.Refuse("moment.unknown", "")
)

func (m Moment) future() error {
	return domain.Refuse(errFuture.Code, "%s: %s has not come yet", m.location, m.text)
}

// place is where the moment stands in the store. stream is asked for revisions; "" where numbers are positions.
func (p *Past) place(ctx context.Context, m Moment, stream string) (eventstore.Place, error) {
	switch {
	case m.kind == byNumber && stream != "":
		return p.revision(ctx, m, stream)
	case m.kind == byTime:
		if m.instant.After(p.now()) {
			// The clock here may be behind the store's.
			if head, err := p.Store.Head(ctx); err != nil || m.instant.After(head.RecordedAt) {
				if err == nil {
					err = m.future()
				}
				return eventstore.Place{}, err
			}
		}
		return p.Store.LastPlace(ctx, math.MaxUint64, m.instant)
	case m.kind == now:
		return p.Store.LastPlace(ctx, math.MaxUint64, endOfTime)
	}
	head, err := p.Store.Head(ctx)
	if err != nil {
		return eventstore.Place{}, err
	}
	if m.number > head.Position {
		return eventstore.Place{}, domain.Refuse(errBefore.Code, "%s: the store ends at position %d", m.location, head.Position)
	}
	return p.Store.LastPlace(ctx, m.number, endOfTime)
}

// endOfTime is after everything that a store can have recorded.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

func (p *Past) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// revision is where a stream's event of that revision stands.
func (p *Past) revision(ctx context.Context, m Moment, stream string) (eventstore.Place, error) {
	want := eventstore.Revision(m.number) //nolint:gosec // 63 bits
	for r, err := range p.Store.ReadStream(ctx, stream, want) {
		if err != nil {
			return eventstore.Place{}, fmt.Errorf("read %s: %w", stream, err)
		}
		if r.Revision == want {
			return eventstore.Place{Position: r.Position, At: r.RecordedAt}, nil
		}
		break
	}
	for r, err := range p.Store.ReadStreamBack(ctx, stream, eventstore.LastRevision) {
		if err != nil {
			return eventstore.Place{}, fmt.Errorf("read %s: %w", stream, err)
		}
		return eventstore.Place{}, domain.Refuse(errBefore.Code, "%s: the stream ends at revision %d", m.location, r.Revision)
	}
	return eventstore.Place{}, errStream(stream)
}

func errStream(stream string) error {
	return domain.Refuse("stream.unknown", "there is no stream %.80q", stream)
}
