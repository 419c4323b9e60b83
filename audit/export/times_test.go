package export_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
)

// twoClocks is a history as two nodes leave one on EventStoreDB whose clocks are seconds apart: within a stream time never goes
// back, between the two streams it does, all the time.
func twoClocks(n int) eventstore.Loaded {
	of := func(i int) (eventstore.Recorded, uuid.UUID) {
		stream, id := fmt.Sprintf("groomer-%d", i%2), uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))
		at := time.UnixMicro(int64(i) * 1_000_000).UTC()
		if i%2 == 1 {
			at = at.Add(4700 * time.Millisecond)
		}
		r := eventstore.Recorded{
			Position: uint64(i + 1), Stream: stream, Revision: eventstore.Revision(i / 2), ID: eventstore.EventID(id, stream, 0), Type: "test.v1", Key: stream, //nolint:gosec // not negative
			RecordedAt: at, Metadata: fmt.Appendf(nil, `{"command_id":%q}`, id), Data: []byte("{}"),
		}
		r.Hash = eventstore.ContentHash(r)
		return r, id
	}
	return oneEach(n, of)
}

// A history whose times go back between streams moves from EventStoreDB as it is: no time is changed, since the hashes cover
// them. A moment is still the last event recorded by then; nothing takes it for damage, here and after the next move; what is
// appended goes on behind the latest.
func TestTimesThatGoBackMove(t *testing.T) {
	t.Parallel()
	const n = 60
	server := esdbtest.New(t)
	a, k, dir := loadingAt(t, server), newKey(t), t.TempDir()
	if err := a.Load(t.Context(), twoClocks(n)); err != nil {
		t.Fatal(err)
	}
	if _, err := (&seal.Sealer{Store: a, Key: k, Most: 16}).Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := order(filepath.Join(dir, "esdb.jsonl"))
	o.Dense = false
	if _, err := export.Write(t.Context(), a, o); err != nil {
		t.Fatal(err)
	}
	want := onlyOrder(contentsOf(t, a))
	for kind, fresh := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := fresh(t)
			if err := imported(t, o.Path, b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, onlyOrder(contentsOf(t, b))); diff != "" {
				t.Errorf("contents (-exported +imported):\n%s", diff)
			}
			sound(t, b, k, true)
			line := b.(eventstore.Timeline)
			for moment := time.UnixMicro(-1_000_000); moment.Before(time.UnixMicro((n + 10) * 1_000_000)); moment = moment.Add(250 * time.Millisecond) {
				for _, through := range []uint64{n, n / 2, 1} {
					var last eventstore.Place
					for _, r := range want.Events[:through] {
						if !r.RecordedAt.After(moment) {
							last = eventstore.Place{Position: r.Position, At: r.RecordedAt}
						}
					}
					if got, err := line.LastPlace(t.Context(), through, moment); err != nil || got != last {
						t.Fatalf("the place of %v in the first %d: %+v, %v, want %+v", moment, through, got, err, last)
					}
				}
			}

			end := want.Events[n-1]
			id := uuid.New()
			done, err := b.Append(t.Context(), eventstore.Append{
				Stream: end.Stream, Key: end.Stream, Expected: end.Revision, Metadata: []byte("{}"), DecidedAt: time.Now(), Command: eventstore.Command{ID: id},
				Events: []eventstore.NewEvent{{ID: eventstore.EventID(id, end.Stream, 0), Type: "new.v1", Data: []byte("{}")}},
			})
			if err != nil || done.Position != n+1 {
				t.Fatalf("the next append: %+v, %v", done, err)
			}
			if _, err := (&seal.Sealer{Store: b, Key: k, Dense: true}).Seal(t.Context()); err != nil {
				t.Error(err)
			}
			second, c := order(filepath.Join(dir, kind+".jsonl")), newSQLite(t)
			exported(t, b, second)
			if r := verified(t, second.Path, k); r.Finding != nil || r.Unsealed != 0 {
				t.Errorf("the second export: %+v, %v", r, r.Finding)
			}
			if err := imported(t, second.Path, c); err != nil {
				t.Fatal(err)
			}
			sound(t, c, k, true)
		})
	}
}
