package esdb

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// begin finds the store's incarnation, or makes it: the first of several processes does.
func (s *Store) begin(ctx context.Context) (string, error) {
	for {
		e, err := s.last(ctx, lifeStream)
		if err != nil {
			return "", s.unavailable(ctx, "open", err)
		}
		if e != nil {
			return string(e.Data), nil
		}
		_, err = s.write(ctx, s.namespace+lifeStream, esdb.NoStream{}, esdb.EventData{
			EventID: uuid.New(), EventType: lifeType, ContentType: esdb.ContentTypeBinary, Data: []byte(uuid.NewString()),
		})
		if err != nil && !wrongVersion(err) {
			return "", s.unavailable(ctx, "open", err)
		}
	}
}

// snapshotPart is how much of a snapshot one event carries: an append of two would be more than a server takes.
const snapshotPart = 768 << 10

// part is what an event of a snapshot's stream says of itself. A snapshot larger than an event is several, which tell by
// set that they belong together; two writers' may be mixed.
type part struct {
	Set      uuid.UUID           `json:"set"`
	Number   int                 `json:"number"`
	Of       int                 `json:"of"`
	Revision eventstore.Revision `json:"revision"`
	Hash     []byte              `json:"hash"`
}

func (s *Store) snapshots(stream string, foldVersion int) string {
	return s.namespace + snapshotStream + strconv.Itoa(foldVersion) + "-" + stream
}

// Snapshot implements eventstore.Store: the last one of which all parts are there.
func (s *Store) Snapshot(ctx context.Context, stream string, foldVersion int) (eventstore.Snapshot, bool, error) {
	out := eventstore.Snapshot{Stream: stream, FoldVersion: foldVersion}
	if !readable(stream) {
		return out, false, nil
	}
	sets := map[uuid.UUID]map[int][]byte{}
	var from esdb.StreamPosition = esdb.End{}
	for count := uint64(1); ; count = 8 {
		p, err := s.events(ctx, s.snapshots(stream, foldVersion), esdb.Backwards, from, count)
		if err != nil {
			return out, false, s.unavailable(ctx, "find a snapshot", err)
		}
		for _, e := range p.events {
			var m part
			if err := json.Unmarshal(e.UserMetadata, &m); err != nil || len(m.Hash) != len(out.Hash) {
				return out, false, nil //nolint:nilerr // a snapshot that cannot be read is none: nobody needs one
			}
			if sets[m.Set] == nil {
				sets[m.Set] = map[int][]byte{}
			}
			sets[m.Set][m.Number] = e.Data
			if len(sets[m.Set]) < m.Of {
				continue
			}
			var state bytes.Buffer
			for n := range m.Of {
				state.Write(sets[m.Set][n])
			}
			out.Revision, out.State, out.Hash = m.Revision, state.Bytes(), [32]byte(m.Hash)
			return out, true, nil
		}
		if !p.more || len(p.events) == 0 || p.events[len(p.events)-1].EventNumber == 0 {
			return out, false, nil
		}
		from = esdb.Revision(p.events[len(p.events)-1].EventNumber - 1)
	}
}

// SaveSnapshot implements eventstore.Store. The server is told to keep the parts of two.
func (s *Store) SaveSnapshot(ctx context.Context, snapshot eventstore.Snapshot) error {
	if err := snapshot.Validate(); err != nil {
		return err
	}
	if reserved(snapshot.Stream) {
		return fmt.Errorf("%w: stream %q is not for events", eventstore.ErrInvalid, snapshot.Stream)
	}
	stream, rest := s.snapshots(snapshot.Stream, snapshot.FoldVersion), snapshot.State
	m := part{Set: uuid.New(), Of: max(1, (len(rest)+snapshotPart-1)/snapshotPart), Revision: snapshot.Revision, Hash: snapshot.Hash[:]}
	for ; m.Number < m.Of; m.Number++ {
		metadata, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("save a snapshot: %w", err)
		}
		data := rest[:min(len(rest), snapshotPart)]
		rest = rest[len(data):]
		done, err := s.write(ctx, stream, esdb.Any{}, esdb.EventData{
			EventID: uuid.New(), EventType: snapshotType, ContentType: esdb.ContentTypeBinary, Data: data, Metadata: metadata,
		})
		if err == nil && m.Number == 0 && (m.Of > 1 || done.NextExpectedVersion == 0) {
			err = s.keep(ctx, stream, uint64(2*m.Of)) //nolint:gosec // a small number
		}
		if err != nil {
			return s.unavailable(ctx, "save a snapshot", err)
		}
	}
	return nil
}
