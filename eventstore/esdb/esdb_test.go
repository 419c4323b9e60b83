package esdb_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	client "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
)

func TestAnAppendAtAKnownRevisionIsTwoCallsAndNoRead(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL()})
	last := appended(t, s, request("stream", "x")).LastRevision
	writes, reads := server.Calls("Append"), server.Calls("Read")
	for range 10 {
		a := request("stream", "x", "y", "z")
		a.Expected = last
		last = appended(t, s, a).LastRevision
	}
	if w, r := server.Calls("Append")-writes, server.Calls("Read")-reads; w != 20 || r != 0 {
		t.Errorf("ten appends took %d writes and %d reads", w, r)
	}
}

func TestAProcessWhoseClockIsOffAppendsNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ahead, age time.Duration // of the server's clock; of the decision
		refused    bool
	}{
		{0, 0, false}, {3 * time.Second, 0, false}, {-3 * time.Second, 0, false},
		{6 * time.Second, 0, true}, {-6 * time.Second, 0, true}, {time.Hour, 0, true},
		{3 * time.Second, 3 * time.Second, true},   // six seconds old by the server's clock
		{-4 * time.Second, 6 * time.Second, false}, // two
		{8 * time.Second, -8 * time.Second, true},  // young by the server's clock: the time it would be recorded with is not
	} {
		server := esdbtest.New(t)
		server.Skew(c.ahead)
		s := openAt(t, esdb.Config{URL: server.URL()})
		a := request("stream", "x")
		a.DecidedAt = time.Now().Add(-c.age)
		done, err := s.Append(t.Context(), a)
		switch {
		case c.refused:
			wants(t, err, eventstore.ErrDecisionTooOld)
			holds(t, s)
		case err != nil:
			t.Errorf("%+v: %v", c, err)
		case time.Since(done.RecordedAt).Abs() > time.Second:
			t.Errorf("%+v: recorded at %v", c, done.RecordedAt)
		}
	}
}

func TestACommandThatWasAcceptedIsKnownWhileTheClockIsOff(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL()})
	a := request("stream", "x")
	appended(t, s, a)
	server.Skew(time.Hour)
	duplicate(t, openAt(t, s.config), a, 0)
}

func TestStreamsOfTheServerAndOfOurOwnAreNotForEvents(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL()})
	a := request("stream", "x")
	appended(t, s, a)
	if err := s.SaveSnapshot(t.Context(), eventstore.Snapshot{Stream: "stream", State: []byte("s")}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.AddPersonKey(t.Context(), "kim", "k1", []byte("k")); err != nil {
		t.Fatal(err)
	}
	holds(t, s, "x")
	for _, stream := range []string{"$all", "$settings", "$$stream", "command-" + a.Command.ID.String(), "snapshot-0-stream", "personkey-kim", "salon-store", "salon-x"} {
		_, err := s.Append(t.Context(), request(stream, "x"))
		wants(t, err, eventstore.ErrInvalid)
		if err := s.SaveSnapshot(t.Context(), eventstore.Snapshot{Stream: stream}); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("a snapshot of %s: %v", stream, err)
		}
		for r, err := range s.ReadStream(t.Context(), stream, 0) {
			t.Errorf("%s shows %+v, %v", stream, r, err)
		}
		for r, err := range s.ReadStreamBack(t.Context(), stream, eventstore.LastRevision) {
			t.Errorf("%s shows %+v, %v", stream, r, err)
		}
	}
}

func TestNamespacesOfOneServerDoNotMeet(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	one := openAt(t, esdb.Config{URL: server.URL(), Namespace: "one-"})
	two := openAt(t, esdb.Config{URL: server.URL(), Namespace: "two-"})
	a := request("stream", "x")
	appended(t, one, a)
	holds(t, two)
	appended(t, two, fill(a, "y"))
	holds(t, one, "x")
	holds(t, two, "y")
	first, err := one.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := two.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.Incarnation == second.Incarnation || first.Position == second.Position {
		t.Errorf("heads %+v and %+v", first, second)
	}
}

