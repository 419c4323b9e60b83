package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/audit"
)

// eventsCmd are the verbs on the history.
type eventsCmd struct {
	List   eventsListCmd   `cmd:"" help:"Events of the store, oldest first: by stream, ordering key, type, actor, command, correlation and time."`
	Show   eventsShowCmd   `cmd:"" help:"One event, as it is stored."`
	Tree   eventsTreeCmd   `cmd:"" help:"What a command came of, and what came of it."`
	Seal   eventsSealCmd   `cmd:"" help:"Seal every event that is there now: Merkle roots, chained and signed."`
	Verify eventsVerifyCmd `cmd:"" help:"Hold a store or an export to its hashes and seals; name the first event changed, missing, added or moved."`
	Prove  eventsProveCmd  `cmd:"" help:"Write a small file that proves that an event stands in the sealed history, or check one."`
	Export eventsExportCmd `cmd:"" help:"Write the history, or a part of it, to files that prove themselves."`
	Import eventsImportCmd `cmd:"" help:"Fill an empty store with an exported history."`
}

type eventsListCmd struct {
	Stream      string `help:"groomer-kim, chat-ROOM …"`
	Key         string `help:"Ordering key: the groomer, the room, the person (customer:ana)."`
	Type        string `help:"As stored: reservation.cancelled.v1."`
	Actor       string `help:"Who gave the command: customer:ana." placeholder:"ROLE:SUB"`
	Correlation string `help:"The X-Correlation-Id that a caller gave, or the ID of the first command."`
	Command     string `help:"ID of a command."`
	From        string `help:"RFC 3339 time, date (of Asia/Seoul), or position:N." placeholder:"WHEN"`
	To          string `help:"RFC 3339 time, date, or position:N; it counts." placeholder:"WHEN"`
	Limit       int    `help:"How many at most, up to 100." default:"20"`
	Cursor      string `help:"Where the page before ended, as it said."`

	whichPast `embed:""`
}

func (c *eventsListCmd) Help() string {
	return "Several conditions must all hold. The streams admin-…, of who looked and did, are left out unless asked for by --stream,\n" +
		"--type or --command.\n\n" +
		"  salon events list --stream groomer-kim\n" +
		"  salon events list --actor customer:ana --type reservation.rescheduled.v1 --from 2026-11-24\n\n" +
		"A page looks at a bounded number of events: one that finds few may say that there is more, and with which --cursor."
}

type eventsShowCmd struct {
	Event string `arg:"" help:"Its position or its ID."`

	whichPast `embed:""`
}

type eventsTreeCmd struct {
	Command string `arg:"" help:"ID of the command: events list and show tell it."`
	Format  string `help:"text, json or dot (for Graphviz)." default:"text" enum:"text,json,dot"`

	whichPast `embed:""`
}

func (c *eventsListCmd) Run(ctx context.Context, t *terminal) error {
	if err := checkLimit(c.Limit, audit.MostEvents); err != nil {
		return err
	}
	return c.ask(ctx, func(p pastAsked) error {
		page, err := p.Events(ctx, audit.Query{
			Stream: c.Stream, Key: c.Key, Type: c.Type, Actor: c.Actor, Correlation: c.Correlation, Command: c.Command,
			From: c.From, To: c.To, Limit: c.Limit, Cursor: c.Cursor,
		})
		if err != nil || c.Output == "json" {
			return jsonOr(t, page, err)
		}
		return printEvents(t.out, page)
	})
}

func (c *eventsShowCmd) Run(ctx context.Context, t *terminal) error {
	return c.ask(ctx, func(p pastAsked) error {
		e, err := p.Event(ctx, c.Event)
		return jsonOr(t, e, err) // a table would hide what it is about
	})
}

func (c *eventsTreeCmd) Run(ctx context.Context, t *terminal) error {
	return c.ask(ctx, func(p pastAsked) error {
		tree, err := p.Tree(ctx, c.Command)
		switch {
		case err != nil:
			return err
		case c.Format == "json" || c.Output == "json":
			return writeJSON(t.out, tree)
		case c.Format == "dot":
			return printDOT(t.out, tree)
		}
		return printTree(t.out, tree)
	})
}

// metadataOf reads what lists show of an event's metadata; what cannot be read is empty.
func metadataOf(e audit.StoredEvent) (m struct {
	CommandID string `json:"command_id"`
	Command   string `json:"command"`
	Actor     struct {
		ID   string `json:"id"`
		Role string `json:"role"`
	} `json:"actor"`
}) {
	if b, err := json.Marshal(e.Metadata); err == nil {
		_ = json.Unmarshal(b, &m)
	}
	return m
}

