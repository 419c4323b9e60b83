package seal_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// long is a history of n commands with an event each, about 700 bytes, in n/20 streams.
func long(n int) eventstore.Loaded {
	at := time.UnixMicro(1_700_000_000_000_000).UTC()
	data := fmt.Appendf(nil, `{"text":"%0300d"}`, 1)
	event := func(i int) eventstore.Recorded {
		streams := max(1, n/20)
		stream, id := fmt.Sprintf("groomer-%d", i%streams), uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))
		metadata, _ := json.Marshal(eventstore.Metadata{CommandID: id, Command: "post_message", Actor: domain.Actor{ID: "kim", Role: "customer"}, CorrelationID: id.String(), CausationID: id.String()})
		r := eventstore.Recorded{
			Position: uint64(i + 1), Stream: stream, Revision: eventstore.Revision(i / streams), ID: eventstore.EventID(id, stream, 0), Type: "test.v1", Key: stream, //nolint:gosec // not negative
			RecordedAt: at.Add(time.Duration(i) * time.Microsecond), Metadata: metadata, Data: data,
		}
		r.Hash = eventstore.ContentHash(r)
		return r
	}
	return eventstore.Loaded{
		Events: func(yield func(eventstore.Recorded, error) bool) {
			for i := range n {
				if !yield(event(i), nil) {
					return
				}
			}
		},
		Commands: func(yield func(eventstore.Accepted, error) bool) {
			for i := range n {
				r := event(i)
				id, _ := uuid.Parse(string(r.Metadata[15:51]))
				c := eventstore.Accepted{RecordedAt: r.RecordedAt, Command: eventstore.Command{
					ID: id, RequestHash: r.Hash[:], Actor: "customer:kim", Stream: r.Stream, LastRevision: r.Revision, Position: r.Position,
				}}
				if !yield(c, nil) {
					return
				}
			}
		},
		Seals: func(func(eventstore.Seal, error) bool) {},
	}
}

// What a verification and the sealing before it take, of events with a command each, beside what only reading them takes, and
// only hashing what is in memory.
func BenchmarkVerify(b *testing.B) {
	const events = 200_000
	for name, make := range map[string]func(testing.TB) database{"sqlite": newSQLite, "postgres": newPostgres} {
		b.Run(name, func(b *testing.B) {
			k := key(b)
			s := make(b).open(b)
			defer s.Close()
			if err := s.(eventstore.Loader).Load(b.Context(), long(events)); err != nil {
				b.Fatal(err)
			}
			known, err := seal.Known(k.Public)
			if err != nil {
				b.Fatal(err)
			}
			rate := func(what string, work func() error) {
				began := time.Now()
				if err := work(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(events/time.Since(began).Seconds(), what+"/s")
			}
			unsealed := func() error {
				r, err := seal.Verify(b.Context(), s, seal.Options{Dense: true})
				if err == nil && (r.Finding != nil || r.Unsealed != events) {
					err = fmt.Errorf("%+v", r)
				}
				return err
			}
			for b.Loop() {
				var some []eventstore.Recorded
				rate("read", func() error {
					for r, err := range s.ReadAll(b.Context(), 0, eventstore.Filter{}) {
						if err != nil {
							return err
						}
						some = append(some, r)
					}
					return nil
				})
				rate("hashed", func() error {
					for _, r := range some {
						if eventstore.ContentHash(r) != r.Hash {
							return eventstore.ErrDamaged
						}
					}
					return nil
				})
				some = nil
				rate("unsealed", unsealed)
				rate("sealing", func() error {
					_, err := (&seal.Sealer{Store: s, Key: k, Dense: true}).Seal(b.Context())
					return err
				})
				rate("verified", func() error {
					r, err := seal.Verify(b.Context(), s, seal.Options{Dense: true, Known: known})
					if err == nil && (r.Finding != nil || r.Sealed != events || r.Commands != events) {
						err = fmt.Errorf("%+v", r)
					}
					return err
				})
			}
		})
	}
}
