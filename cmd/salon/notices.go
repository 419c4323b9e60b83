package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/inbox"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/reactors/notify"
)

// inboxes tell the notification sender whom an event is for: what stands in the inboxes goes out.
type inboxes struct{ db *reads.DB }

// Notices implements notify.Directory.
func (i inboxes) Notices(ctx context.Context, e notify.Event) ([]notify.Notice, error) {
	rows, err := inbox.Told(ctx, i.db, inbox.Place{Topic: e.Topic, Key: e.Key, Revision: e.Revision, Position: e.Position})
	switch {
	case errors.Is(err, inbox.ErrBehind):
		return nil, fmt.Errorf("%w: %w", notify.ErrBehind, err)
	case errors.Is(err, inbox.ErrParked):
		return nil, fmt.Errorf("%w: %w", notify.ErrUnknown, err)
	case err != nil:
		return nil, err
	}
	out := make([]notify.Notice, len(rows))
	for n, r := range rows {
		role, sub, _ := strings.Cut(r.Receiver, ":")
		out[n] = notify.Notice{
			Receiver: domain.Actor{ID: sub, Role: domain.Role(role)}, Kind: r.Kind, ReservationID: r.ReservationID, Start: r.StartAt,
			Korean: r.Text(inbox.Korean), English: r.Text(inbox.English),
		}
		if r.Kind == inbox.Message {
			out[n].ReservationID, out[n].RoomID = "", r.ReservationID
		}
	}
	return out, nil
}

// endpoint is where a reactor sends notifications, nil when no webhook is named.
func endpoint(c config.Notify, reacts bool) (*notify.Endpoint, error) {
	switch {
	case c.NotifyWebhook == "" && c.NotifySecretFile == "":
		return nil, nil
	case c.NotifyWebhook == "":
		return nil, errors.New("--notify-secret-file is given without --notify-webhook")
	case !reacts:
		return nil, errors.New("--notify-webhook is for the reactor role, which is not among those given")
	}
	secret, err := c.Secret()
	if err != nil {
		return nil, err
	}
	e := &notify.Endpoint{URL: c.NotifyWebhook, Secret: secret}
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("--notify-webhook: %w", err)
	}
	return e, nil
}

// sender is the notification sender of this process.
func (n *node) sender() (*notify.Sender, error) {
	return notify.New(notify.Config{
		Brokers: n.servers.Brokers(), TopicPrefix: n.servers.Topics.TopicPrefix, Types: inbox.News(), Directory: inboxes{n.reads}, DB: n.reads.Writer(),
		Endpoint: *n.webhook, Log: n.tel.Log, Count: n.tel.Metrics.Notification,
	})
}