func printEvents(out io.Writer, page audit.EventPage) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POSITION\tRECORDED\tSTREAM\tREVISION\tTYPE\tBY\tCOMMAND\tCOMMAND ID")
	for _, e := range page.Items {
		m := metadataOf(e)
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s:%s\t%s\t%s\n", e.Position, e.RecordedAt.Format(time.RFC3339Nano), e.Stream, e.Revision, e.Type,
			m.Actor.Role, m.Actor.ID, m.Command, m.CommandID)
	}
	err := w.Flush()
	if page.NextCursor != nil {
		fmt.Fprintf(out, "looked through position %d; more with --cursor %s\n", page.LookedThrough, *page.NextCursor)
	}
	return err
}

// printTree prints what is above from the top, then what is below, further in by each step.
func printTree(out io.Writer, t audit.Tree) error {
	indent := ""
	if t.CauseNotFound != "" {
		fmt.Fprintf(out, "caused by event %s, which was not found\n", t.CauseNotFound)
	}
	for i := len(t.CausedBy) - 1; i >= 0; i-- {
		c := t.CausedBy[i]
		fmt.Fprintf(out, "%s%s  %s  by %s:%s at %s\n", indent, c.Command.Name, c.Command.ID, c.Actor.Role, c.Actor.ID, c.At.Format(time.RFC3339Nano))
		fmt.Fprintf(out, "%s  %s at position %d\n", indent, c.Event.Type, c.Event.Position)
		indent += "    "
	}
	printCaused(out, indent, "→ ", t.Caused)
	if t.More {
		_, err := fmt.Fprintf(out, "there may be more: effects were looked for through position %d\n", t.LookedThrough)
		return err
	}
	return nil
}

// printCaused marks the command that was asked about.
func printCaused(out io.Writer, indent, mark string, c audit.Caused) {
	when := ""
	if !c.Command.At.IsZero() {
		when = " at " + c.Command.At.Format(time.RFC3339Nano)
	}
	fmt.Fprintf(out, "%s%s%s  %s  by %s:%s%s\n", indent, mark, c.Command.Name, c.Command.ID, c.Command.Actor.Role, c.Command.Actor.ID, when)
	if len(c.Events) == 0 {
		fmt.Fprintf(out, "%s  (accepted, and changed nothing)\n", indent)
	}
	for _, e := range c.Events {
		fmt.Fprintf(out, "%s  %s at position %d, revision %d of %s\n", indent, e.Type, e.Position, e.Revision, e.Stream)
		for _, caused := range e.Commands {
			printCaused(out, indent+"    ", "", caused)
		}
	}
}

// dot writes a graph for Graphviz: boxes are commands, ovals their events.
type dot struct {
	out io.Writer
	err error
}

func (d *dot) line(format string, args ...any) {
	_, err := fmt.Fprintf(d.out, format+"\n", args...)
	d.err = errors.Join(d.err, err)
}

// quoted is a string of the DOT language.
func quoted(lines ...string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ").Replace(strings.Join(lines, "\x00")) + `"`
}

func (d *dot) node(id, shape string, lines ...string) {
	d.line("  %s [shape=%s, label=%s];", quoted(id), shape, strings.ReplaceAll(quoted(lines...), "\x00", `\n`))
}

func (d *dot) edge(from, to string) { d.line("  %s -> %s;", quoted(from), quoted(to)) }

func printDOT(out io.Writer, t audit.Tree) error {
	d := &dot{out: out}
	d.line("digraph causes {")
	d.line("  rankdir=LR;")
	below := t.Command.ID.String()
	for _, c := range t.CausedBy {
		command, event := c.Command.ID.String(), c.Event.ID.String()
		d.node(command, "box", c.Command.Name, c.Actor.Role+":"+c.Actor.ID)
		d.node(event, "ellipse", c.Event.Type, fmt.Sprint("position ", c.Event.Position))
		d.edge(command, event)
		d.edge(event, below)
		below = command
	}
	d.caused(t.Caused)
	d.line("}")
	return d.err
}

func (d *dot) caused(c audit.Caused) {
	command := c.Command.ID.String()
	d.node(command, "box", c.Command.Name, c.Command.Actor.Role+":"+c.Command.Actor.ID)
	for _, e := range c.Events {
		event := e.ID.String()
		d.node(event, "ellipse", e.Type, fmt.Sprint("position ", e.Position))
		d.edge(command, event)
		for _, caused := range e.Commands {
			d.edge(event, caused.Command.ID.String())
			d.caused(caused)
		}
	}
}
