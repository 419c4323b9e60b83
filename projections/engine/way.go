package engine

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Way is when one event passed each stage on its way to the rows. A time is zero where nothing tells it: what was
// filled from the store was never fetched.
type Way struct {
	Recorded  time.Time // by the store's clock
	Logged    time.Time // when the relay gave it to Kafka, by its clock, in milliseconds
	Fetched   time.Time // when this process had it
	Began     time.Time // when its batch began
	Committed time.Time // when its rows could be read
}

// Stages name what Took measures, in the order of the way.
var Stages = [...]string{"relay", "kafka", "engine", "target"}

// Took is how long each of the [Stages] took: from the store to the log, from there to this process, until its batch
// began, and the batch. A stage of which an end is not known took nothing; so does one that clocks contradict.
func (w Way) Took() (took [len(Stages)]time.Duration) {
	at := [...]time.Time{w.Recorded, w.Logged, w.Fetched, w.Began, w.Committed}
	for i := range took {
		if !at[i].IsZero() && !at[i+1].IsZero() {
			took[i] = max(0, at[i+1].Sub(at[i]))
		}
	}
	return took
}

// wayOf is the way so far of the first event among records: the one that has waited longest.
func wayOf(records []*kgo.Record, fetched time.Time) Way {
	w := Way{Fetched: fetched, Began: time.Now()}
	for _, r := range records {
		if header(r, "marker") != nil {
			continue
		}
		w.Logged, w.Recorded = r.Timestamp, ceTime(r)
		break
	}
	return w
}

func ceTime(r *kgo.Record) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, string(header(r, "ce_time"))) // what cannot be read is no news here
	return at
}

// RecordedAt is when a record's event was recorded, by the store's clock; of a marker, when it was written.
func RecordedAt(r *kgo.Record) time.Time {
	if at := ceTime(r); !at.IsZero() {
		return at
	}
	return r.Timestamp
}

// arrivals is when records came, by the offset of the first of each fetch.
type arrivals []arrival

type arrival struct {
	offset int64
	at     time.Time
}

// of tells when an offset came, and forgets those before it.
func (a *arrivals) of(offset int64) time.Time {
	for len(*a) > 1 && (*a)[1].offset <= offset {
		*a = (*a)[1:]
	}
	if len(*a) == 0 || (*a)[0].offset > offset {
		return time.Time{}
	}
	return (*a)[0].at
}
