package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

// oneVersion is what a verb about one version takes.
type oneVersion struct {
	Name string `arg:"" help:"The projection and, after an @, its version: reservations@2. Without one, the newest."`

	verb `embed:""`
}

// verb is what asking for a run takes besides.
type verb struct {
	whichSystem `embed:""`
}

type projectionsRebuildCmd struct {
	oneVersion `embed:""`

	Key     *string `help:"The rows of this ordering key alone, in a version that is live, also when the key is parked. Without a version, the one that serves."`
	Pace    string  `help:"How much it may take of what live projections and reads share with it: gentle (a quarter of the time), normal (until they feel it), full (all). Defaults to normal." enum:",gentle,normal,full" default:""`
	MaxRate int     `help:"Events a second at most; 0: no bound." placeholder:"N"`
	Detach  bool    `help:"Do not wait for the end."`
}

type projectionsVerifyCmd struct {
	oneVersion `embed:""`

	Against int    `help:"The version to compare with. Defaults to the one that serves."`
	Fresh   bool   `help:"Hold it to a fold of the event store instead: every row, while all goes on. Without a version, the one that serves."`
	Sample  int    `help:"With --fresh: so many keys, drawn at random."`
	Seed    uint32 `help:"With --sample: draw the keys that a run drew which printed this seed."`
	Detach  bool   `help:"Do not wait for the end."`
}

// forced is for what is refused otherwise.
type forced struct {
	Force  bool   `help:"Although the version was not verified, or lags."`
	Reason string `help:"Why it is forced; kept with the run."`
}

type projectionsSwitchCmd struct {
	oneVersion `embed:""`
	forced     `embed:""`

	AcceptParked bool `help:"Although keys are parked in it: their rows stand still until they are retried. Needs --reason."`
}

type projectionsRollbackCmd struct {
	Name string `arg:"" help:"The projection and, after an @, the version to go back to: reservations@1. Without one, the one that served before."`

	verb   `embed:""`
	forced `embed:""`
}

type projectionsDropCmd struct {
	Name string `arg:"" help:"The projection and, after an @, the version to drop: reservations@1."`

	verb `embed:""`

	Confirm string `help:"The version's name, reservations_v1. Without it, it is asked for."`
}

type projectionsPauseCmd struct {
	pausing `embed:""`

	Reason string `help:"Why; kept with the run."`
}

type projectionsResumeCmd struct {
	pausing `embed:""`
}

type pausing struct {
	Name string `arg:"" help:"The projection and, after an @, its version: reservations@2. Without one, the one that serves."`

	verb `embed:""`
}

type projectionsRunsCmd struct {
	Name string `arg:"" help:"The projection: reservations. With a version, reservations@2, its runs alone."`

	whichSystem `embed:""`
}

type projectionsCancelCmd struct {
	RunID string `arg:"" help:"As runs shows it."`

	whichSystem `embed:""`
}

func (c *projectionsRebuildCmd) Run(ctx context.Context, t *terminal) error {
	o := rebuild.Options{Pace: rebuild.Pace(c.Pace), MaxRate: c.MaxRate}
	if c.Key != nil {
		if o.Key = *c.Key; o.Key == "" {
			return usage(errors.New("--key is empty: leave it out to rebuild the whole version"))
		}
	}
	return c.do(ctx, t, rebuild.Request{Kind: rebuild.Rebuild, Projection: c.Name, Options: o}, !c.Detach)
}

func (c *projectionsVerifyCmd) Run(ctx context.Context, t *terminal) error {
	return c.do(ctx, t, rebuild.Request{Kind: rebuild.Verify, Projection: c.Name, Options: rebuild.Options{Against: c.Against, Fresh: c.Fresh, Sample: c.Sample, Seed: c.Seed}}, !c.Detach)
}

func (c *projectionsSwitchCmd) Run(ctx context.Context, t *terminal) error {
	return c.do(ctx, t, rebuild.Request{Kind: rebuild.Switch, Projection: c.Name, Options: rebuild.Options{Force: c.Force, AcceptParked: c.AcceptParked, Reason: c.Reason}}, true)
}

func (c *projectionsRollbackCmd) Run(ctx context.Context, t *terminal) error {
	return c.do(ctx, t, rebuild.Request{Kind: rebuild.Rollback, Projection: c.Name, Options: rebuild.Options{Force: c.Force, Reason: c.Reason}}, true)
}

