package esdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// Streams of our own, besides the events'. Nobody else may append to them, and no reader meets them.
const (
	claimStream    = "command-"
	snapshotStream = "snapshot-"
	keyStream      = "personkey-"
	ownStream      = "salon-"
	lifeStream     = ownStream + "store"
	clockStream    = ownStream + "clock"
)

// Types of the events in them.
const (
	claimType    = "salon.claim.v1"
	snapshotType = "salon.snapshot.v1"
	keyType      = "salon.personkey.v1"
	erasedType   = "salon.personerased.v1"
	lifeType     = "salon.store.v1"
	clockType    = "salon.clock.v1"
)

// reserved reports whether a stream's name is not for events: $ is EventStoreDB's, the others are ours.
func reserved(stream string) bool {
	for _, prefix := range []string{"$", claimStream, snapshotStream, keyStream, ownStream} {
		if strings.HasPrefix(stream, prefix) {
			return true
		}
	}
	return false
}

// envelope is what stands in an event's metadata: what EventStoreDB has no field for, then our metadata as they are.
//
//	version 1 | event ID 16 | recorded_at, microseconds, 8 | content hash 32 | events of the append 2 | key 2+n |
//	request hash 1+n | actor 2+n | metadata
//
// Numbers are big-endian. Request hash and actor are of the command's first event alone; it tells for the others. Version 2 has
// the event's position in the store that it was loaded from, 8, in front of the metadata.
type envelope struct {
	id          uuid.UUID
	at          time.Time
	hash        [32]byte
	events      int
	key         string
	requestHash []byte
	actor       string
	origin      uint64 // 0: it was appended here
	metadata    []byte
}

const (
	envelopeVersion = 1
	loadedVersion   = 2
)

func (e envelope) encode() []byte {
	b := make([]byte, 0, 72+len(e.key)+len(e.requestHash)+len(e.actor)+len(e.metadata))
	version := byte(envelopeVersion)
	if e.origin > 0 {
		version = loadedVersion
	}
	b = append(b, version)
	b = append(b, e.id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.at.UnixMicro())) //nolint:gosec // its bits are what is meant
	b = append(b, e.hash[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(e.events))   //nolint:gosec // at most MaxAppendEvents
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.key))) //nolint:gosec // at most MaxNameBytes
	b = append(b, e.key...)
	b = append(b, byte(len(e.requestHash))) //nolint:gosec // at most 64
	b = append(b, e.requestHash...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.actor))) //nolint:gosec // at most MaxNameBytes
	b = append(b, e.actor...)
	if e.origin > 0 {
		b = binary.BigEndian.AppendUint64(b, e.origin)
	}
	return append(b, e.metadata...)
}

// damageError says that the server is not, or does not hold, what this store can work with. Trying again is no use.
type damageError struct {
	what string
	kind error
}

func (e *damageError) Error() string { return e.what }

func (e *damageError) Unwrap() error { return e.kind }

func damage(format string, args ...any) error {
	return &damageError{fmt.Sprintf(format, args...), eventstore.ErrDamaged}
}

var errForeign = errors.New("the event was not written by this store")

// decode reads any bytes.
func decode(b []byte) (e envelope, err error) {
	short := false
	take := func(n int) []byte {
		if n > len(b) {
			short, b = true, nil
			return make([]byte, n)
		}
		out := b[:n:n]
		b = b[n:]
		return out
	}
	version := take(1)[0]
	if version != envelopeVersion && version != loadedVersion {
		return e, errForeign
	}
	e.id = uuid.UUID(take(16))
	e.at = time.UnixMicro(int64(binary.BigEndian.Uint64(take(8)))).UTC() //nolint:gosec // its bits are what is meant
	e.hash = [32]byte(take(32))
	e.events = int(binary.BigEndian.Uint16(take(2)))
	e.key = string(take(int(binary.BigEndian.Uint16(take(2)))))
	e.requestHash = take(int(take(1)[0]))
	e.actor = string(take(int(binary.BigEndian.Uint16(take(2)))))
	if version == loadedVersion {
		e.origin = binary.BigEndian.Uint64(take(8))
		short = short || e.origin == 0
	}
	e.metadata = b
	if short {
		return envelope{}, errForeign
	}
	return e, nil
}

// stored is an event of ours with its envelope.
type stored struct {
	eventstore.Recorded
	envelope
}

// ours reports whether a reader of all events is to meet it.
func (s *Store) ours(e *esdb.RecordedEvent) (stream string, ok bool) {
	stream, ok = strings.CutPrefix(e.StreamID, s.namespace)
	return stream, ok && !reserved(stream) && !strings.HasPrefix(e.StreamID, "$") && !strings.HasPrefix(e.EventType, "$")
}

// read turns an event of the server into ours.
func (s *Store) read(e *esdb.RecordedEvent) (stored, error) {
	stream, _ := s.ours(e)
	env, err := decode(e.UserMetadata)
	if err != nil {
		return stored{}, damage("%s@%d: %v", stream, e.EventNumber, err)
	}
	if e.Position.Commit > 1<<62 {
		return stored{}, damage("%s@%d: the server tells no position: EventStoreDB 22.6 is the oldest that does", stream, e.EventNumber)
	}
	r := eventstore.Recorded{
		Position: e.Position.Commit, Stream: stream, Revision: eventstore.Revision(e.EventNumber), //nolint:gosec // the server counts from 0
		ID: env.id, Type: e.EventType, Key: env.key, RecordedAt: env.at, Metadata: env.metadata, Data: e.Data, Hash: env.hash,
	}
	if env.origin != r.Position {
		r.Origin = env.origin
	}
	return stored{r, env}, nil
}

// proposed are an append's events as the server gets them, behind the revision.
func proposed(a eventstore.Append, behind eventstore.Revision, at time.Time) (out []esdb.EventData, size int) {
	for i, e := range a.Events {
		r := eventstore.Recorded{
			Stream: a.Stream, Revision: behind + 1 + eventstore.Revision(i), ID: e.ID, Type: e.Type, Key: a.Key, RecordedAt: at,
			Metadata: a.Metadata, Data: e.Data,
		}
		env := envelope{id: e.ID, at: at, hash: eventstore.ContentHash(r), events: len(a.Events), key: a.Key, metadata: a.Metadata}
		if i == 0 {
			env.requestHash, env.actor = a.Command.RequestHash, a.Command.Actor
		}
		d := esdb.EventData{
			EventID: uuid.NewSHA1(e.ID, env.hash[:]), EventType: e.Type, ContentType: esdb.ContentTypeBinary, Data: e.Data, Metadata: env.encode(),
		}
		out = append(out, d)
		size += 2*len(d.EventType) + len(d.Data) + len(d.Metadata)
	}
	return out, size
}
