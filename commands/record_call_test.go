package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// answers loses the answers of the next appends, of which the first may have been done.
type answers struct {
	eventstore.Store
	lost    int
	written bool
	away    bool // it refuses whatever comes after what was lost
}

func (l *answers) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	switch {
	case l.lost == 0 && l.away:
		return eventstore.Appended{}, eventstore.ErrUnavailable
	case l.lost == 0:
		return l.Store.Append(ctx, a)
	}
	l.lost--
	if l.written {
		if _, err := l.Store.Append(ctx, a); err != nil {
			return eventstore.Appended{}, err
		}
	}
	return eventstore.Appended{}, eventstore.ErrOutcomeUnknown
}

func TestACallIsRecordedOnce(t *testing.T) {
	t.Parallel()
	ops := domain.Actor{ID: "ops", Role: domain.Analyst}
	onEachStore(t, func(t *testing.T, open func() eventstore.Store) {
		s := open()
		for i, c := range []struct {
			name     string
			lost     int
			written  bool
			recorded bool
		}{
			{name: "an append that is answered", recorded: true},
			{name: "an answer that is lost, the event is there", lost: 1, written: true, recorded: true},
			{name: "an answer that is lost, the event is not there", lost: 1, recorded: true},
			{name: "a store that answers no more", lost: 2},
		} {
			err := RecordCall(t.Context(), &answers{Store: s, lost: c.lost, written: c.written}, ops, "retry-parked", fmt.Sprint(i))
			if (err == nil) != c.recorded || err != nil && (!errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown)) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		var got []string
		for r, err := range s.ReadStream(t.Context(), "admin-analyst-ops", 0) {
			if err != nil {
				t.Fatal(err)
			}
			var m eventstore.Metadata
			if err := json.Unmarshal(r.Metadata, &m); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(r.Type, " ", r.Key, " ", m.Actor.Subject(), " ", m.Command, " ", string(r.Data)))
		}
		var want []string
		for i := range 3 {
			want = append(want, fmt.Sprintf(`admin.called.v1 analyst:ops analyst:ops record_call {"operation":"retry-parked","about":"%d"}`, i))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}