func (c *projectionsDropCmd) Run(ctx context.Context, t *terminal) error {
	err := c.do(ctx, t, rebuild.Request{Kind: rebuild.Drop, Projection: c.Name, Options: rebuild.Options{Confirm: c.Confirm}}, true)
	var refused *rebuild.RefusedError
	if c.Confirm != "" || !errors.As(err, &refused) || refused.Code != rebuild.Unconfirmed {
		return err
	}
	fmt.Fprintf(t.err, "%s\n> ", refused.Why)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the name: %w", err)
	}
	return c.do(ctx, t, rebuild.Request{Kind: rebuild.Drop, Projection: c.Name, Options: rebuild.Options{Confirm: strings.TrimSpace(line)}}, true)
}

func (c *projectionsPauseCmd) Run(ctx context.Context, t *terminal) error {
	return c.do(ctx, t, rebuild.Request{Kind: rebuild.Pause, Projection: c.Name, Options: rebuild.Options{Reason: c.Reason}}, true)
}

func (c *projectionsResumeCmd) Run(ctx context.Context, t *terminal) error {
	return c.do(ctx, t, rebuild.Request{Kind: rebuild.Resume, Projection: c.Name}, true)
}

func (c *projectionsRunsCmd) Run(ctx context.Context, t *terminal) error {
	all := []rebuild.Run{}
	err := c.runs(ctx, func(ctx context.Context, d runsDesk) error {
		some, err := d.Runs(ctx, c.Name)
		all = append(all, some...)
		return err
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, all)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tKIND\tVERSION\tSTATE\tPHASE\tDONE\tROWS\tRATE\tASKED\tTOOK\tBY\tDETAIL")
	for _, r := range all {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%d/s\t%s\t%s\t%s\t%s\n", r.ID, r.Kind, r.Version, r.State, r.Phase, share(r), r.Rows, r.Rate,
			r.AskedAt.Format(time.RFC3339), took(r), r.AskedBy, firstOf(r.Detail, r.Reason))
	}
	return w.Flush()
}

// share is how much of its phase a run has done, "" where there is nothing to count: of how many rows are compared nobody
// knows before.
func share(r rebuild.Run) string {
	switch {
	case r.Total > 0:
		return fmt.Sprintf("%d of %d", r.Done, r.Total)
	case r.Done > 0:
		return strconv.FormatInt(r.Done, 10)
	}
	return ""
}

func took(r rebuild.Run) string {
	if !r.Ended() {
		return ""
	}
	return r.EndedAt.Sub(r.AskedAt).Round(time.Millisecond).String()
}

