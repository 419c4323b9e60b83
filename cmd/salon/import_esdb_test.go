package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
)

// An import into EventStoreDB that is killed leaves a store that nothing but an import opens. The same call goes on, however
// often it is killed, and then all is there, once.
func TestAKilledImportIntoEventStoreDBGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "history.jsonl")
	exportOf(t, filepath.Join(dir, "old.db"), file, 300)
	server := esdbtest.New(t)
	for _, at := range []struct {
		stream string
		write  int64
	}{{"salon-import", 1}, {"command-", 5}, {"groomer-", 1}, {"groomer-", 60}, {"groomer-", 120}, {"salon-import", 1}} {
		var seen atomic.Int64
		reached := make(chan struct{})
		server.Intercept(func(ctx context.Context, s esdbtest.Step) error {
			if s.Done == (at.stream != "salon-import") && strings.HasPrefix(s.Stream, at.stream) && seen.Add(1) == at.write {
				close(reached)
				<-ctx.Done() // it hears of nothing more
				return ctx.Err()
			}
			return nil
		})
		p := harness.Start(t, nil, "events", "import", file, "--events", server.URL())
		select {
		case <-reached:
		case <-t.Context().Done():
			t.Fatal("the import did not come so far")
		}
		p.Kill()
		server.Intercept(nil)
		if len(server.Streams("salon-import")) > 0 {
			call(t, "events", "verify", "--events", server.URL()).refused(t, 1, "was not finished")
		}
	}
	well(t, "events", "import", file, "--events", server.URL())
	call(t, "events", "import", file, "--events", server.URL()).refused(t, 2, "not empty")
	if out := well(t, "events", "verify", "--events", server.URL()); !strings.Contains(out, "everything is as it was stored") {
		t.Error(out)
	}
	n := 0
	for name, events := range server.Streams("groomer-") {
		if n += events; events != 30 {
			t.Errorf("%s has %d events", name, events)
		}
	}
	if n != 300 {
		t.Errorf("%d events", n)
	}
}

// exportOf exports a history of n commands with an event each.
func exportOf(t *testing.T, path, file string, n int) {
	t.Helper()
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	of := func(i int) (eventstore.Recorded, eventstore.Accepted) {
		stream, id := fmt.Sprintf("groomer-%d", i%10), uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))
		r := eventstore.Recorded{
			Position: uint64(i + 1), Stream: stream, Revision: eventstore.Revision(i / 10), ID: eventstore.EventID(id, stream, 0), //nolint:gosec // not negative
			Type: "test.v1", Key: stream, RecordedAt: time.UnixMicro(int64(i)).UTC(), Metadata: fmt.Appendf(nil, `{"command_id":%q}`, id), Data: []byte("{}"),
		}
		r.Hash = eventstore.ContentHash(r)
		c := eventstore.Command{ID: id, RequestHash: r.Hash[:], Actor: "customer:kim", Stream: stream, LastRevision: r.Revision, Position: r.Position}
		return r, eventstore.Accepted{Command: c, RecordedAt: r.RecordedAt}
	}
	from := eventstore.Loaded{
		Events: func(yield func(eventstore.Recorded, error) bool) {
			for i := range n {
				if r, _ := of(i); !yield(r, nil) {
					return
				}
			}
		},
		Commands: func(yield func(eventstore.Accepted, error) bool) {
			for i := range n {
				if _, c := of(i); !yield(c, nil) {
					return
				}
			}
		},
		Seals: func(func(eventstore.Seal, error) bool) {},
	}
	if err := s.Load(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	if _, err := export.Write(t.Context(), s, export.Order{Path: file, Kind: "sqlite", Dense: true}); err != nil {
		t.Fatal(err)
	}
}