// foreign writes with the client itself.
func foreign(t *testing.T, server *esdbtest.Server, stream string) {
	t.Helper()
	config, err := client.ParseConnectionString(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = client.NoopLogging()
	c, err := client.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e := client.EventData{EventID: uuid.New(), EventType: "t", Data: []byte("x"), Metadata: []byte("\x01not an envelope")}
	if _, err := c.AppendToStream(t.Context(), stream, client.AppendToStreamOptions{}, e); err != nil {
		t.Fatal(err)
	}
}

func TestAnEventOfAnotherProgramStopsWhoeverReadsIt(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL()})
	appended(t, s, request("stream", "x"))
	foreign(t, server, "stream")
	reads := map[string]func(ctx context.Context) error{
		"all": func(ctx context.Context) (last error) {
			for _, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
				last = err
			}
			return last
		},
		"stream": func(ctx context.Context) (last error) {
			for _, err := range s.ReadStream(ctx, "stream", 0) {
				last = err
			}
			return last
		},
		"head":   func(ctx context.Context) error { _, err := s.Head(ctx); return err },
		"append": func(ctx context.Context) error { _, err := s.Append(ctx, request("stream", "y")); return err },
	}
	for what, read := range reads {
		if err := read(t.Context()); !errors.Is(err, eventstore.ErrDamaged) || !strings.Contains(err.Error(), "stream@1") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	server.Version("21.10.9")
	for url, want := range map[string]string{
		server.URL():                                   "22.6 is the oldest",
		"esdb://kim:secret@127.0.0.1:x":                "not a valid esdb:// URL",
		"http://kim:secret@127.0.0.1:2113":             "not a valid esdb:// URL",
		"esdb://kim:secret@127.0.0.1:2113?tsl=false":   `no setting "tsl"`,
		"esdb://kim:secret@127.0.0.1:2113/a?tls=false": "not a valid esdb:// URL",
	} {
		_, err := esdb.Open(t.Context(), esdb.Config{URL: url})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("want an error that says %q, got: %v", want, err)
		}
		if errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%v: nobody is to try that again", err)
		}
	}
}

func TestALargeSnapshotIsSeveralEvents(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL()})
	save := func(revision eventstore.Revision, size int) eventstore.Snapshot {
		t.Helper()
		state := make([]byte, size)
		for i := range state {
			state[i] = byte(i * (int(revision) + 7))
		}
		out := eventstore.Snapshot{Stream: "stream", FoldVersion: 1, Revision: revision, State: state}
		out.Hash = out.Sum()
		if err := s.SaveSnapshot(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for i, size := range []int{10, eventstore.MaxSnapshotBytes, 768 << 10, 768<<10 + 1, eventstore.MaxSnapshotBytes, 0} {
		want := save(eventstore.Revision(i), size)
		got, found, err := s.Snapshot(t.Context(), "stream", 1)
		if err != nil || !found || got.Sum() != want.Hash || got.Hash != want.Hash || got.Revision != want.Revision {
			t.Fatalf("a snapshot of %d bytes: %t, %v", size, found, err)
		}
	}
	// One that was not finished leaves the last whole one.
	server.Intercept(on("snapshot-", false, 3, drop))
	broken := eventstore.Snapshot{Stream: "stream", FoldVersion: 1, Revision: 99, State: make([]byte, eventstore.MaxSnapshotBytes)}
	wants(t, s.SaveSnapshot(t.Context(), broken), eventstore.ErrUnavailable)
	if got, found, err := s.Snapshot(t.Context(), "stream", 1); err != nil || found && got.Sum() != got.Hash {
		t.Errorf("after a broken one: %t, %v", found, err)
	} else if !found || got.Revision != 5 {
		t.Errorf("after a broken one: revision %d, %t", got.Revision, found)
	}
}