func firstOf(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

func (c *projectionsCancelCmd) Run(ctx context.Context, t *terminal) error {
	return c.runs(ctx, func(ctx context.Context, d runsDesk) error {
		r, err := d.Cancel(ctx, "", c.RunID)
		if err != nil {
			return err
		}
		if r, err = c.follow(ctx, t, d, r); err != nil {
			return err
		}
		if c.Output == "json" {
			return writeJSON(t.out, r)
		}
		if r.State != rebuild.Cancelled {
			return fmt.Errorf("the %s had ended by then: it is %s", r.Kind, r.State)
		}
		_, err = fmt.Fprintf(t.out, "The %s of %s@%d is cancelled; what it made is removed.\n", r.Kind, r.Projection, r.Version)
		return err
	})
}

// runsDesk takes what is asked of versions, each call recorded before it is done: admin.Desk, or the process that has it.
type runsDesk interface {
	Ask(ctx context.Context, q rebuild.Request) (rebuild.Run, error)
	Follow(ctx context.Context, id string) (rebuild.Run, error)
	Runs(ctx context.Context, name string) ([]rebuild.Run, error)
	Cancel(ctx context.Context, name, id string) (rebuild.Run, error)
}

// versions takes what is asked of versions in the reads database.
func (n *node) versions() *rebuild.Desk {
	d := &rebuild.Desk{DB: n.reads, Of: allProjections(), Views: engine.Views{DB: n.reads}}
	if n.redis != nil {
		d.Views.Redis = n.redis
	}
	return d
}

// endsOf tells rebuilds where the topics' partitions end in Kafka.
func (n *node) endsOf(ctx context.Context, topics []string) (map[rebuild.Partition]int64, error) {
	ends, err := n.ends(ctx, topics)
	out := make(map[rebuild.Partition]int64, len(ends))
	for at, offset := range ends {
		out[rebuild.Partition(at)] = offset
	}
	return out, err
}

// runs lets work ask the process that owns the data folder or, when servers are named, the reads database. The event store has
// to be named, too: who asked for what is recorded there, first.
func (c *whichSystem) runs(ctx context.Context, work func(context.Context, runsDesk) error) (err error) {
	if err := c.ReadFiles(); err != nil {
		return usage(err)
	}
	if c.Reads == "" {
		err = work(ctx, socketDesk{socketClient(socketPath(c.Data)), socketPath(c.Data)})
	} else { // a switch looks whether views are filled, where there is a Redis
		err = withServers(ctx, c.Servers, needs{redis: c.Redis != ""}, func(n *node) error { return work(ctx, n.deskOf(machineUser())) })
	}
	if errors.Is(err, rebuild.ErrUnknown) || errors.As(err, new(notThere)) || errors.As(err, new(*rebuild.OptionError)) {
		return usage(err)
	}
	return err
}

// notThere is what another process does not know.
type notThere string

func (e notThere) Error() string { return string(e) }

// do asks, and follows the run to its end.
func (c *verb) do(ctx context.Context, t *terminal, q rebuild.Request, follow bool) error {
	q.By = "cli"
	if u, err := user.Current(); err == nil {
		q.By += ":" + u.Username
	}
	return c.runs(ctx, func(ctx context.Context, d runsDesk) error {
		r, err := d.Ask(ctx, q)
		if err != nil {
			return err
		}
		if follow {
			if r, err = c.follow(ctx, t, d, r); err != nil {
				return err
			}
		}
		if c.Output == "json" {
			err = writeJSON(t.out, r)
		} else {
			err = printRun(t.out, r)
		}
		if r.State == rebuild.Failed || r.State == rebuild.Cancelled {
			err = errors.Join(err, fmt.Errorf("the %s was %s: %s", r.Kind, r.State, firstOf(r.Detail, "somebody cancelled it")))
		}
		if r.Report != nil && !r.Report.Equal() {
			err = errors.Join(err, errors.New(r.Detail))
		}
		return err
	})
}

func printRun(out io.Writer, r rebuild.Run) error {
	id := fmt.Sprintf("%s@%d", r.Projection, r.Version)
	var err error
	switch {
	case !r.Ended():
		_, err = fmt.Fprintf(out, "%s of %s is run %s; salon projections runs %s shows it.\n", r.Kind, id, r.ID, r.Projection)
	case r.State != rebuild.Done:
	case r.Kind == rebuild.Rebuild && r.Options.Key != "":
		_, err = fmt.Fprintf(out, "%s: the rows of %q are made again: %d events, %d rows in %s%s\n", id, r.Options.Key, r.Events, r.Rows, took(r), strings.TrimSuffix("; "+r.Detail, "; "))
	case r.Kind == rebuild.Rebuild:
		if r.Detail != "" {
			fmt.Fprintf(out, "%s.\n", r.Detail)
		}
		_, err = fmt.Fprintf(out, "%s is built and keeps up: %d events, %d rows in %s, %d events/s. Next: salon projections verify %s\n", id, r.Events, r.Rows, took(r), r.Rate, id)
	case r.Kind == rebuild.Verify:
		err = printReport(out, r)
	case r.Kind == rebuild.Drop:
		_, err = fmt.Fprintf(out, "%s is gone.\n", id)
	case r.Kind == rebuild.Pause:
		_, err = fmt.Fprintf(out, "%s stands still within half a second. On again: salon projections resume %s\n", id, id)
	case r.Kind == rebuild.Resume:
		_, err = fmt.Fprintf(out, "%s goes on.\n", id)
	default:
		if r.Detail != "" {
			fmt.Fprintf(out, "Mind: %s.\n", r.Detail)
		}
		_, err = fmt.Fprintf(out, "%s serves; before it was version %d, which stays until it is dropped.\n", id, r.Against)
	}
	return err
}

// runRoutes answer the verbs on versions for other processes.
func (n *node) runRoutes(mux *http.ServeMux, answer func(w http.ResponseWriter, body any, err error)) {
	mux.HandleFunc("POST /runs", func(w http.ResponseWriter, r *http.Request) {
		var q rebuild.Request
		if err := json.Unmarshal([]byte(r.URL.Query().Get("request")), &q); err != nil {
			answer(w, nil, err)
			return
		}
		run, err := n.deskOf(askedBy(r.URL.Query())).Ask(r.Context(), q)
		answer(w, run, err)
	})
	mux.HandleFunc("GET /runs", func(w http.ResponseWriter, r *http.Request) {
		all, err := n.deskOf(askedBy(r.URL.Query())).Runs(r.Context(), r.URL.Query().Get("name"))
		answer(w, all, err)
	})
	mux.HandleFunc("GET /run", func(w http.ResponseWriter, r *http.Request) {
		run, err := n.deskOf(askedBy(r.URL.Query())).Follow(r.Context(), r.URL.Query().Get("id"))
		answer(w, run, err)
	})
	mux.HandleFunc("POST /cancel", func(w http.ResponseWriter, r *http.Request) {
		run, err := n.deskOf(askedBy(r.URL.Query())).Cancel(r.Context(), "", r.URL.Query().Get("id"))
		answer(w, run, err)
	})
}

func (d socketDesk) Ask(ctx context.Context, q rebuild.Request) (run rebuild.Run, err error) {
	b, err := json.Marshal(q)
	if err != nil {
		return run, err
	}
	return run, d.call(ctx, http.MethodPost, "/runs", url.Values{"request": {string(b)}}, &run)
}

func (d socketDesk) Follow(ctx context.Context, id string) (run rebuild.Run, err error) {
	return run, d.call(ctx, http.MethodGet, "/run", url.Values{"id": {id}}, &run)
}

func (d socketDesk) Runs(ctx context.Context, name string) (all []rebuild.Run, err error) {
	return all, d.call(ctx, http.MethodGet, "/runs", url.Values{"name": {name}}, &all)
}

func (d socketDesk) Cancel(ctx context.Context, _, id string) (run rebuild.Run, err error) {
	return run, d.call(ctx, http.MethodPost, "/cancel", url.Values{"id": {id}}, &run)
}

// printReport tells what a verification found.
func printReport(out io.Writer, r rebuild.Run) error {
	p := r.Report
	if r.Options.Fresh {
		fmt.Fprintf(out, "%d rows of %s@%d held to a fold of the event store in %s, of %d keys", p.Rows, r.Projection, r.Version, took(r), p.Refolded)
		if p.Seed != 0 {
			fmt.Fprintf(out, " (--sample %d --seed %d)", r.Options.Sample, p.Seed)
		}
		fmt.Fprintln(out, ".")
	} else {
		fmt.Fprintf(out, "%d rows of %s@%d compared with version %d in %s; %d keys were folded anew, since events came between.\n",
			p.Rows, r.Projection, r.Version, r.Against, took(r), p.Refolded)
	}
	for _, e := range p.Expected {
		fmt.Fprintf(out, "not compared: %s %s: %s\n", e.Table, e.Column, e.Why)
	}
	if len(p.Parked) > 0 {
		fmt.Fprintf(out, "parked, and held to the event store up to where they wait: %s\n", strings.Join(p.Parked, ", "))
	}
	for _, u := range p.Listed {
		after := ""
		if u.Event != nil {
			after = fmt.Sprintf(", since the %s at position %d (%s)", u.Event.Type, u.Event.Position, u.Event.ID)
			if r.Options.Fresh {
				after = fmt.Sprintf("; there, the %s at position %d (%s) was the last to change it", u.Event.Type, u.Event.Position, u.Event.ID)
			}
		}
		fmt.Fprintf(out, "%s %s (key %s)%s: %s%s\n", u.Table, u.Row, u.Key, strings.TrimSuffix(" "+strings.Join(u.Columns, ", "), " "), u.Why, after)
	}
	if p.Equal() && r.Options.Fresh {
		_, err := fmt.Fprintln(out, "No row differs.")
		return err
	}
	if p.Equal() {
		_, err := fmt.Fprintf(out, "No row differs. Next: salon projections switch %s@%d\n", r.Projection, r.Version)
		return err
	}
	next := ""
	if r.Options.Fresh {
		next = fmt.Sprintf(" Next: salon projections rebuild %s@%d --key KEY makes the rows of a key again", r.Projection, r.Version)
	}
	_, err := fmt.Fprintf(out, "%d rows differ.%s\n", p.Differ, next)
	return err
}
