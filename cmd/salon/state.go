package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/audit"
)

type stateCmd struct {
	Of string `arg:"" help:"A stream (groomer-kim, chat-ROOM, chatread-ROOM-customer, inbox-customer-ana, admin-admin-lee), or rows: PROJECTION/KEY, where KEY is an ordering key (reservations/kim) or a primary key (reservations/RESERVATION_ID, stats/kim/2026-11-24). reservations@1 is another version than the one that serves."`
	At string `help:"RFC 3339 time: as of the last event recorded by then. Or a number: of a stream its revision, of rows the store's position. Or position:N. Without it: now." placeholder:"MOMENT"`

	Limit int `help:"How many rows at most." default:"100"`

	whichPast `embed:""`
}

func (c *stateCmd) Help() string {
	return "The past is folded from the event store by the functions that decide and project, so it needs no read models.\n" +
		"Each call is recorded in the stream admin-system-cli.ACCOUNT.\n\n" +
		"  salon state groomer-kim                                     the book of a groomer, now\n" +
		"  salon state groomer-kim --at 41                             at revision 41 of its stream\n" +
		"  salon state reservations/kim --at 2026-11-24T14:03:00+09:00 what the list said then\n\n" +
		"Exit codes: 0 answered, 1 there is no such thing (stream.unknown, row.unknown, projection.unknown, moment.unknown,\n" +
		"moment.future) or the store is away, 2 the call was wrong."
}

type diffCmd struct {
	Of   string `arg:"" help:"As for salon state: a stream, or PROJECTION/KEY."`
	From string `help:"A moment, as --at of salon state." required:"" placeholder:"MOMENT"`
	To   string `help:"A moment, not before --from. Without it: now." placeholder:"MOMENT"`

	Limit int `help:"How many changes at most." default:"100"`

	whichPast `embed:""`
}

func (c *diffCmd) Help() string {
	return "Each field that is different, what it was and is, and the last event that changed it, with its command and who gave it.\n" +
		"What changed and changed back is not different.\n\n" +
		"  salon diff groomer-kim --from 40 --to 41\n" +
		"  salon diff reservations/RESERVATION_ID --from 2026-11-24T00:00:00+09:00"
}

// rowsOrStream tells whether rows are asked for: only they have a slash behind a name without a dash. A stream's name
// begins with its category and a dash.
func rowsOrStream(of string) (projection, key string, rows bool) {
	projection, key, rows = strings.Cut(of, "/")
	return projection, key, rows && !strings.Contains(projection, "-")
}

func checkLimit(limit, most int) error {
	if limit < 1 || limit > most {
		return usage(fmt.Errorf("--limit: %d is not within 1 to %d", limit, most))
	}
	return nil
}

func (c *stateCmd) Run(ctx context.Context, t *terminal) error {
	if err := checkLimit(c.Limit, audit.MostRows); err != nil {
		return err
	}
	return c.ask(ctx, func(p pastAsked) error {
		if projection, key, rows := rowsOrStream(c.Of); rows {
			got, err := p.Rows(ctx, projection, key, c.At, c.Limit)
			if err != nil || c.Output == "json" {
				return jsonOr(t, got, err)
			}
			return printRows(t.out, got)
		}
		got, err := p.State(ctx, c.Of, c.At)
		if err != nil || c.Output == "json" {
			return jsonOr(t, got, err)
		}
		return printState(t.out, got)
	})
}

func (c *diffCmd) Run(ctx context.Context, t *terminal) error {
	if err := checkLimit(c.Limit, audit.MostChanges); err != nil {
		return err
	}
	if c.From == "" {
		return usage(errors.New("--from is empty"))
	}
	return c.ask(ctx, func(p pastAsked) (err error) {
		var got audit.Diff
		if projection, key, rows := rowsOrStream(c.Of); rows {
			got, err = p.RowsDiff(ctx, projection, key, c.From, c.To, c.Limit)
		} else {
			got, err = p.Diff(ctx, c.Of, c.From, c.To, c.Limit)
		}
		if err != nil || c.Output == "json" {
			return jsonOr(t, got, err)
		}
		return printDiff(t.out, got)
	})
}

