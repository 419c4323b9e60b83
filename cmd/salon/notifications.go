package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/reactors/notify"
)

type notificationsCmd struct {
	Parked notificationsParkedCmd `cmd:"" help:"Notifications that the webhook did not take, the oldest first."`
	Retry  notificationsRetryCmd  `cmd:"" help:"Have parked notifications sent again, by whichever reactor sends."`
}

type notificationsParkedCmd struct {
	Limit int `help:"How many at most." default:"100"`

	whichSystem `embed:""`
}

type notificationsRetryCmd struct {
	Cause string `help:"Those that are parked for this cause, as parked shows it. Without it, all."`

	whichSystem `embed:""`
}

func (c *notificationsParkedCmd) Run(ctx context.Context, t *terminal) error {
	if c.Limit < 1 {
		return usage(fmt.Errorf("--limit: %d is not above 0", c.Limit))
	}
	waiting := []notify.Parked{}
	err := c.ask(ctx, needs{}, func(ctx context.Context, o operations) error {
		some, err := o.ParkedNotifications(ctx, c.Limit)
		waiting = append(waiting, some...)
		return err
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, waiting)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EVENT\tTYPE\tRECEIVER\tSINCE\tATTEMPTS\tAGAIN\tCAUSE")
	for _, p := range waiting {
		again := "when asked"
		if p.RetryAt != nil {
			again = p.RetryAt.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", p.EventID, p.EventType, p.Receiver, p.ParkedAt.Format(time.RFC3339), p.Attempts, again, p.Cause)
	}
	return w.Flush()
}

func (c *notificationsRetryCmd) Run(ctx context.Context, t *terminal) error {
	n := 0
	err := c.ask(ctx, needs{}, func(ctx context.Context, o operations) (err error) {
		n, err = o.RetryNotifications(ctx, c.Cause)
		return err
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, admin.Asked{Asked: n})
	}
	_, err = fmt.Fprintf(t.out, "%d notifications are sent again; salon notifications parked shows what is left.\n", n)
	return err
}
