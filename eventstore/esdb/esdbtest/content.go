package esdbtest

import (
	"encoding/json"
	"math"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// Expectations that are not a revision.
const (
	noStream     int64 = -1
	anyRevision  int64 = -2
	streamExists int64 = -4
)

// record is one event of the log.
type record struct {
	stream   string
	revision uint64
	position uint64
	created  time.Time
	proposed *streams.AppendReq_ProposedMessage
}

// content is the log and the streams in it.
type content struct {
	mu      sync.Mutex
	log     []*record
	end     uint64 // position of the next record
	streams map[string][]*record
	changed chan struct{} // closed and made anew with each append
	skew    time.Duration
}

// newContent has what a new server writes for itself.
func newContent() *content {
	c := &content{streams: map[string][]*record{}, changed: make(chan struct{})}
	system := func(stream, eventType, data string) {
		c.append(stream, anyRevision, []*streams.AppendReq_ProposedMessage{{
			Id:       &shared.UUID{Value: &shared.UUID_String_{String_: "00000000-0000-0000-0000-00000000000" + strconv.Itoa(len(c.log)+1)}},
			Metadata: map[string]string{"type": eventType, "content-type": "application/json"}, Data: []byte(data),
		}})
	}
	system("$epoch-information", "$epoch-information", "{}")
	system("$settings", "$settings", "{}")
	system("$stats-127.0.0.1:2113", "$statsCollected", "{}")
	system("links", "$>", "0@$settings")
	return c
}

// outcome is what became of an append.
type outcome struct {
	accepted bool
	current  int64 // revision of the stream's end: after the append, or as it was found
	position uint64
}

// append verifies the expectation and writes.
func (c *content) append(stream string, expected int64, proposed []*streams.AppendReq_ProposedMessage) outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.streams[stream]
	end := int64(len(events)) - 1
	switch {
	case expected == anyRevision, expected == streamExists && end >= 0, expected == end:
	case expected >= noStream && expected < end && len(proposed) > 0:
		// Behind the end: the same events again are accepted again.
		for i, p := range proposed {
			at := expected + 1 + int64(i)
			if at > end || !sameID(events[at].proposed.GetId(), p.GetId()) {
				return outcome{current: end}
			}
		}
		last := events[expected+int64(len(proposed))]
		return outcome{accepted: true, current: int64(last.revision), position: last.position} //nolint:gosec // a small number
	default:
		return outcome{current: end}
	}
	now := time.Now().Add(c.skew)
	out := outcome{accepted: true, current: end}
	for _, p := range proposed {
		out.current++
		r := &record{stream: stream, revision: uint64(out.current), position: c.end, created: now, proposed: p} //nolint:gosec // not negative now
		c.log = append(c.log, r)
		c.streams[stream] = append(c.streams[stream], r)
		c.end += uint64(120 + 2*len(stream) + len(p.GetData()) + len(p.GetCustomMetadata())) // a record has its size
		out.position = r.position
	}
	c.end += 40 // other records stand between
	close(c.changed)
	c.changed = make(chan struct{})
	return out
}

func sameID(a, b *shared.UUID) bool {
	if a.GetStructured() != nil && b.GetStructured() != nil {
		return a.GetStructured().GetMostSignificantBits() == b.GetStructured().GetMostSignificantBits() &&
			a.GetStructured().GetLeastSignificantBits() == b.GetStructured().GetLeastSignificantBits()
	}
	return a.GetString_() == b.GetString_() && a.GetString_() != ""
}

// visible are a stream's events as its metadata lets them be seen; found is false for a stream without events.
func (c *content) visible(stream string) (events []*record, found bool) {
	events = c.streams[stream]
	if len(events) == 0 {
		return nil, false
	}
	var limits struct {
		MaxCount       *int    `json:"$maxCount"`
		TruncateBefore *uint64 `json:"$tb"`
	}
	if meta := c.streams["$$"+stream]; len(meta) > 0 {
		_ = json.Unmarshal(meta[len(meta)-1].proposed.GetData(), &limits) // the real one ignores what it cannot read
	}
	if limits.MaxCount != nil && *limits.MaxCount < len(events) {
		events = events[len(events)-*limits.MaxCount:]
	}
	for limits.TruncateBefore != nil && len(events) > 0 && events[0].revision < *limits.TruncateBefore {
		events = events[1:]
	}
	return events, len(events) > 0
}

// stream reads count events from a revision on.
func (c *content) stream(name string, from uint64, forward bool, count uint64) (out []*record, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	events, found := c.visible(name)
	n := uint64(len(events))
	if !found || forward && from > events[n-1].revision || !forward && from < events[0].revision {
		return nil, found
	}
	if forward {
		first := max(from, events[0].revision) - events[0].revision
		return events[first:min(n, first+min(count, n))], true
	}
	last := min(from, events[n-1].revision) - events[0].revision
	for i := uint64(0); i < count && i <= last; i++ {
		out = append(out, events[last-i])
	}
	return out, found
}

// all reads count events of the log. Forward, from is where to begin, that record included; backward, the records in
// front of it. valid is false for a position between two records.
func (c *content) all(from uint64, forward bool, count uint64) (out []*record, valid bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := sort.Search(len(c.log), func(i int) bool { return c.log[i].position >= from })
	if from < math.MaxInt64 && (at < len(c.log) && c.log[at].position != from || at == 0 && len(c.log) > 0 && from != c.log[0].position) {
		return nil, false
	}
	for uint64(len(out)) < count {
		if !forward {
			at--
		}
		if at < 0 || at >= len(c.log) {
			break
		}
		out = append(out, c.log[at])
		if forward {
			at++
		}
	}
	return out, true
}

// after gives what follows a position, and what is closed when there is more.
func (c *content) after(from int64) ([]*record, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := sort.Search(len(c.log), func(i int) bool { return int64(c.log[i].position) > from }) //nolint:gosec // a test's log is small
	return c.log[at:len(c.log):len(c.log)], c.changed
}

func (c *content) endPosition() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.log[len(c.log)-1].position) //nolint:gosec // a test's log is small
}

// Streams lists the streams whose names begin so, with how many events each has had.
func (s *Server) Streams(prefix string) map[string]int {
	s.content.mu.Lock()
	defer s.content.mu.Unlock()
	out := map[string]int{}
	for name, events := range s.content.streams {
		if strings.HasPrefix(name, prefix) {
			out[name] = len(events)
		}
	}
	return out
}
