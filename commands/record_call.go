package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/eventstore"
)

// RecordCall notes an admin's, analyst's or operator's call in their stream. Who cannot have the call recorded must not
// act: nil alone means that it is on disk. A call that failed here may be recorded all the same.
//
// There is nothing to decide, so it is no way of [Execute]: no state is read, the revision does not matter, and each call
// is a command of its own, also one that is repeated.
func RecordCall(ctx context.Context, store eventstore.Store, by domain.Actor, operation, about string) error {
	a, err := noteOf(ctx, by, "record_call", admin.Called{Operation: operation, About: about})
	if err == nil {
		err = appendNote(ctx, store, a)
	}
	if err != nil {
		return fmt.Errorf("record %s of %s: %w", operation, by.Subject(), err)
	}
	return nil
}

// noteOf is the append of one event to somebody's stream of calls.
func noteOf(ctx context.Context, by domain.Actor, command string, e domain.Event) (a eventstore.Append, err error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return a, fmt.Errorf("name a command: %w", err)
	}
	data, err := eventstore.Catalog().Encode(e)
	if err != nil {
		return a, err
	}
	metadata, err := json.Marshal(eventstore.Metadata{
		CommandID: id, Command: command, Actor: by, CorrelationID: id.String(), CausationID: id.String(), Traceparent: traceparent(ctx),
	})
	if err != nil {
		return a, fmt.Errorf("encode metadata: %w", err)
	}
	stream := eventstore.AdminStream(by)
	return eventstore.Append{
		Stream: stream, Key: by.Subject(), Expected: eventstore.AnyRevision, Metadata: metadata,
		Command: eventstore.Command{ID: id, Actor: by.Subject()},
		Events:  []eventstore.NewEvent{{ID: eventstore.EventID(id, stream, 0), Type: e.EventType(), Data: data}},
	}, nil
}

// appendNote does it. After an error it may be there all the same: the same append, once more, settles that.
func appendNote(ctx context.Context, store eventstore.Store, a eventstore.Append) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	try := func() error {
		a.DecidedAt = eventstore.Micros(time.Now()) // nothing was decided that could be too old
		_, err := store.Append(ctx, a)
		return err
	}
	err := try()
	if errors.Is(err, eventstore.ErrOutcomeUnknown) && ctx.Err() == nil {
		err = try()
	}
	var duplicate *eventstore.DuplicateError
	switch {
	case errors.As(err, &duplicate): // a try before had it
		return nil
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		// Of the note alone: what was asked for has not begun, and the caller may simply ask again.
		return fmt.Errorf("%w: %v", eventstore.ErrUnavailable, err) //nolint:errorlint // it must not be taken for a write's
	}
	return err
}
