package esdb

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

var _ eventstore.Persons = (*Store)(nil)

// A person's key is the last event of a stream: the key as it is wrapped now, or that it was erased. What is before the
// last one cannot be read any more, and leaves the disk with the server's next scavenge.

// personKey finds a person's key, and the revision that is expected of who changes it.
func (s *Store) personKey(ctx context.Context, subject string) (k eventstore.PersonKey, found bool, at esdb.ExpectedRevision, err error) {
	at = esdb.NoStream{}
	if len(subject) > eventstore.MaxNameBytes || !eventstore.IsText(subject) {
		return k, false, at, nil // nobody is called that
	}
	e, err := s.last(ctx, keyStream+subject)
	if err != nil {
		return k, false, at, s.unavailable(ctx, "find a person's key", err)
	}
	if e == nil {
		return k, false, at, nil
	}
	return eventstore.PersonKey{Subject: subject, KeyID: string(e.UserMetadata), Wrapped: e.Data}, e.EventType == keyType, esdb.Revision(e.EventNumber), nil
}

// PersonKey implements eventstore.Store.
func (s *Store) PersonKey(ctx context.Context, subject string) (keyID string, wrapped []byte, found bool, err error) {
	k, found, _, err := s.personKey(ctx, subject)
	if err != nil || !found {
		return "", nil, false, err
	}
	return k.KeyID, k.Wrapped, true, nil
}

// PersonKeyByID implements eventstore.Store.
func (s *Store) PersonKeyByID(ctx context.Context, subject, keyID string) (wrapped []byte, found bool, err error) {
	standing, wrapped, found, err := s.PersonKey(ctx, subject)
	if err != nil || !found || standing != keyID {
		return nil, false, err
	}
	return wrapped, true, nil
}

// AddPersonKey implements eventstore.Store.
func (s *Store) AddPersonKey(ctx context.Context, subject, keyID string, wrapped []byte) (standingID string, standing []byte, err error) {
	_, found, at, err := s.personKey(ctx, subject)
	if err == nil && !found {
		_, err = s.write(ctx, s.namespace+keyStream+subject, at, personKeyEvent(keyID, wrapped))
		if err != nil && !wrongVersion(err) {
			return "", nil, s.unavailable(ctx, "add a person's key", err)
		}
		err = nil
	}
	if err != nil {
		return "", nil, err
	}
	standingID, standing, found, err = s.PersonKey(ctx, subject)
	if err == nil && !found {
		err = errors.New("a person's key is gone right after it was added")
	}
	return standingID, standing, err
}

func personKeyEvent(keyID string, wrapped []byte) esdb.EventData {
	return esdb.EventData{EventID: uuid.New(), EventType: keyType, ContentType: esdb.ContentTypeBinary, Data: wrapped, Metadata: []byte(keyID)}
}

// ErasePerson implements eventstore.Persons. It is done when the key cannot be read any more, also where it was cut off in
// between: called again, it goes on.
func (s *Store) ErasePerson(ctx context.Context, subject string) error {
	for {
		_, found, at, err := s.personKey(ctx, subject)
		if err != nil {
			return err
		}
		stream := s.namespace + keyStream + subject
		if found {
			_, err = s.write(ctx, stream, at, esdb.EventData{EventID: uuid.New(), EventType: erasedType, ContentType: esdb.ContentTypeBinary})
			if wrongVersion(err) {
				continue // somebody has rewrapped it
			}
		}
		if _, none := at.(esdb.NoStream); err == nil && !none {
			err = s.keep(ctx, stream, 1)
		}
		if err != nil {
			return s.unavailable(ctx, "erase a person", err)
		}
		return nil
	}
}

// PersonKeys implements eventstore.Persons. The server's log is read for it.
func (s *Store) PersonKeys(ctx context.Context) iter.Seq2[eventstore.PersonKey, error] {
	var from esdb.AllPosition = esdb.Start{}
	seen := map[string]bool{} // a stream's first event tells of its person; later ones would tell again
	return eventstore.Paged(func() (page []eventstore.PersonKey, more bool, err error) {
		p, err := s.log(ctx, esdb.Forwards, from, pageSize)
		if err != nil {
			return nil, false, s.unavailable(ctx, "read persons' keys", err)
		}
		last := from
		for _, e := range p.events {
			from = esdb.Position{Commit: e.Position.Commit, Prepare: e.Position.Prepare}
			subject, ours := strings.CutPrefix(e.StreamID, s.namespace+keyStream)
			if !ours || seen[subject] {
				continue
			}
			seen[subject] = true
			k, found, _, err := s.personKey(ctx, subject)
			if err != nil {
				return nil, false, err
			}
			if found {
				page = append(page, k)
			}
		}
		return page, p.more && from != last, nil
	})
}

// RewrapPersonKey implements eventstore.Persons.
func (s *Store) RewrapPersonKey(ctx context.Context, was eventstore.PersonKey, wrapped []byte) (done bool, err error) {
	k, found, at, err := s.personKey(ctx, was.Subject)
	if err != nil || !found || k.KeyID != was.KeyID || !bytes.Equal(k.Wrapped, was.Wrapped) {
		return false, err
	}
	stream := s.namespace + keyStream + was.Subject
	_, err = s.write(ctx, stream, at, personKeyEvent(was.KeyID, wrapped))
	if wrongVersion(err) {
		return false, nil
	}
	if err == nil {
		err = s.keep(ctx, stream, 1)
	}
	if err != nil {
		return false, s.unavailable(ctx, "rewrap a person's key", err)
	}
	return true, nil
}
