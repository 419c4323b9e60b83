package export_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// What an export takes, its verification and its import, of events of 700 bytes with a command each, beside what only reading
// the events takes.
func BenchmarkExport(b *testing.B) {
	const events = 100_000
	for name, fresh := range kinds {
		b.Run(name, func(b *testing.B) {
			s := fresh(b)
			if err := s.Load(b.Context(), synthetic(events)); err != nil {
				b.Fatal(err)
			}
			rate := func(what string, work func() error) {
				began := time.Now()
				if err := work(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(events/time.Since(began).Seconds(), what+"/s")
			}
			for b.Loop() {
				path := filepath.Join(b.TempDir(), "history.jsonl")
				rate("read", func() error {
					for _, err := range s.ReadAll(b.Context(), 0, eventstore.Filter{}) {
						if err != nil {
							return err
						}
					}
					return nil
				})
				rate("exported", func() error {
					_, err := export.Write(b.Context(), s, order(path))
					return err
				})
				columns := order(filepath.Join(b.TempDir(), "history"))
				columns.Format = export.Parquet
				rate("exported-parquet", func() error {
					_, err := export.Write(b.Context(), s, columns)
					return err
				})
				opened := func(work func(f *export.File) error) func() error {
					return func() error {
						f, err := export.Open(path)
						if err != nil {
							return err
						}
						defer f.Close()
						return work(f)
					}
				}
				rate("verified", opened(func(f *export.File) error {
					r, err := f.Verify(b.Context(), f.Options())
					if err == nil && (r.Finding != nil || r.Events != events) {
						err = fmt.Errorf("%+v", r)
					}
					return err
				}))
				into := fresh(b)
				rate("imported", opened(func(f *export.File) error { return export.Import(b.Context(), f, into, nil) }))
			}
		})
	}
}

// synthetic is a history of n commands with an event each.
func synthetic(n int) eventstore.Loaded {
	of := func(i int) (r eventstore.Recorded, id uuid.UUID) {
		stream := fmt.Sprintf("groomer-%d", i%1000)
		id = uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))
		metadata, _ := json.Marshal(eventstore.Metadata{CommandID: id, Command: "post_message", Actor: domain.Actor{ID: "kim", Role: "customer"}, CorrelationID: id.String(), CausationID: id.String()})
		r = eventstore.Recorded{
			Position: uint64(i + 1), Stream: stream, Revision: eventstore.Revision(i / 1000), ID: eventstore.EventID(id, stream, 0), Type: "test.v1", Key: stream, //nolint:gosec // not negative
			RecordedAt: time.UnixMicro(int64(i)).UTC(), Metadata: metadata, Data: fmt.Appendf(nil, `{"text":"%0300d"}`, i),
		}
		r.Hash = eventstore.ContentHash(r)
		return r, id
	}
	return oneEach(n, of)
}
