package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

type projectionsPreviewCmd struct {
	oneVersion `embed:""`

	From     string `help:"First event of the range: a position, or a time (2026-11-24T14:03:00+09:00). Defaults to the store's first." placeholder:"POSITION|TIME"`
	To       string `help:"Last event of the range. Keys with events in the range are folded from their beginning through it. Defaults to the store's last." placeholder:"POSITION|TIME"`
	Against  int    `help:"The version to hold it against. Defaults to the one that serves; without --reads it must be given. With --from-file: to the newest of the others."`
	Sample   int    `help:"So many of the keys, drawn at random; without it, all." placeholder:"N"`
	Seed     uint32 `help:"With --sample: draw the keys that a preview drew which printed this seed."`
	Examples int    `help:"How many rows that differ are shown." default:"20"`

	FromFile     string `help:"An export of events (salon events export), whole or a slice: no server is asked. Keys that a slice has cut off are told, and not compared." type:"path" placeholder:"FILE"`
	FailOnChange bool   `help:"Exit 1 also when all that differs is declared by the projection."`
}

func (c *projectionsPreviewCmd) Run(ctx context.Context, t *terminal) error {
	q := rebuild.PreviewRequest{
		Projection: c.Name, From: c.From, To: c.To, Against: c.Against, Sample: c.Sample, Seed: c.Seed, Examples: c.Examples,
	}
	ask := c.preview
	if c.FromFile != "" {
		ask = c.fromFile
	}
	out, err := ask(ctx, q)
	if errors.Is(err, rebuild.ErrUnknown) || errors.As(err, new(notThere)) || errors.As(err, new(*rebuild.OptionError)) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	if c.Output == "json" {
		err = writeJSON(t.out, out)
	} else {
		err = printPreview(t.out, out)
	}
	if out.Unexpected > 0 {
		err = errors.Join(err, fmt.Errorf("%d differences are not expected", out.Unexpected))
	} else if c.FailOnChange && out.Changes() {
		err = errors.Join(err, errors.New("rows differ, as the projection declares: --fail-on-change"))
	}
	if out.Folded > 0 && out.Cut == out.Folded {
		err = errors.Join(err, errors.New("every key begins before the slice: nothing was compared"))
	}
	return err
}

// fromFile folds an export, which is held to its hashes before. Nobody is noted: the file is at hand.
func (c *projectionsPreviewCmd) fromFile(ctx context.Context, q rebuild.PreviewRequest) (*rebuild.Previewed, error) {
	f, err := export.Open(c.FromFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Manifest.Masked != nil {
		return nil, usage(fmt.Errorf("%s is masked, and what was taken out of its events cannot be folded: export without --mask", c.FromFile))
	}
	r, err := f.Verify(ctx, f.Options())
	if err != nil {
		return nil, err
	}
	if r.Finding != nil {
		return nil, fmt.Errorf("%s is not what was exported: %w", c.FromFile, r.Finding)
	}
	desk := &rebuild.Desk{Of: allProjections()}
	if q.Against == 0 {
		q.Against = desk.Other(q.Projection)
	}
	q.Slice = !f.Manifest.Whole
	return desk.Preview(ctx, q, f, true, codec())
}

// preview asks the process that owns the data folder or, when servers are named, folds here.
func (c *projectionsPreviewCmd) preview(ctx context.Context, q rebuild.PreviewRequest) (out *rebuild.Previewed, err error) {
	if err := c.ReadFiles(); err != nil {
		return nil, usage(err)
	}
	if c.Events == "" && c.Reads == "" {
		return socketDesk{socketClient(socketPath(c.Data)), socketPath(c.Data)}.Preview(ctx, q)
	}
	err = withServers(ctx, c.Servers, needs{noReads: q.Against != 0}, func(n *node) error {
		out, err = n.preview(ctx, q, machineUser())
		return err
	})
	return out, err
}

// preview folds the event store, once the call is recorded.
func (n *node) preview(ctx context.Context, q rebuild.PreviewRequest, account string) (*rebuild.Previewed, error) {
	if err := (serverDesk{record: n.recordFor(commandLine(account))}).note(ctx, "preview-projection", q.Projection); err != nil {
		return nil, err
	}
	return n.versions().Preview(ctx, q, n.store, withoutSchema(n.servers.Events), codec())
}

func (d socketDesk) Preview(ctx context.Context, q rebuild.PreviewRequest) (*rebuild.Previewed, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	out := new(rebuild.Previewed)
	return out, d.call(ctx, http.MethodGet, "/preview", url.Values{"request": {string(b)}}, out)
}

// printPreview tells what a preview found. What comes of events is quoted: it may be a person's text.
func printPreview(out io.Writer, p *rebuild.Previewed) error {
	if p.Keys == 0 {
		_, err := fmt.Fprintf(out, "No event of %s is in the range.\n", p.Projection)
		return err
	}
	fmt.Fprintf(out, "%s@%d held against version %d: events %d to %d; %d of the %d keys that have some folded through the last of them", p.Projection, p.Version, p.Against, p.From, p.To, p.Folded, p.Keys)
	if p.Seed != 0 {
		fmt.Fprintf(out, " (--sample %d --seed %d)", p.Folded, p.Seed)
	}
	fmt.Fprint(out, ".\n")
	if p.Cut > 0 {
		fmt.Fprintf(out, "%d keys are not compared: the slice has them not from their beginning on (%q%s).\n", p.Cut, p.CutKeys, map[bool]string{true: " and more"}[p.Cut > len(p.CutKeys)])
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TABLE\tCOLUMN\tROWS\tADDED\tREMOVED\tCHANGED\tEXPECTED")
	for _, t := range p.Tables {
		fmt.Fprintf(w, "%s\t\t%d\t%d\t%d\t%d\t%s\n", t.Table, t.Rows, t.Added, t.Removed, t.Changed, t.Expected)
		for _, c := range t.Columns {
			fmt.Fprintf(w, "\t%s\t\t\t\t%d\t%s\n", c.Column, c.Rows, c.Expected)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(p.Examples)+len(p.Failed) > 0 {
		fmt.Fprintln(out)
	}
	for _, x := range p.Examples {
		since, expected := "", ""
		if x.Event != nil {
			since = fmt.Sprintf(", since the %s at position %d (%s)", x.Event.Type, x.Event.Position, x.Event.ID)
		}
		if x.Expected {
			expected = ", as expected"
		}
		fmt.Fprintf(out, "%s %q (key %q) is %s%s%s\n", x.Table, x.Row, x.Key, x.Change, expected, since)
		for _, c := range x.Columns {
			fmt.Fprintf(out, "  %s: %q, before %q\n", c.Column, c.After, c.Before)
		}
	}
	for _, f := range p.Failed {
		fmt.Fprintf(out, "key %q is not compared: version %d cannot fold the %s at position %d (%s): %s\n", f.Key, f.Version, f.Event.Type, f.Event.Position, f.Event.ID, f.Cause)
	}
	if p.Unexpected == 0 {
		_, err := fmt.Fprintln(out, "Nothing differs that should not.")
		return err
	}
	return nil
}