func jsonOr(t *terminal, v any, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(t.out, v)
}

func printState(out io.Writer, s audit.State) error {
	fmt.Fprintf(out, "%s at revision %d, %s\n", s.Stream, s.Revision, placeText(s.At))
	if s.Last != nil {
		fmt.Fprintln(out, "last:", because(*s.Last))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIELD\tVALUE")
	printFields(w, "", s.State)
	return errors.Join(w.Flush(), printLeftOut(out, s.Unopened, s.Stopped))
}

func printRows(out io.Writer, r audit.Rows) error {
	fmt.Fprintf(out, "%d rows of %s@%d, key %s, %s\n", r.Total, r.Projection, r.Version, r.Key, placeText(r.At))
	for _, row := range r.Rows {
		fmt.Fprintf(out, "\n%s, %s\n", row.Table, because(row.Last))
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		printFields(w, "", row.Row)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if r.Total > len(r.Rows) {
		fmt.Fprintf(out, "\n%d more: --limit, or name one by its primary key\n", r.Total-len(r.Rows))
	}
	return printLeftOut(out, r.Unopened, r.Stopped)
}

func printDiff(out io.Writer, d audit.Diff) error {
	fmt.Fprintf(out, "%s: %d fields differ from %s to %s\n", d.Of, d.Total, placeText(d.From), placeText(d.To))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(d.Changes) > 0 {
		fmt.Fprintln(w, "FIELD\tBEFORE\tAFTER\tCOMMAND\tBY\tAT\tEVENT")
	}
	for _, c := range d.Changes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s:%s\t%s\t%s at %d\n", c.Field, side(c.Before), side(c.After), c.Command.Name, c.Actor.Role, c.Actor.ID,
			c.At.Format(time.RFC3339), c.Event.Type, c.Event.Position)
	}
	err := w.Flush()
	if d.Total > len(d.Changes) {
		fmt.Fprintf(out, "%d more: --limit, or moments closer to each other\n", d.Total-len(d.Changes))
	}
	return errors.Join(err, printLeftOut(out, audit.Unopened{}, d.Stopped))
}

func placeText(at audit.At) string {
	if at.Time == nil {
		return "before the first event"
	}
	return fmt.Sprintf("position %d (%s)", at.Position, at.Time.Format(time.RFC3339Nano))
}

func because(c audit.Cause) string {
	return fmt.Sprintf("%s at position %d, by %s:%s with %s at %s", c.Event.Type, c.Event.Position, c.Actor.Role, c.Actor.ID, c.Command.Name, c.At.Format(time.RFC3339))
}

func side(v *any) string {
	if v == nil {
		return "(none)"
	}
	return jsonLine(*v)
}

// jsonLine is a value as JSON.
func jsonLine(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}

// printFields prints an object's fields, those of objects within it by their path.
func printFields(w io.Writer, at string, o map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		path := strings.TrimPrefix(at+"/"+name, "/")
		if within, ok := o[name].(map[string]any); ok && len(within) > 0 {
			printFields(w, path, within)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\n", path, jsonLine(o[name]))
	}
}

// printLeftOut says what an answer does not show.
func printLeftOut(out io.Writer, u audit.Unopened, stopped *audit.Stopped) error {
	if len(u.Erased) > 0 {
		fmt.Fprintln(out, "erased by their person:", strings.Join(u.Erased, " "))
	}
	if len(u.Sealed) > 0 {
		fmt.Fprintln(out, "sealed (give --master-key-file), or damaged:", strings.Join(u.Sealed, " "))
	}
	if stopped != nil {
		_, err := fmt.Fprintf(out, "NOT COMPLETE: the fold stops before %s at position %d: %s\n", stopped.Event.Type, stopped.Event.Position, stopped.Why)
		return err
	}
	return nil
}
